#!/bin/sh
# DINOv2-L from GTAV: SoMA and Mask2Former.
. "$(dirname "$0")/foundation.sh"
foundation l soma "$@"
