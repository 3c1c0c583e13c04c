#!/bin/sh
# Baseline and SRHA on real photographs: trained on CamVid, judged on CamVid test and on IDD-Lite.
#   sh scripts/camvid_real.sh DATA WEIGHTS [KEY VALUE …]
# DATA holds camvid/ and idd_lite/, WEIGHTS is an ImageNet state dict of torchvision's mobilenet_v2.
set -eu
[ $# -ge 2 ] || { echo "usage: sh scripts/camvid_real.sh DATA WEIGHTS [KEY VALUE ...]" >&2; exit 2; }
data=$1 weights=$2
shift 2
for method in baseline srha; do
    "${PYTHON:-python}" train.py --dataset camvid --val_dataset camvid:test idd_lite \
        --method "$method" --trunk mobilenet_v2 --exp "camvid_mobile_$method" \
        DATASET.ROOT "$data" TRUNK.WEIGHTS "$weights" TRANSFORM.CROP_SIZE 192,256 \
        DECODER.CHANNELS 128 DECODER.AUX_CHANNELS 128 \
        TRAIN.BATCH_SIZE 4 TRAIN.MAX_ITER 500 VALID.EVERY 500 LOG.EVERY 25 WORKERS 1 "$@"
done
