"""The embedded engine: an image under another look, drawn from its label without any model.

It stands in for a diffusion model where there is none. Shapes stay where they are, and nothing is
invented: what changes is the colour and contrast of each class, the spectrum, the weather, laid
over in depth order, the light, and the camera.
"""

from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage

from datasets.pseudo_target.depth import FARTHEST, Roles, depth_order

# Drawn for each class: degrees of hue that are added, and factors of its saturation, of its mean
# and of its deviation; the ranges of the drawn pseudo-target (datasets/miniature/pseudo_target.py).
HUE, SATURATION, VALUE, CONTRAST = (-180.0, 180.0), (0.3, 1.6), (0.55, 1.45), (0.5, 1.8)
TINGE = 0.06  # deviation of a colour that is added; grey would stay grey
SOFT = 1 / 400  # of the height: how far the looks of two classes run into each other
SLOPE = (-0.25, 0.25)  # exponent of the frequency by which amplitudes are multiplied
# How often a weather is drawn.
WEATHER = {"clear": 0.35, "haze": 0.2, "fog": 0.1, "rain": 0.15, "snow": 0.1, "night": 0.1}
VIEW = {"haze": (10.0, 40.0), "fog": (2.5, 8.0), "rain": (15.0, 50.0), "snow": (10.0, 40.0)}
# Light and camera.
EXPOSURE, GAMMA, TINT, RAMP = (0.75, 1.25), (0.8, 1.25), (-0.12, 0.12), (0.0, 0.25)
BLUR, NOISE = (0.0, 1 / 400), (0.0, 0.03)  # of the height; of white
# Brightness, red minus green, and red and green minus blue, as an orthonormal basis.
OPPONENT = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])


class Look(NamedTuple):
    """A new look of an image, and the weather in it."""

    pixels: np.ndarray
    weather: str


def restyle(image: np.ndarray, label: np.ndarray, roles: Roles, seed: int) -> Look:
    """Draw the look of an image uint8 [H, W, 3] with train ids uint8 [H, W], from `seed` alone."""
    rng = np.random.default_rng(seed)
    pixels = recolour(image.astype(np.float32) / 255, label, rng)
    pixels = reshape_spectrum(pixels, rng.uniform(*SLOPE))
    weather = str(rng.choice(list(WEATHER), p=list(WEATHER.values())))
    depth = depth_order(label, roles)
    pixels = lay_weather(np.clip(pixels, 0, 1), weather, depth, rng)
    pixels = photograph(pixels, rng)
    return Look((255 * pixels + 0.5).astype(np.uint8), weather)


def recolour(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give the colours of each class, float32 [H, W, 3] in [0, 1], a mean and deviation of its own.

    The colours of a class are turned about grey and get a tinge, their brightness is stretched
    about its mean. That is an affine map for each class; between two classes the maps run into each
    other.
    """
    present = np.unique(label)
    maps = np.zeros((256, 3, 4), dtype=np.float32)
    for value in range(256):
        hue, saturation, brightness, contrast = (
            rng.uniform(*bounds) for bounds in (HUE, SATURATION, VALUE, CONTRAST)
        )
        tinge = rng.normal(0, TINGE, 2)
        if value not in present:
            continue
        grey = np.full(3, image[label == value].mean())
        turn, size = np.deg2rad(hue), saturation * brightness
        cos, sin = size * np.cos(turn), size * np.sin(turn)
        opponent = np.array([[contrast * brightness, 0, 0], [0, cos, -sin], [0, sin, cos]])
        matrix = OPPONENT.T @ opponent @ OPPONENT
        # The grey of the class's mean becomes brighter or darker, and gets the tinge.
        maps[value, :, :3] = matrix
        maps[value, :, 3] = brightness * grey - matrix @ grey + OPPONENT[1:].T @ tinge
    field = maps[label]
    sigma = max(SOFT * len(label), 0.5)
    field = ndimage.gaussian_filter(field, (sigma, sigma, 0, 0), truncate=3.0)
    return np.einsum("hwij,hwj->hwi", field[..., :3], image) + field[..., 3]


def reshape_spectrum(image: np.ndarray, slope: float) -> np.ndarray:
    """Multiply amplitudes by the `slope`-th power of the frequency, phases and the mean kept.

    Amplitudes of natural images fall about with 1/f (Field, 1987); a positive slope sharpens, a
    negative one softens. The factor is 1 at 1/16 of the sampling frequency.
    """
    height, width = image.shape[:2]
    # Mirrored, so that opposite borders do not run into each other.
    tall, wide = height // 8, width // 8
    padded = np.pad(image, ((tall, tall), (wide, wide), (0, 0)), mode="symmetric")
    vertical = fft.fftfreq(padded.shape[0])[:, None]
    frequency = np.hypot(vertical, fft.rfftfreq(padded.shape[1]))
    frequency[0, 0] = 1 / 16
    # Below some periods in the image, light would be reshaped and not texture.
    factor = np.maximum(16 * frequency, 16 * 4 / max(height, width)) ** slope
    factor[0, 0] = 1
    spectrum = fft.rfft2(padded, axes=(0, 1)) * factor[..., None].astype(np.float32)
    reshaped = fft.irfft2(spectrum, padded.shape[:2], axes=(0, 1))
    return reshaped[tall : tall + height, wide : wide + width].astype(np.float32)


def lay_weather(
    image: np.ndarray, weather: str, depth: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Lay a weather over an image float32 [H, W, 3] in [0, 1]; `depth` [H, W] is of `depth_order`.

    Air scatters light over what is far away (Koschmieder: `I t + A (1 - t)`, `t = exp(-depth /
    view)`). Drops and flakes are in layers; each hides only what is behind it.
    """
    if weather in ("rain", "snow", "night"):
        grey = image.mean(-1, keepdims=True)
        kept, darker = {
            "rain": (0.6, rng.uniform(0.6, 0.9)),
            "snow": (0.6, rng.uniform(0.8, 1.0)),
            "night": (0.5, rng.uniform(0.15, 0.4)),
        }[weather]
        image = (grey + (image - grey) * kept) * np.float32(darker)
    if weather == "night":
        image = image * np.array([0.85, 0.95, 1.2], np.float32)
    if weather in VIEW:
        air = np.float32(rng.uniform(0.5, 0.95)) + rng.uniform(-0.05, 0.05, 3).astype(np.float32)
        through = np.exp(-depth / np.float32(rng.uniform(*VIEW[weather])))[..., None]
        image = image * through + air * (1 - through)
    if weather in ("rain", "snow"):
        lean = rng.uniform(-0.5, 0.5)
        for distance in (FARTHEST / 2, 8.0, 3.0, 1.5):
            cover = particles(depth.shape, weather, distance, lean, rng)
            cover = np.where(depth > distance, cover, 0)[..., None]
            image = image * (1 - cover) + np.float32(0.92) * cover
    return image.astype(np.float32)


def particles(
    size: tuple[int, int], weather: str, distance: float, lean: float, rng: np.random.Generator
) -> np.ndarray:
    """Return how far drops or flakes at a distance cover each pixel, float32 [H, W] in [0, 1].

    Nearer ones are larger and fewer. Drops are streaks that `lean` by columns for each row.
    """
    height, width = size
    radius = height / 160 / np.sqrt(distance)
    share = rng.uniform(0.3, 1.0) * (0.004 if weather == "snow" else 0.006) / max(radius, 0.5) ** 2
    points = (rng.random(size, dtype=np.float32) < share).astype(np.float32)
    if weather == "rain":
        length = max(3, round(height / 12 / np.sqrt(distance)))
        streaks = np.zeros(size, dtype=np.float32)
        for row in range(length):
            streaks += np.roll(points, (row, round(lean * row)), axis=(0, 1))
        return np.minimum(ndimage.gaussian_filter(streaks, max(0.3, radius / 2)) * 0.6, 0.35)
    sigma = max(0.5, radius)
    return np.minimum(ndimage.gaussian_filter(points, sigma) * 6 * sigma**2, 0.9)


def photograph(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw light and camera: exposure, gamma, white balance, a ramp of light across the image, blur
    and noise; float32 [H, W, 3] in [0, 1] before and after."""
    height, width = image.shape[:2]
    angle, ramp = rng.uniform(0, 2 * np.pi), rng.uniform(*RAMP)
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    light = 1 + ramp * (np.cos(angle) * x + np.sin(angle) * y) / np.sqrt(2)
    gains = rng.uniform(*EXPOSURE) * (1 + rng.uniform(*TINT, size=3))
    image = image * (light[..., None] * gains).astype(np.float32)
    image = np.clip(image, 0, 1) ** np.float32(rng.uniform(*GAMMA))
    if (sigma := rng.uniform(*BLUR) * height) > 0.2:
        image = ndimage.gaussian_filter(image, (sigma, sigma, 0))
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image + noise * np.float32(rng.uniform(*NOISE)), 0, 1)
