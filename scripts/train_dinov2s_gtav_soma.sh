#!/bin/sh
# DINOv2-S from GTAV: SoMA and Mask2Former.
. "$(dirname "$0")/foundation.sh"
foundation s soma "$@"
