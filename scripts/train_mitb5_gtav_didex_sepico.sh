#!/bin/sh
# DIDEX with SePiCo (DistCL), MiT-B5 and DAFormer's head.
. "$(dirname "$0")/didex.sh"
didex mitb5 sepico "$@"
