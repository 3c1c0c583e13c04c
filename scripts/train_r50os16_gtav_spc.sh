#!/bin/sh
# SPC from GTAV, ResNet-50 at output stride 16. Published: 4 images of each domain and GPU,
# 40 000 iterations; the number of GPUs, here 2, is not.
. "$(dirname "$0")/recipe.sh"
method=${METHOD:-spc}
run train.py --dataset gtav --val_dataset cityscapes bdd100k mapillary \
    --method "$method" --trunk resnet50 --exp "r50os16_gtav_$method" \
    TRUNK.OUTPUT_STRIDE 16 TRAIN.MAX_ITER 40000 TRAIN.BATCH_SIZE 8 TRAIN.BATCH_PER_PROCESS 4 \
    TRAIN.LR_ENCODER 0.01 TRAIN.LR_DECODER 0.01 TRANSFORM.CROP_SIZE 768,768 "$@"
