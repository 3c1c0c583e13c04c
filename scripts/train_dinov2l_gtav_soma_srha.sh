#!/bin/sh
# DINOv2-L from GTAV: SRHA on SoMA.
. "$(dirname "$0")/foundation.sh"
foundation l soma_srha "$@"
