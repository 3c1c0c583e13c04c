#!/bin/sh
# The miniature benchmark end to end: draw it, train baseline and SRHA on GTAV with two seeds each,
# judge them on domains they never saw, write one table and one picture. Nothing is downloaded but
# Python packages. Extra KEY VALUE arguments go to every training run.
set -eu
cd "$(dirname "$0")/.."
requirements=requirements.txt
. scripts/environment.sh
data=data/miniature out=logs/demo

"$PYTHON" -m datasets.miniature --out "$data"
runs=
for seed in 304 305; do
    for method in baseline srha; do
        run=$out/${method}_seed$seed
        runs="$runs $run"
        if [ -f "$run/results.json" ]; then
            echo "$run is there already; remove $out to start again"
            continue
        fi
        resume=
        [ -f "$run/last.pth" ] && resume=--resume || rm -rf "$run"
        "$PYTHON" train.py --dataset gtav --val_dataset gtav cityscapes bdd100k mapillary synthia \
            --method "$method" --trunk resnet_mini --exp "${run##*/}" $resume \
            LOG.DIR "$out" DATASET.ROOT "$data" SEED "$seed" WORKERS 1 \
            TRUNK.WEIGHTS objects DECODER.CHANNELS 64 DECODER.LOW_LEVEL_CHANNELS 24 \
            DECODER.AUX_CHANNELS 64 TRANSFORM.CROP_SIZE 160,256 DATASET.CLASS_UNIFORM_TILE 128 \
            TRAIN.BATCH_SIZE 4 TRAIN.MAX_ITER 700 VALID.EVERY 700 LOG.EVERY 25 "$@"
    done
done
echo
echo "Trained on GTAV only. Drawn domains, neutral weights from drawn objects (not ImageNet):"
# shellcheck disable=SC2086
"$PYTHON" -m utils.compare $runs --out "$out/table.md" --picture "$out/predictions.png"
