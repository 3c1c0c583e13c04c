#!/bin/sh
# SRHA from GTAV, ResNet-101 at output stride 16. Published: 3 GPUs x 3 images, 60 000 iterations.
. "$(dirname "$0")/recipe.sh"
method=${METHOD:-srha}
run train.py --dataset gtav --val_dataset cityscapes bdd100k mapillary \
    --method "$method" --trunk resnet101 --exp "r101os16_gtav_$method" \
    TRUNK.OUTPUT_STRIDE 16 TRAIN.MAX_ITER 60000 TRAIN.BATCH_SIZE 9 TRAIN.BATCH_PER_PROCESS 3 \
    TRAIN.LR_ENCODER 0.005 TRAIN.LR_DECODER 0.01 TRANSFORM.CROP_SIZE 768,768 "$@"
