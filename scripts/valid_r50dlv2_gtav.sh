#!/bin/sh
# Evaluate a checkpoint of SAN-SAW, DeepLabV2 on ResNet-50 trained on GTAV, on the published table's
# domains.
. "$(dirname "$0")/recipe.sh"
need_checkpoint "$@"
shift
run valid.py --snapshot "$checkpoint" --val_dataset cityscapes bdd100k mapillary "$@"
