#!/bin/sh
# The baseline of RobustNet's tables from GTAV, MobileNetV2.
. "$(dirname "$0")/robustnet.sh"
robustnet mobile gtav baseline "$@"
