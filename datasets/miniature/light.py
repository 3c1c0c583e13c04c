"""Light and camera: sun, shadows, haze, exposure, white balance, noise, blur, vignette."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .canvas import NEAR, Camera, Scene, clip_near


def sun_direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
    """Unit vector to the sun; the azimuth is 0 ahead and grows to the right (radians)."""
    flat = math.cos(elevation)
    return math.sin(azimuth) * flat, math.sin(elevation), math.cos(azimuth) * flat


def _hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Convex hull of points in the plane (Andrew's monotone chain)."""
    points = sorted(set(points))

    def half(ordered):
        chain: list[tuple[float, float]] = []
        for p in ordered:
            while len(chain) > 1 and (
                (chain[-1][0] - chain[-2][0]) * (p[1] - chain[-2][1])
                <= (chain[-1][1] - chain[-2][1]) * (p[0] - chain[-2][0])
            ):
                chain.pop()
            chain.append(p)
        return chain[:-1]

    return half(points) + half(points[::-1])


def _draw_ground(camera: Camera, polygons: list, blur: float) -> np.ndarray:
    """Coverage [H, W] in 0 … 1 of polygons on the ground, with soft edges."""
    image = Image.new("L", (camera.width, camera.height_px))
    pen = ImageDraw.Draw(image)
    for polygon in polygons:
        local = camera.to_camera(np.array(polygon, np.float64))
        if local[:, 2].max() <= NEAR:
            continue
        if local[:, 2].min() <= NEAR:
            local = clip_near(local)
        pen.polygon(camera.to_pixels(local).ravel().tolist(), fill=255)
    image = image.filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(image, np.float32) / 255


def shadows(scene: Scene, sun: tuple[float, float, float], blur: float) -> np.ndarray:
    """Where the ground lies in the shadow of things, [H, W] in 0 … 1."""
    slide = (-sun[0] / sun[1], -sun[2] / sun[1])
    polygons = []
    for ground, low, high in scene.casters:
        moved = [(x + slide[0] * h, z + slide[1] * h) for x, _, z in ground for h in (low, high)]
        polygons.append([(x, 0.0, z) for x, z in _hull(moved)])
    polygons = [p for p in polygons if len(p) > 2]
    return _draw_ground(scene.camera, polygons, blur)


def contacts(scene: Scene) -> np.ndarray:
    """How much things standing there darken the ground, [H, W] in 0 … 1."""
    return _draw_ground(scene.camera, scene.contacts, 2.0)


def develop(image: np.ndarray, shot, rng: np.random.Generator) -> np.ndarray:
    """From light [H, W, 3] float32 (1 is white) to the pixels of a camera, uint8 [H, W, 3].

    `shot` has the fields exposure, white [3], saturation, contrast, vignette, veil, blur, noise.
    """
    height, width = image.shape[:2]
    image = image * (np.asarray(shot.white, np.float32) * np.float32(shot.exposure))
    grey = image[..., 0] * 0.3 + image[..., 1] * 0.59 + image[..., 2] * 0.11
    image = grey[..., None] + (image - grey[..., None]) * np.float32(shot.saturation)
    image = 0.5 + (image - 0.5) * np.float32(shot.contrast)
    image = image / (1 + np.maximum(image - 0.9, 0) * 0.8)
    if shot.vignette or shot.veil:
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, width, dtype=np.float32)[None]
        image *= (1 - np.float32(shot.vignette) * (x * x + y * y) / 2)[..., None]
        image += (np.float32(shot.veil) * (0.6 + 0.4 * y))[..., None]
    pixels = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
    if shot.blur > 0:
        pixels = pixels.filter(ImageFilter.GaussianBlur(shot.blur))
    out = np.asarray(pixels, np.float32)
    grain = rng.standard_normal((height, width, 3), dtype=np.float32)
    grain[..., 1:] = 0.5 * grain[..., 1:] + 0.6 * grain[..., :1]
    out = out + grain * np.float32(shot.noise * 255)
    return np.clip(out + 0.5, 0, 255).astype(np.uint8)
