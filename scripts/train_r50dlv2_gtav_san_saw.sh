#!/bin/sh
# SAN-SAW from GTAV, DeepLabV2 on ResNet-50 at output stride 8. Published: one GPU x 2 images, 200 000
# iterations at 5e-4, the head ten times that; halves of GTAV images, cut beforehand and squeezed to
# 640 x 640, here crops of that size at nearly the same scale, with their aspect.
. "$(dirname "$0")/recipe.sh"
method=${METHOD:-san_saw}
run train.py --dataset gtav --val_dataset cityscapes bdd100k mapillary \
    --method "$method" --trunk resnet50 --decoder deeplabv2 --exp "r50dlv2_gtav_$method" \
    TRUNK.OUTPUT_STRIDE 8 TRAIN.MAX_ITER 200000 TRAIN.BATCH_SIZE 2 TRAIN.BATCH_PER_PROCESS 2 \
    TRAIN.LR_ENCODER 0.0005 TRAIN.LR_DECODER 0.005 DATASET.SAMPLING random \
    TRANSFORM.CROP_SIZE 640,640 TRANSFORM.SCALE 0.61,0.67 TRANSFORM.JITTER 0.5,0.2,0.2,0.3 \
    TRANSFORM.BLUR_PROBABILITY 0.5 TRANSFORM.BLUR_SIGMA 0.01,1 "$@"
