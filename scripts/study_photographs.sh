#!/bin/sh
# From 600 drawn scenes to photographs: ten rows of 800 steps, ten to thirty minutes of one core each,
# and style elimination by itself. DATA holds camvid, idd_lite and cityscapes_mini, WEIGHTS is a state
# dict of torchvision's mobilenet_v2. Tables go to logs/studies, or to the folder RESULTS. The same
# command continues.
#   DATA=DIR WEIGHTS=FILE [JOBS=n] sh scripts/study_photographs.sh [--seeds 1 2] [KEY VALUE …]
set -eu
: "${DATA:?the folder that holds camvid, idd_lite and cityscapes_mini}"
: "${WEIGHTS:?a state dict of mobilenet_v2}"
cd "$(dirname "$0")/.."
requirements=requirements-extra.txt
. scripts/environment.sh
"$PYTHON" -m datasets.miniature --out data/drawn --domains GTAV --train 600
"$PYTHON" -m datasets.pseudo_target gtav --engine restyle --out data/drawn/restyled \
    DATASET.GTAV_DIR data/drawn/GTAV
exec "$PYTHON" -m studies studies/photographs_gtav.json studies/photographs_style_elimination.json \
    --recipe studies/recipes/photographs.json --seeds 1 2 3 --jobs "${JOBS:-2}" \
    --results "${RESULTS:-logs/studies}" "$@"
