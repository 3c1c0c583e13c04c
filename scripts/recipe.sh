# Sourced by the recipes. `run SCRIPT arguments …` starts SCRIPT of the project on every visible GPU
# (GPUS=n takes n of them), on the CPU where there is none; the effective batch stays the recipe's.
# DRY_RUN=1 tries a recipe in seconds: a small crop, batch 2, 2 iterations, random weights, CPU, and
# a few drawn images of each domain (in MINIATURE, by default data/miniature_dry).
set -eu
cd "$(dirname "$0")/.."
requirements=requirements.txt
. scripts/environment.sh

run() {
    if [ "${DRY_RUN:-0}" = 1 ]; then
        miniature=${MINIATURE:-data/miniature_dry}
        [ -d "$miniature" ] || "$PYTHON" -m datasets.miniature --out "$miniature" --train 6 --val 2
        set -- "$@" DATASET.ROOT "$miniature" DEVICE cpu WORKERS 0
        if [ "$1" = train.py ]; then
            set -- "$@" TRAIN.MAX_ITER 2 TRAIN.BATCH_SIZE 2 TRANSFORM.CROP_SIZE 64,64 \
                TRUNK.WEIGHTS none
        fi
        exec "$PYTHON" "$@"
    fi
    gpus=${GPUS:-$("$PYTHON" -c "import torch; print(torch.cuda.device_count())")}
    if [ "$gpus" -gt 1 ]; then
        exec "$PYTHON" -m torch.distributed.run --standalone --nproc_per_node="$gpus" "$@"
    fi
    exec "$PYTHON" "$@"
}

# A checkpoint to judge is the first argument of the valid_* scripts.
need_checkpoint() {
    [ $# -ge 1 ] && return 0
    echo "usage: sh $0 CHECKPOINT [--method baseline] [KEY VALUE ...]" >&2
    exit 2
}
