#!/bin/sh
# DIDEX with HRDA, ResNet-101 with DeepLabV2.
. "$(dirname "$0")/didex.sh"
didex r101dlv2 hrda "$@"
