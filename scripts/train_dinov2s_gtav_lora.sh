#!/bin/sh
# DINOv2-S from GTAV: LoRA and a plain head.
. "$(dirname "$0")/foundation.sh"
foundation s lora "$@"
