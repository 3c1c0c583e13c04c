#!/bin/sh
# The studies of the SRMA paper on the miniature benchmark: some 60 runs of two minutes each on one
# core. Tables and charts go to logs/studies, or to the folder RESULTS. The same command continues.
#   [OTHER_WEIGHTS=FILE] [MOBILENET_V2_WEIGHTS=FILE] [JOBS=n] sh scripts/study_miniature.sh [KEY VALUE …]
# Studies of other neutral networks need weights, see studies/teacher_other.json.
set -eu
cd "$(dirname "$0")/.."
requirements=requirements-extra.txt
. scripts/environment.sh
"$PYTHON" -m datasets.miniature --out data/miniature
set -- --recipe studies/recipes/miniature.json --seeds 304 305 --jobs "${JOBS:-2}" \
    --results "${RESULTS:-logs/studies}" "$@"
if [ -n "${OTHER_WEIGHTS:-}" ] && [ -n "${MOBILENET_V2_WEIGHTS:-}" ]; then
    set -- studies/teacher_other.json "$@"
else
    echo "without studies/teacher_other.json: OTHER_WEIGHTS or MOBILENET_V2_WEIGHTS is not set" >&2
fi
for study in void teacher style_source stem levels consistency concentration components classes; do
    set -- "studies/$study.json" "$@"
done
exec "$PYTHON" -m studies "$@"
