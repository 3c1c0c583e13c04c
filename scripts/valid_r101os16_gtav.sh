#!/bin/sh
# Evaluate a checkpoint of ResNet-101 trained on GTAV, ours or the published code's.
# Of the latter SRHA is assumed; a baseline needs --method baseline.
. "$(dirname "$0")/recipe.sh"
need_checkpoint "$@"
shift
run valid.py --snapshot "$checkpoint" --dataset gtav --method srha --trunk resnet101 \
    --val_dataset cityscapes bdd100k mapillary "$@"
