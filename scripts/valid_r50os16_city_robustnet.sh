#!/bin/sh
# Evaluate a checkpoint of ResNet-50 trained on Cityscapes, ours or RobustNet's, on RobustNet's
# domains. Of the latter ISW is assumed; others need --method ibn or baseline.
. "$(dirname "$0")/recipe.sh"
need_checkpoint "$@"
shift
run valid.py --snapshot "$checkpoint" --dataset cityscapes --method isw --trunk resnet50 \
    --val_dataset bdd100k mapillary gtav "$@"
