#!/bin/sh
# SPC from GTAV, SYNTHIA and IDD, ResNet-50 at output stride 16. Published: 4 images of each domain and GPU,
# 40 000 iterations; the number of GPUs, here 2, is not.
. "$(dirname "$0")/recipe.sh"
dry_batch=3
method=${METHOD:-spc}
run train.py --dataset gtav synthia idd --val_dataset cityscapes bdd100k mapillary \
    --method "$method" --trunk resnet50 --exp "r50os16_gtav_synthia_idd_$method" \
    TRUNK.OUTPUT_STRIDE 16 TRAIN.MAX_ITER 40000 TRAIN.BATCH_SIZE 24 TRAIN.BATCH_PER_PROCESS 12 \
    TRAIN.LR_ENCODER 0.01 TRAIN.LR_DECODER 0.01 TRANSFORM.CROP_SIZE 768,768 "$@"
