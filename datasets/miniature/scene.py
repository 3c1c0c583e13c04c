"""Street scenes: one street laid out, built up and painted."""

import math

import numpy as np

from utils.labels import VOID

from . import roadside, traffic
from .canvas import Camera, Canvas, Scene
from .ground import GroundSlots, lay_ground
from .materials import (
    BICYCLE,
    BUS,
    FENCE,
    LIGHT,
    MOTORCYCLE,
    PERSON,
    RIDER,
    TERRAIN,
    TRAIN,
    TRUCK,
    WALL,
    Material,
)
from .plan import Plan, Street, make_plan
from .site import Site

# Three featured classes per image keep rare classes frequent enough to be learned and tested.
LARGE = (TRUCK, BUS, TRAIN, MOTORCYCLE)
SMALL = (RIDER, WALL, BICYCLE, FENCE, TERRAIN, PERSON, LIGHT)


def draw_scene(street: Street, rng: np.random.Generator, index: int = 0) -> Scene:
    """Draw one street.  `index` chooses the classes that this scene is sure to show nearby."""
    small = {SMALL[(index + step) % len(SMALL)] for step in (0, 3)}
    featured = (small | {LARGE[index % len(LARGE)]}) - street.absent
    rural = rng.random() < street.rural and TERRAIN not in street.absent
    feature_side = 1 if rng.random() < 0.5 else -1
    plan = make_plan(street, rng, featured, rural)
    camera = _place_camera(street, plan, rng)
    canvas = Canvas(camera, rng)
    slots = GroundSlots(canvas)
    site = Site(street, rng, featured, feature_side, plan, camera.position[0], canvas)
    roadside.backdrop(site)
    for side in (-1, 1):
        roadside.lots(site, side)
        roadside.furniture_along(site, side)
    roadside.signals(site)
    traffic.traffic(site)
    traffic.crowd(site)
    ego = rng.choice(3, p=np.array(street.ego) / sum(street.ego))
    slot = canvas.slot(VOID, Material.DASHBOARD if ego == 2 else Material.HOOD)
    scene = canvas.paint(*lay_ground(camera, plan, slots))
    if ego:
        _cover(scene, slot, rng, dashboard=ego == 2)
    return scene


def _place_camera(street: Street, plan: Plan, rng: np.random.Generator) -> Camera:
    """A camera in one of the lanes, more often in the outermost."""
    lane = plan.lanes - 1 if rng.random() < 0.5 else int(rng.integers(plan.lanes))
    x = plan.lane_centre(1, lane) + rng.uniform(-0.3, 0.3)
    size = street.sizes[rng.integers(len(street.sizes))]
    fov = math.radians(rng.uniform(*street.fov))
    if size[0] < size[1]:
        fov *= 0.8
    height = rng.uniform(*street.height)
    pitch, yaw = math.radians(rng.uniform(*street.pitch)), math.radians(rng.normal(0, 2.0))
    return Camera(size, height, pitch, yaw, fov, x)


def _cover(scene: Scene, slot: int, rng: np.random.Generator, dashboard: bool) -> None:
    """Put the camera car's hood or dashboard over the lower edge of a scene, as void."""
    height, width = scene.label.shape
    x = np.linspace(-1, 1, width)
    rise = rng.uniform(0.06, 0.13) if not dashboard else rng.uniform(0.04, 0.1)
    if dashboard:
        top = 1 - rise * (1 - 0.25 * np.abs(x - rng.uniform(-0.3, 0.3)))
    else:
        top = 1 - rise * np.sqrt(np.clip(1 - (x / 1.25) ** 2, 0, 1))
    y = (np.arange(height) + 0.5) / height
    hidden = y[:, None] > top[None]
    scene.label[hidden] = VOID
    scene.slot[hidden] = scene.label_slot[hidden] = slot
    scene.face[hidden] = 0
    scene.depth[hidden] = 1.0
    scene.u[hidden] = np.broadcast_to(x[None], hidden.shape)[hidden]
    scene.v[hidden] = ((y[:, None] - top[None]) / rise)[hidden]
