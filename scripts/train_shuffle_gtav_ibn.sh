#!/bin/sh
# IBN-Net in RobustNet's recipe from GTAV, ShuffleNetV2 1.0x.
. "$(dirname "$0")/robustnet.sh"
robustnet shuffle gtav ibn "$@"
