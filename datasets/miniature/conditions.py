"""What bad weather does to a picture: lying snow, wet roads, rain and flakes, lamps at night.

All functions change `colour`, float32 [H, W, 3] with 1 for white, in place. `amount` is 0 to 1.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from utils.labels import VOID

from .canvas import FAR, Scene
from .materials import ROAD, SIDEWALK, TERRAIN, Material
from .textures import Noise

M = Material


def settle_snow(scene: Scene, colour: np.ndarray, noise: Noise, amount: float) -> None:
    """Snow on what faces upwards: most on grass and roofs, trodden on pavements, slush on roads."""
    share = np.full(256, 0.7, np.float32)
    share[ROAD], share[SIDEWALK], share[TERRAIN] = 0.1, 0.55, 1.0
    upward = scene.normals[scene.face][..., 1] > 0.6
    material = scene.materials[scene.slot]
    cover = np.where(upward, share[scene.label], 0.0)
    cover[material == M.ROOF] = 0.95
    cover[material == M.LEAVES] = 0.35
    cover[(scene.depth >= FAR) | (scene.label == VOID)] = 0.0
    drifts = noise.bumps(scene.u * 0.5, scene.v * 0.25, scene.slot)
    drifts = drifts + 0.5 * noise.bumps(scene.u * 2.7, scene.v * 1.9, scene.slot)
    road = (scene.label == ROAD) & (scene.face == 0)
    # Wheels clear two tracks in each lane.
    drifts[road] -= 0.9 * np.cos(scene.u[road] * 3.7)
    lying = np.clip((cover + amount - 1.0) * 2.2 + 0.5 + 0.3 * drifts, 0, 1) * (cover > 0)
    tone = 0.88 + 0.05 * noise.bumps(scene.u * 6.0, scene.v * 6.0, scene.slot)
    white = np.stack([tone * 0.98, tone, tone * 1.04], -1)
    white[road] *= 0.85
    colour += (white - colour) * lying[..., None]


def wet_ground(scene: Scene, colour: np.ndarray, noise: Noise, amount: float) -> None:
    """Roads and pavements that are darker and mirror what stands above them in each column."""
    height, width = scene.label.shape
    ground = (scene.face == 0) & np.isin(scene.label, (ROAD, SIDEWALK))
    rows = np.arange(height)[:, None]
    foot = np.maximum.accumulate(np.where(ground, 0, rows), 0)
    mirrored = np.clip(2 * foot - rows, 0, height - 1)
    picture = np.clip(colour, 0, 1.2)
    mirror = picture[mirrored, np.arange(width)[None]]
    # Ripples smear reflections upright.
    reach = 7
    padded = np.pad(mirror, ((reach, reach), (0, 0), (0, 0)), mode="edge")
    mirror = sum(padded[i : i + height] for i in range(0, 2 * reach + 1, 2)) / (reach + 1)
    puddles = np.clip(0.55 + 0.35 * noise.bumps(scene.u * 0.5, scene.v * 0.2, scene.slot), 0, 1)
    grazing = np.clip(0.25 + scene.depth / 30, 0, 1)
    strength = (amount * puddles * grazing * ground)[..., None].astype(np.float32)
    colour *= 1 - 0.35 * amount * ground[..., None]
    colour += (mirror - colour) * (0.75 * strength)


def spread_light(colour: np.ndarray, glow: np.ndarray, amount: float) -> None:
    """Halos around what shines: `glow` bool [H, W]."""
    lights = np.where(glow[..., None], np.clip(colour, 0, 1), 0)
    for radius, gain in ((1.5, 1.2), (5.0, 2.2), (14.0, 3.0)):
        for i in range(3):
            plane = Image.fromarray(lights[..., i].astype(np.float32) * 255).convert("L")
            halo = np.asarray(plane.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255
            colour[..., i] += amount * gain * halo


def rain(colour: np.ndarray, amount: float, rng: np.random.Generator) -> None:
    """Streaks in the air and drops on the lens, behind which the picture is a blur."""
    height, width = colour.shape[:2]
    slant = rng.normal(0, 0.15)
    streaks = Image.new("L", (width, height))
    pen = ImageDraw.Draw(streaks)
    for _ in range(int(amount * width * 0.8)):
        x, y = rng.uniform(0, width), rng.uniform(-10, height)
        length = rng.uniform(6, 22)
        pen.line((x, y, x + slant * length, y + length), fill=int(rng.uniform(30, 110)))
    mask = np.asarray(streaks.filter(ImageFilter.GaussianBlur(0.5)), np.float32) / 255
    colour += (0.85 - colour) * (0.6 * mask)[..., None]
    drops = Image.new("L", (width, height))
    pen = ImageDraw.Draw(drops)
    for _ in range(int(amount * 14)):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(1.5, 6.5)
        pen.ellipse((x - r, y - r, x + r, y + r * 1.2), fill=255)
    inside = np.asarray(drops.filter(ImageFilter.GaussianBlur(1.0)), np.float32)[..., None] / 255
    pixels = Image.fromarray((np.clip(colour, 0, 1) * 255).astype(np.uint8))
    blurred = np.asarray(pixels.filter(ImageFilter.GaussianBlur(6)), np.float32) / 255
    colour += (blurred * 1.05 - colour) * (0.85 * inside)


def flakes(colour: np.ndarray, amount: float, rng: np.random.Generator) -> None:
    """Falling snow, small far away and large and blurred nearby."""
    height, width = colour.shape[:2]
    for radius, blur, density in ((0.5, 0.3, 0.004), (1.0, 0.6, 0.0012), (2.2, 1.4, 0.00015)):
        layer = Image.new("L", (width, height))
        pen = ImageDraw.Draw(layer)
        for _ in range(int(amount * density * width * height)):
            x, y, r = rng.uniform(0, width), rng.uniform(0, height), radius * rng.uniform(0.6, 1.3)
            pen.ellipse((x - r, y - r, x + r, y + r), fill=220)
        mask = np.asarray(layer.filter(ImageFilter.GaussianBlur(blur)), np.float32) / 255
        colour += (0.93 - colour) * mask[..., None]
