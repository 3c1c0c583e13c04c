#!/bin/sh
# IBN-Net in RobustNet's recipe from Cityscapes, ResNet-50 at output stride 16.
. "$(dirname "$0")/robustnet.sh"
robustnet r50os16 city ibn "$@"
