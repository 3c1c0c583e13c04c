#!/bin/sh
# Real photographs, judged from 600 drawn scenes, from CamVid and from IDD-Lite: ten to thirteen rows
# of 800 steps each, ten to thirty minutes of one core a run, and style elimination by itself. With
# OTHER_WEIGHTS, four rows again with other pretrained weights. DATA holds camvid, idd_lite and
# cityscapes_mini; weights are state dicts of torchvision's mobilenet_v2. Tables go to logs/studies,
# or to the folder RESULTS. The same command continues.
#   DATA=DIR WEIGHTS=FILE [OTHER_WEIGHTS=FILE] [JOBS=n] sh scripts/study_photographs.sh [--seeds 1 2] [KEY VALUE …]
set -eu
: "${DATA:?the folder that holds camvid, idd_lite and cityscapes_mini}"
: "${WEIGHTS:?a state dict of mobilenet_v2}"
whole() { parent=$(cd "$(dirname "$1")" && pwd) && echo "$parent/$(basename "$1")"; }
DATA=$(whole "$DATA")
WEIGHTS=$(whole "$WEIGHTS")
[ -z "${OTHER_WEIGHTS:-}" ] || OTHER_WEIGHTS=$(whole "$OTHER_WEIGHTS")
export DATA WEIGHTS OTHER_WEIGHTS
cd "$(dirname "$0")/.."
requirements=requirements-extra.txt
. scripts/environment.sh
"$PYTHON" -m datasets.miniature --out data/drawn --domains GTAV --train 600
"$PYTHON" -m datasets.pseudo_target gtav --engine restyle --out data/drawn/restyled \
    DATASET.GTAV_DIR data/drawn/GTAV
for source in camvid idd_lite; do
    "$PYTHON" -m datasets.pseudo_target "$source" --engine restyle --out "data/restyled/$source" \
        DATASET.ROOT "$DATA"
done
weights=
[ -z "${OTHER_WEIGHTS:-}" ] ||
    weights="studies/photographs_camvid_weights.json studies/photographs_idd_lite_weights.json"
# shellcheck disable=SC2086
exec "$PYTHON" -m studies studies/photographs_gtav.json studies/photographs_style_elimination.json \
    studies/photographs_camvid.json studies/photographs_idd_lite.json $weights \
    --recipe studies/recipes/photographs.json --seeds 1 2 3 --jobs "${JOBS:-2}" \
    --results "${RESULTS:-logs/studies}" "$@"
