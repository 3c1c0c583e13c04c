#!/bin/sh
# RobustNet, ISW from GTAV, MobileNetV2.
. "$(dirname "$0")/robustnet.sh"
robustnet mobile gtav isw "$@"
