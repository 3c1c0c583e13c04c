"""The 19 classes and the materials that scenes are made of.

A class says what a thing is, a material what a piece of it is made of: a bus (class) has paint,
glass, tyres and lamps (materials).  A look gives colours to materials and shifts them by class.
"""

from enum import IntEnum

from datasets.label_spaces import CITYSCAPES19

CLASSES = CITYSCAPES19.classes
ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, LIGHT, SIGN, VEGETATION, TERRAIN = range(10)
SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = range(10, 19)
# For overlays and contact sheets.
COLOURS = CITYSCAPES19.colours


class Material(IntEnum):
    """What a surface is made of; textures and colours are chosen by it."""

    SKY = 0
    ASPHALT = 1
    MARKING = 2
    MANHOLE = 3
    RAIL = 4
    PAVING = 5
    KERB = 6
    GRASS = 7
    FACADE = 8
    ROOF = 9
    AWNING = 10
    MASONRY = 11
    FENCE = 12
    METAL = 13
    LIGHT_BOX = 14
    LENS_ON = 15
    LENS_OFF = 16
    SIGN_FACE = 17
    SIGN_BORDER = 18
    SIGN_SYMBOL = 19
    LEAVES = 20
    BARK = 21
    SKIN = 22
    HAIR = 23
    CLOTH = 24
    TROUSERS = 25
    SHOE = 26
    HELMET = 27
    PAINT = 28
    CARGO = 29
    GLASS = 30
    TYRE = 31
    HUB = 32
    HEAD_LAMP = 33
    TAIL_LAMP = 34
    PLATE = 35
    TRIM = 36
    STATIC = 37
    HOOD = 38
    DASHBOARD = 39
