#!/bin/sh
# DIDEX with DAFormer's training, ResNet-101 with DeepLabV2.
. "$(dirname "$0")/didex.sh"
didex r101dlv2 daformer "$@"
