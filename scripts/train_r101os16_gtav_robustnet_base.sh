#!/bin/sh
# The baseline of RobustNet's tables from GTAV, ResNet-101 at output stride 16.
. "$(dirname "$0")/robustnet.sh"
robustnet r101os16 gtav baseline "$@"
