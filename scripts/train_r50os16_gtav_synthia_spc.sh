#!/bin/sh
# SPC from GTAV and SYNTHIA, ResNet-50 at output stride 16. Published: 4 images of each domain and GPU,
# 40 000 iterations; the number of GPUs, here 2, is not.
. "$(dirname "$0")/recipe.sh"
method=${METHOD:-spc}
run train.py --dataset gtav synthia --val_dataset cityscapes bdd100k mapillary \
    --method "$method" --trunk resnet50 --exp "r50os16_gtav_synthia_$method" \
    TRUNK.OUTPUT_STRIDE 16 TRAIN.MAX_ITER 40000 TRAIN.BATCH_SIZE 16 TRAIN.BATCH_PER_PROCESS 8 \
    TRAIN.LR_ENCODER 0.01 TRAIN.LR_DECODER 0.01 TRANSFORM.CROP_SIZE 768,768 "$@"
