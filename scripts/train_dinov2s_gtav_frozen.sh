#!/bin/sh
# DINOv2-S from GTAV: a linear head on frozen features.
. "$(dirname "$0")/foundation.sh"
foundation s frozen "$@"
