#!/bin/sh
# SRHA from GTAV, ResNet-50 with Mask2Former. Published: 4 GPUs x 2 images, 120 000 iterations.
# Trained by Mask2Former's own recipe (AdamW; the decoder brings it). The published run's optimizer:
#   TRAIN.OPTIMIZER sgd TRAIN.LR_ENCODER 5e-5 TRAIN.LR_DECODER 1e-4 TRAIN.WEIGHT_DECAY 5e-4
#   TRAIN.NO_DECAY "" TRAIN.CLIP_NORM 0
requirements=requirements-extra.txt
. "$(dirname "$0")/recipe.sh"
method=${METHOD:-srha}
run train.py --dataset gtav --val_dataset cityscapes bdd100k mapillary \
    --method "$method" --trunk resnet50 --decoder mask2former --exp "r50m2f_gtav_$method" \
    TRUNK.OUTPUT_STRIDE 16 TRAIN.MAX_ITER 120000 TRAIN.BATCH_SIZE 8 TRAIN.BATCH_PER_PROCESS 2 \
    TRAIN.LR_ENCODER 1e-5 TRAIN.LR_DECODER 1e-4 TRANSFORM.CROP_SIZE 768,768 "$@"
