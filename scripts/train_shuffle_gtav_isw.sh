#!/bin/sh
# RobustNet, ISW from GTAV, ShuffleNetV2 1.0x.
. "$(dirname "$0")/robustnet.sh"
robustnet shuffle gtav isw "$@"
