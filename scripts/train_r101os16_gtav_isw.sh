#!/bin/sh
# RobustNet, ISW from GTAV, ResNet-101 at output stride 16.
. "$(dirname "$0")/robustnet.sh"
robustnet r101os16 gtav isw "$@"
