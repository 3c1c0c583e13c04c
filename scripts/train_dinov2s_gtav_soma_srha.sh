#!/bin/sh
# DINOv2-S from GTAV: SRHA on SoMA.
. "$(dirname "$0")/foundation.sh"
foundation s soma_srha "$@"
