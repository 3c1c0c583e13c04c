#!/bin/sh
# Baseline and SRHA on real photographs: trained on CamVid, evaluated on CamVid test and on IDD-Lite.
#   sh scripts/camvid_real.sh DATA WEIGHTS [KEY VALUE …]
# DATA holds camvid/ and idd_lite/, WEIGHTS is an ImageNet state dict of torchvision's mobilenet_v2.
# SRHA's alignment and consistency have a tenth of their published weights, which are for 60000 steps;
# after 800 steps CamVid's validation split prefers them by 9 points (docs/results.md; SRM without
# both terms and with half of style elimination does 2 better still).
set -eu
[ $# -ge 2 ] || { echo "usage: sh $0 DATA WEIGHTS [KEY VALUE ...]" >&2; exit 2; }
DATA=$(cd "$1" && pwd)
WEIGHTS=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
export DATA WEIGHTS
shift 2
cd "$(dirname "$0")/.."
requirements=requirements.txt
. scripts/environment.sh

train() {
    method=$1
    shift
    "$PYTHON" train.py --recipe studies/recipes/photographs.json --method "$method" \
        --dataset camvid --val_dataset camvid:test idd_lite --exp "camvid_mobile_$method" "$@"
}
tenth=0.04,0.06,0.08,0.1

share_cores 2
train baseline "$@" &
first=$!
failed=0
TQDM_POSITION=1 train srha ALIGN.GLOBAL $tenth ALIGN.REGIONAL $tenth ALIGN.LOCAL $tenth \
    CONSISTENCY.WEIGHT 1 "$@" || failed=1
wait "$first" || failed=1
[ "$failed" = 0 ] || exit 1
"$PYTHON" -m utils.compare logs/camvid_mobile_baseline logs/camvid_mobile_srha \
    --out logs/camvid_mobile.md --picture logs/camvid_mobile.png
