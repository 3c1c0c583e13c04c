#!/bin/sh
# Evaluate a checkpoint of DINOv2-S trained on GTAV, by the protocol that it was trained with.
requirements=requirements-extra.txt dry_scale=0.5
. "$(dirname "$0")/recipe.sh"
need_checkpoint "$@"
shift
run valid.py --snapshot "$checkpoint" --val_dataset cityscapes bdd100k mapillary "$@"
