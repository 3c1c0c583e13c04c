#!/bin/sh
# DIDEX with MIC on HRDA, ResNet-101 with DeepLabV2.
. "$(dirname "$0")/didex.sh"
didex r101dlv2 mic "$@"
