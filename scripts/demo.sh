#!/bin/sh
# The miniature benchmark end to end: draw it, train baseline and SRHA on GTAV with two seeds each,
# evaluate them on domains they never saw, write one table and one picture. Nothing is downloaded but
# Python packages. Extra KEY VALUE arguments go to every training run; finished runs are kept.
# QUICK=1 shows the same in two minutes: fewer images, one seed, 80 steps, in logs/demo_quick. Its
# numbers say nothing.
set -eu
cd "$(dirname "$0")/.."
requirements=requirements.txt
. scripts/environment.sh
out=logs/demo data=data/miniature images= steps=1000
if [ "${QUICK:-0}" = 1 ]; then
    out=logs/demo_quick data=data/miniature_quick images="--train 16 --val 4" steps=80
fi

# shellcheck disable=SC2086
"$PYTHON" -m datasets.miniature --out "$data" $images

# A run that was interrupted continues from its last checkpoint. The published weights of alignment and
# consistency belong to 60 000 iterations; the recipe scales them down by ten, or the small network
# learns little else (docs/results.md).
train() {
    method=$1 seed=$2 run=${1}_seed$2
    shift 2
    [ -f "$out/$run/results.json" ] ||
        "$PYTHON" train.py --recipe studies/recipes/miniature.json --method "$method" --exp "$run" \
            --resume auto LOG.DIR "$out" DATASET.ROOT "$data" SEED "$seed" TRAIN.MAX_ITER "$steps" \
            VALID.EVERY 5000 \
            LOG.PICTURES_EVERY 2000 "$@" >"$out/$run.txt"
}
seed() {
    train baseline "$@" && train srha "$@"
}

# Two runs at a time, each on half of the cores: a small network cannot keep more of them busy.
mkdir -p "$out"
share_cores 2
echo "training baseline and SRHA on $data (logs in $out)"
failed=0
if [ "${QUICK:-0}" = 1 ]; then
    train baseline 304 "$@" &
    first=$!
    TQDM_POSITION=1 train srha 304 "$@" || failed=1
else
    seed 304 "$@" &
    first=$!
    TQDM_POSITION=1 seed 305 "$@" || failed=1
fi
wait "$first" || failed=1
[ "$failed" = 0 ] || exit 1
printf '\n\nTrained on GTAV alone. Domains are drawn; neutral weights come from drawn objects.\n\n'
"$PYTHON" -m utils.compare "$out"/baseline_seed*/ "$out"/srha_seed*/ \
    --out "$out/table.md" --picture "$out/predictions.png"
