#!/bin/sh
# IBN-Net in RobustNet's recipe from GTAV, MobileNetV2.
. "$(dirname "$0")/robustnet.sh"
robustnet mobile gtav ibn "$@"
