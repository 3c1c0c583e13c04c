# Sourced by the recipes, with $requirements set where they need more than requirements.txt.
# `run SCRIPT arguments …` starts SCRIPT of the project on every visible GPU (GPUS=n takes n of them),
# on the CPU where there is none; the effective batch stays the recipe's.
# METHOD=baseline (or another method) in front of a train_* script trains that method in its place.
# DRY_RUN=1 tries a recipe in seconds: a small crop, batch 2 (or $dry_batch of the recipe),
# 2 iterations, random weights, CPU, and a few drawn images of each domain (in MINIATURE, by default
# data/miniature_dry); its logs go to logs/dry_run, and an earlier dry run of the same recipe is
# replaced.
set -eu
from=$PWD
cd "$(dirname "$0")/.."
requirements=${requirements:-requirements.txt}
. scripts/environment.sh

run() {
    if [ "${DRY_RUN:-0}" = 1 ]; then
        miniature=${MINIATURE:-data/miniature_dry}
        # The stamp of the last domain tells whether all are there; a cut-off drawing is completed.
        grep -qs '"complete": true' "$miniature/PseudoTarget/miniature.json" ||
            "$PYTHON" -m datasets.miniature --out "$miniature" --train 6 --val 3 \
                --domains GTAV SYNTHIA Cityscapes BDD100K Mapillary IDD PseudoTarget
        set -- "$@" DATASET.ROOT "$miniature" DEVICE cpu WORKERS 0 \
            VALID.PROTOCOL native VALID.SCALES "${dry_scale:-0.25}"
        if [ "$1" = train.py ]; then
            logs=logs/dry_run/$(basename "$0" .sh)
            rm -rf "$logs"
            shift
            set -- train.py LOG.DIR "$logs" "$@" TRAIN.MAX_ITER 2 TRAIN.BATCH_SIZE "${dry_batch:-2}" \
                TRANSFORM.CROP_SIZE 64,64 TRUNK.WEIGHTS none
        fi
        exec "$PYTHON" "$@"
    fi
    gpus=${GPUS:-$("$PYTHON" -c "import torch; print(torch.cuda.device_count())")}
    if [ "$gpus" -gt 1 ]; then
        # Without it processes that torchrun starts again may wait for one another for ever.
        export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
        exec "$PYTHON" -m torch.distributed.run --standalone --nproc_per_node="$gpus" "$@"
    fi
    exec "$PYTHON" "$@"
}

# A checkpoint to evaluate is the first argument of the valid_* scripts, as seen from where they are
# called.
need_checkpoint() {
    if [ $# -lt 1 ]; then
        echo "usage: sh $0 CHECKPOINT [--method baseline] [KEY VALUE ...]" >&2
        exit 2
    fi
    case $1 in
        /*) checkpoint=$1 ;;
        *) checkpoint=$from/$1 ;;
    esac
}
