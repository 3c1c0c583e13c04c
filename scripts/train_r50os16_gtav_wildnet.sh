#!/bin/sh
# WildNet from GTAV, ResNet-50 at output stride 16; DATASET.WILD names the photographs whose styles it
# takes (published: ImageNet's train), or the source itself, gtav:train:
#   sh scripts/train_r50os16_gtav_wildnet.sh DATASET.WILD /data/imagenet/train
. "$(dirname "$0")/robustnet.sh"
robustnet r50os16 gtav wildnet "$@"
