#!/bin/sh
# Evaluate a checkpoint of ResNet-50 with Mask2Former trained on GTAV.
requirements=requirements-extra.txt
. "$(dirname "$0")/recipe.sh"
need_checkpoint "$@"
shift
run valid.py --snapshot "$checkpoint" --val_dataset cityscapes bdd100k mapillary "$@"
