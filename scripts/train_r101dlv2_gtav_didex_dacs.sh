#!/bin/sh
# DIDEX with DACS, ResNet-101 with DeepLabV2, by the recipe of DAFormer's code.
. "$(dirname "$0")/didex.sh"
didex r101dlv2 dacs "$@"
