#!/bin/sh
# DINOv2-L from GTAV: Rein and Mask2Former.
. "$(dirname "$0")/foundation.sh"
foundation l rein "$@"
