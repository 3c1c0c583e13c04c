#!/bin/sh
# Evaluate a checkpoint of ResNet-50 trained on Cityscapes, ours or the published code's.
# Of the latter SRHA is assumed; a baseline needs --method baseline.
. "$(dirname "$0")/recipe.sh"
need_checkpoint "$@"
shift
run valid.py --snapshot "$checkpoint" --dataset cityscapes --method srha --trunk resnet50 \
    --val_dataset bdd100k synthia gtav "$@"
