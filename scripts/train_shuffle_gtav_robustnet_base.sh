#!/bin/sh
# The baseline of RobustNet's tables from GTAV, ShuffleNetV2 1.0x.
. "$(dirname "$0")/robustnet.sh"
robustnet shuffle gtav baseline "$@"
