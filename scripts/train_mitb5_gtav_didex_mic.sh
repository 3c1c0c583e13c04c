#!/bin/sh
# DIDEX with MIC on HRDA, MiT-B5 and DAFormer's head: the network of DIDEX's table.
. "$(dirname "$0")/didex.sh"
didex mitb5 mic "$@"
