"""From train ids to what the label files of each release hold."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from .canvas import Scene
from .materials import (
    BICYCLE,
    CAR,
    COLOURS,
    MOTORCYCLE,
    POLE,
    RIDER,
    ROAD,
    SIDEWALK,
    Material,
)

M = Material

# Indices by train id 0 … 18; what is void, and what has several indices, is chosen below.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
SYNTHIA_IDS = (3, 4, 2, 21, 5, 7, 15, 9, 6, 16, 1, 10, 17, 8, 18, 19, 20, 12, 11)
MAPILLARY_IDS = (13, 15, 17, 6, 3, 45, 48, 50, 30, 29, 27, 19, 20, 55, 61, 54, 58, 57, 52)


def _table(ids: tuple[int, ...], void: int) -> np.ndarray:
    table = np.full(256, void, np.uint8)
    table[: len(ids)] = ids
    return table


def _per_slot(scene: Scene, ids: tuple[int, ...], void: int):
    """The index of every slot, and the tables one chooses exceptions by."""
    return _table(ids, void)[scene.labels], scene.labels, scene.materials, scene.traits[:, 5]


def gtav_indices(scene: Scene) -> np.ndarray:
    """Cityscapes ids as in GTAV: licence plates are 34, some poles 18, void is 0, 1 or 4."""
    index, label, material, chance = _per_slot(scene, CITYSCAPES_IDS, 0)
    index[(material == M.PLATE) & (label == CAR)] = 34
    index[(label == POLE) & (chance < 0.15)] = 18
    index[material == M.HOOD] = 1
    index[material == M.STATIC] = 4
    return index[scene.label_slot]


def cityscapes_indices(scene: Scene) -> np.ndarray:
    """Cityscapes label ids; the car's hood is 1, bins and boxes are 4 or 5."""
    index, _, material, chance = _per_slot(scene, CITYSCAPES_IDS, 0)
    index[material == M.HOOD] = 1
    index[(material == M.STATIC) & (chance < 0.6)] = 4
    index[(material == M.STATIC) & (chance >= 0.6)] = 5
    return index[scene.label_slot]


def synthia_indices(scene: Scene) -> np.ndarray:
    """SYNTHIA's classes and instances, uint16 [H, W, 3] with zeros last."""
    index, _, material, chance = _per_slot(scene, SYNTHIA_IDS, 0)
    index[(material == M.STATIC) & (chance < 0.2)] = 14
    pixels = np.zeros((*scene.label.shape, 3), np.uint16)
    pixels[..., 0] = index[scene.label_slot]
    pixels[..., 1] = scene.instances[scene.label_slot]
    return pixels


def mapillary_indices(scene: Scene) -> np.ndarray:
    """Mapillary Vistas v1.2: markings, manholes, kerbs, utility poles, kinds of riders."""
    index, label, material, chance = _per_slot(scene, MAPILLARY_IDS, 65)
    index[(label == ROAD) & (material == M.MARKING)] = 24
    index[(label == ROAD) & (material == M.MANHOLE)] = 41
    index[(label == SIDEWALK) & (material == M.KERB)] = 2
    index[(label == POLE) & (chance < 0.4)] = 47
    motor = np.isin(scene.instances, scene.instances[label == MOTORCYCLE])
    cycle = np.isin(scene.instances, scene.instances[label == BICYCLE])
    index[(label == RIDER) & motor] = 21
    index[(label == RIDER) & ~motor & ~cycle] = 22
    index[material == M.HOOD] = 64
    index[material == M.DASHBOARD] = 63
    bins = np.array((51, 33, 38, 40, 39), np.uint8)
    static = material == M.STATIC
    index[static] = bins[(chance[static] * len(bins)).astype(int)]
    return index[scene.label_slot]


def _palette(ids: tuple[int, ...]) -> list[int]:
    """256 colours: Cityscapes' for the indices of classes, dark greys for the rest."""
    colours = [(i // 4, i // 4, i // 4) for i in range(256)]
    for label, index in enumerate(ids):
        colours[index] = COLOURS[label]
    return [channel for colour in colours for channel in colour]


def save_palette(path: Path, indices: np.ndarray, ids: tuple[int, ...]) -> None:
    """Write uint8 [H, W] as a palette PNG with the colours of `ids`."""
    image = Image.fromarray(indices)
    image.putpalette(_palette(ids))
    image.save(path)


def save_png16(path: Path, pixels: np.ndarray) -> None:
    """Write uint16 [H, W, 3] as a 16-bit RGB PNG, which PIL cannot."""
    height, width, _ = pixels.shape
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], 1).tobytes()

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw, 6))
        + chunk(b"IEND", b"")
    )
