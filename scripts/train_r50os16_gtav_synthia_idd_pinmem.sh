#!/bin/sh
# PinTheMem from GTAV, SYNTHIA and IDD, ResNet-50 at output stride 16, with the length as published.
. "$(dirname "$0")/pinthemem.sh"
pinthemem gtav_synthia_idd pinmem "$@"
