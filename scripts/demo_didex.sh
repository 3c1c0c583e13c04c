#!/bin/sh
# DIDEX end to end on the miniature benchmark: draw it, draw GTAV anew as a pseudo-target (by the
# embedded restyling, without a diffusion model), train a baseline, and from it go on in two ways:
# on GTAV alone, and by DACS with the pseudo-target; two seeds. All are judged on domains they never
# saw, in one table and one picture. Nothing is downloaded but Python packages. Extra KEY VALUE
# arguments go to every training run; finished runs are kept.
# QUICK=1 shows the same in two minutes: fewer images, one seed, few steps, in logs/demo_didex_quick.
# Its numbers say nothing.
set -eu
cd "$(dirname "$0")/.."
requirements=requirements.txt
. scripts/environment.sh
out=logs/demo_didex data=data/miniature target=data/pseudo_target images= start=500 steps=300
if [ "${QUICK:-0}" = 1 ]; then
    out=logs/demo_didex_quick data=data/miniature_quick target=data/pseudo_target_quick
    images="--train 16 --val 4" start=40 steps=40
fi

# shellcheck disable=SC2086
"$PYTHON" -m datasets.miniature --out "$data" $images
"$PYTHON" -m datasets.pseudo_target gtav --engine restyle --out "$target" \
    DATASET.ROOT "$data" DATASET.CLASS_UNIFORM_TILE 128 WORKERS 2

# A run that was interrupted continues from its last checkpoint.
train() {
    run=${1}_seed$2 method=$3 length=$4
    [ -f "$out/$run/results.json" ] || (
        seed=$2
        shift 4
        "$PYTHON" train.py --recipe studies/recipes/miniature.json --method "$method" --exp "$run" \
            --resume auto LOG.DIR "$out" DATASET.ROOT "$data" SEED "$seed" \
            TRAIN.MAX_ITER "$length" "$@" >"$out/$run.txt"
    )
}
seed() {
    seed=$1
    shift
    train start "$seed" baseline "$start" "$@" &&
        train baseline "$seed" baseline "$steps" INIT "$out/start_seed$seed" "$@" &&
        train dacs "$seed" dacs "$steps" INIT "$out/start_seed$seed" DATASET.TARGET "$target" "$@"
}

# Two runs at a time, each on half of the cores: a small network cannot keep more of them busy.
mkdir -p "$out"
share_cores 2
echo "training on $data and $target (logs in $out)"
failed=0
if [ "${QUICK:-0}" = 1 ]; then
    seed 304 "$@" || failed=1
else
    seed 304 "$@" &
    first=$!
    TQDM_POSITION=1 seed 305 "$@" || failed=1
    wait "$first" || failed=1
fi
[ "$failed" = 0 ] || exit 1
printf '\n\n%s further steps from a baseline of %s, on GTAV alone and with the pseudo-target.\n\n' \
    "$steps" "$start"
"$PYTHON" -m utils.compare "$out"/baseline_seed*/ "$out"/dacs_seed*/ \
    --out "$out/table.md" --picture "$out/predictions.png"
