#!/bin/sh
# SRHA from GTAV, ShuffleNetV2 1.0x. Published: 2 GPUs x 4 images, 60 000 iterations.
. "$(dirname "$0")/recipe.sh"
method=${METHOD:-srha}
run train.py --dataset gtav --val_dataset cityscapes bdd100k mapillary \
    --method "$method" --trunk shufflenet_v2_x1_0 --exp "shuffle_gtav_$method" \
    TRUNK.OUTPUT_STRIDE 16 TRAIN.MAX_ITER 60000 TRAIN.BATCH_SIZE 8 TRAIN.BATCH_PER_PROCESS 4 \
    TRAIN.LR_ENCODER 0.005 TRAIN.LR_DECODER 0.01 TRANSFORM.CROP_SIZE 768,768 "$@"
