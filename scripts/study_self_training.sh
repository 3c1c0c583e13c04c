#!/bin/sh
# Self-training on the miniature benchmark with a drawn pseudo-target: five seeds, 2000 steps from a
# trained baseline; many hours of one core. Tables go to logs/studies, or to the folder RESULTS.
# The same command continues.   [JOBS=n] sh scripts/study_self_training.sh [--seeds 1 2] [KEY VALUE …]
set -eu
cd "$(dirname "$0")/.."
requirements=requirements-extra.txt
. scripts/environment.sh
"$PYTHON" -m datasets.miniature --out data/miniature \
    --domains GTAV Cityscapes BDD100K Mapillary PseudoTarget
exec "$PYTHON" -m studies studies/self_training.json studies/self_training_bound.json \
    --recipe studies/recipes/miniature.json \
    --seeds 1 2 3 4 5 --jobs "${JOBS:-2}" --results "${RESULTS:-logs/studies}" "$@"
