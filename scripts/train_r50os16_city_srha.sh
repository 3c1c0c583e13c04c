#!/bin/sh
# SRHA from Cityscapes, ResNet-50 at output stride 16. Published: 2 GPUs x 4 images, 120 000 iterations.
. "$(dirname "$0")/recipe.sh"
method=${METHOD:-srha}
run train.py --dataset cityscapes --val_dataset bdd100k synthia gtav \
    --method "$method" --trunk resnet50 --exp "r50os16_city_$method" \
    TRUNK.OUTPUT_STRIDE 16 TRAIN.MAX_ITER 120000 TRAIN.BATCH_SIZE 8 TRAIN.BATCH_PER_PROCESS 4 \
    TRAIN.LR_ENCODER 0.005 TRAIN.LR_DECODER 0.01 TRANSFORM.CROP_SIZE 768,768 "$@"
