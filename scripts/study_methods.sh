#!/bin/sh
# Every method on the drawn streets, with one budget: 20 rows of 1000 steps, five to thirty minutes of
# one core each. Tables go to logs/studies, or to the folder RESULTS. The same command continues.
#   [JOBS=n] sh scripts/study_methods.sh [--seeds 1 2] [KEY VALUE …]
set -eu
cd "$(dirname "$0")/.."
requirements=requirements-extra.txt
. scripts/environment.sh
"$PYTHON" -m datasets.miniature --out data/miniature --domains all
"$PYTHON" -m datasets.miniature --out data/miniature --domains PseudoTarget
exec "$PYTHON" -m studies studies/methods.json --recipe studies/recipes/miniature.json \
    --seeds 1 2 3 --jobs "${JOBS:-2}" --results "${RESULTS:-logs/studies}" "$@"
