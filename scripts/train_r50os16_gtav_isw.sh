#!/bin/sh
# RobustNet, ISW from GTAV, ResNet-50 at output stride 16.
. "$(dirname "$0")/robustnet.sh"
robustnet r50os16 gtav isw "$@"
