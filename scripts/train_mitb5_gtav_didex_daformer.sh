#!/bin/sh
# DIDEX with DAFormer, MiT-B5 and DAFormer's head.
. "$(dirname "$0")/didex.sh"
didex mitb5 daformer "$@"
