"""The train id that every part of the program knows."""

VOID = 255
"""Train id of pixels that take part in no loss and no score."""
