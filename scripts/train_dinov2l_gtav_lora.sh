#!/bin/sh
# DINOv2-L from GTAV: LoRA and a plain head.
. "$(dirname "$0")/foundation.sh"
foundation l lora "$@"
