#!/bin/sh
# DINOv2-S from GTAV: Rein and Mask2Former.
. "$(dirname "$0")/foundation.sh"
foundation s rein "$@"
