#!/bin/sh
# DINOv2-L from GTAV: a linear head on frozen features.
. "$(dirname "$0")/foundation.sh"
foundation l frozen "$@"
