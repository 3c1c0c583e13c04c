"""A pinhole camera and a painter: flat faces in the world become maps of pixels.

World coordinates are metres: x to the right, y up, z along the street, the ground at y = 0.  Faces
are painted far to near into a map of face numbers; label, material, depth and surface coordinates
are then looked up per pixel in tables of the faces.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .materials import Material

Point = tuple[float, float, float]

NEAR = 0.35  # metres; what is nearer to the lens is cut off
FAR = 1000.0  # metres; the depth of the sky


class Camera:
    """A pinhole camera at (x, height, 0).

    `pitch` (downwards), `yaw` (to the right) and the horizontal `fov` are in radians; `size` is
    (width, height) in pixels.
    """

    def __init__(self, size, height: float, pitch: float, yaw: float, fov: float, x: float = 0.0):
        self.width, self.height_px = size
        self.position = (x, height, 0.0)
        self.focal = self.width / 2 / math.tan(fov / 2)
        self.right = (math.cos(yaw), 0.0, -math.sin(yaw))
        self.forward = (
            math.sin(yaw) * math.cos(pitch),
            -math.sin(pitch),
            math.cos(yaw) * math.cos(pitch),
        )
        self.up = (
            math.sin(yaw) * math.sin(pitch),
            math.cos(pitch),
            math.cos(yaw) * math.sin(pitch),
        )

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points [N, 3] → camera coordinates [N, 3]: right, up, depth (metres)."""
        x, y, z = (points[:, i] - self.position[i] for i in range(3))
        axes = (self.right, self.up, self.forward)
        return np.stack([x * a[0] + y * a[1] + z * a[2] for a in axes], 1)

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Camera coordinates [N, 3] with positive depth → pixel coordinates [N, 2]."""
        scale = self.focal / points[:, 2]
        return np.stack(
            [
                self.width / 2 - 0.5 + points[:, 0] * scale,
                self.height_px / 2 - 0.5 - points[:, 1] * scale,
            ],
            1,
        )

    def rays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """World directions x, y, z [H, W] of all pixels, scaled to a depth of one metre."""
        across = ((np.arange(self.width) + 0.5 - self.width / 2) / self.focal)[None]
        down = ((np.arange(self.height_px) + 0.5 - self.height_px / 2) / self.focal)[:, None]
        return tuple(
            (self.forward[i] + across * self.right[i] - down * self.up[i]).astype(np.float32)
            for i in range(3)
        )


@dataclass
class Scene:
    """What a look needs to turn a scene into pixels.  Maps are [H, W], tables [N].

    label     uint8, train ids and 255
    slot      int32, the surface seen at a pixel: a row of the slot tables
    face      int32, the face seen at a pixel: a row of `normals`; 0 is ground and sky
    depth     float32, metres
    u, v      float32, metres along the surface; angles in the sky
    label_slot  as `slot`, for the labelled surface: differs where one looks through a wheel
    materials, labels, instances   of the slots
    traits    float32 [N, 6], uniform numbers that say which of its kind a slot is
    casters   (ground polygon, height of its bottom, height of its top) of what throws a shadow
    contacts  ground polygons of what stands on the ground
    """

    camera: Camera
    label: np.ndarray
    slot: np.ndarray
    label_slot: np.ndarray
    face: np.ndarray
    depth: np.ndarray
    u: np.ndarray
    v: np.ndarray
    normals: np.ndarray
    materials: np.ndarray
    labels: np.ndarray
    instances: np.ndarray
    traits: np.ndarray
    casters: list
    contacts: list


class Canvas:
    """Collects slots, faces and shadows; `paint` turns them into a `Scene`."""

    def __init__(self, camera: Camera, rng: np.random.Generator):
        self.camera = camera
        self.rng = rng
        self.casters: list = []
        self.contacts: list = []
        self._slots: list[tuple[int, int, int]] = []
        self._points: list[Point] = []
        self._faces: list[tuple] = []
        self._instances = 0

    def instance(self) -> int:
        """A new instance number."""
        self._instances += 1
        return self._instances

    def slot(self, label: int, material: Material, instance: int = 0) -> int:
        """A new surface of one class and material; its faces share colour and texture."""
        self._slots.append((label, int(material), instance))
        return len(self._slots) - 1

    def face(
        self,
        points: Sequence[Point],
        slot: int,
        key: float,
        centre: Point | None = None,
        seen: bool = True,
        labelled: bool = True,
        u0: float = 0.0,
    ) -> None:
        """Add a flat polygon.

        The first edge is the u axis, v is at right angles to it towards the last point.  Faces are
        painted by falling `key` (a distance), equal keys in the order of adding.  A face with a
        `centre` is the outside of a body around it and is left out when it looks away.  `seen`
        and `labelled` choose whether it exists for the look and for the labels.
        """
        start = len(self._points)
        self._points.extend(points)
        self._faces.append((start, len(points), slot, key, centre, seen, labelled, u0))

    def paint(self, ground_slot: np.ndarray, u: np.ndarray, v: np.ndarray, depth: np.ndarray):
        """Paint all faces over the ground and sky, given as maps [H, W], into a `Scene`."""
        seen, labelled, face_slot, tables = self._rasterise()
        slots = np.array(self._slots, np.int32)
        slot, label_slot = (
            np.where(ids > 0, face_slot[ids], ground_slot) for ids in (seen, labelled)
        )
        at = np.flatnonzero(seen)
        face = seen.ravel()[at]
        rays = [ray.ravel()[at] for ray in self.camera.rays()]
        plane, along, across = (tables[name][face] for name in ("plane", "u", "v"))
        inverse = rays[0] * plane[:, 0] + rays[1] * plane[:, 1] + rays[2] * plane[:, 2]
        z = 1 / np.clip(inverse, 1 / FAR, 1 / NEAR)
        depth, u, v = depth.copy(), u.copy(), v.copy()
        depth.ravel()[at] = z
        for target, axis in ((u, along), (v, across)):
            value = rays[0] * axis[:, 0] + rays[1] * axis[:, 1] + rays[2] * axis[:, 2]
            target.ravel()[at] = value * z + axis[:, 3]
        return Scene(
            self.camera,
            slots[:, 0].astype(np.uint8)[label_slot],
            slot,
            label_slot,
            seen,
            depth,
            u,
            v,
            tables["normal"],
            slots[:, 1],
            slots[:, 0],
            slots[:, 2],
            self.rng.random((len(slots), 6), dtype=np.float32),
            self.casters,
            self.contacts,
        )

    def _rasterise(self):
        """Maps of face numbers for look and labels, slots of the faces, tables of their planes."""
        start, count, slot, key, centre, seen, labelled, u0 = zip(*self._faces, strict=True)
        start, count = np.array(start), np.array(count)
        points = np.array(self._points, np.float64)
        eye = np.array(self.camera.position)
        first = points[start]
        u_axis = _unit(points[start + 1] - first)
        toward = points[start + count - 1] - first
        v_axis = _unit(toward - _dot(toward, u_axis)[:, None] * u_axis)
        normal = np.cross(u_axis, v_axis)
        solid = np.array([c is not None for c in centre])
        inside = np.array([c if c is not None else (0.0, 0.0, 0.0) for c in centre])
        outward = np.where(solid, _dot(normal, first - inside), _dot(normal, eye - first))
        normal = normal * np.where(outward < 0, -1.0, 1.0)[:, None]
        visible = ~solid | (_dot(normal, eye - first) > 0)

        local = self.camera.to_camera(points)
        nearest = np.minimum.reduceat(local[:, 2], start)
        visible &= np.maximum.reduceat(local[:, 2], start) > NEAR
        pixels = self.camera.to_pixels(np.maximum(local, [-1e9, -1e9, NEAR]))
        flat = pixels.ravel().tolist()
        size = (self.camera.width, self.camera.height_px)
        images = Image.new("I", size), Image.new("I", size)
        pens = [ImageDraw.Draw(image) for image in images]
        for i in np.argsort(-np.array(key), kind="stable").tolist():
            if not visible[i]:
                continue
            begin, end = start[i], start[i] + count[i]
            if nearest[i] > NEAR:
                outline = flat[2 * begin : 2 * end]
            else:
                outline = self.camera.to_pixels(clip_near(local[begin:end])).ravel().tolist()
            if seen[i]:
                pens[0].polygon(outline, fill=i + 1)
            if labelled[i]:
                pens[1].polygon(outline, fill=i + 1)

        offset = _dot(normal, first - eye)
        offset = np.where(np.abs(offset) < 1e-6, 1e-6, offset)
        tables = {
            "plane": normal / offset[:, None],
            "u": np.c_[u_axis, _dot(eye - first, u_axis) + np.array(u0)],
            "v": np.c_[v_axis, _dot(eye - first, v_axis)],
            "normal": normal,
        }
        ground = {"plane": 0.0, "u": 0.0, "v": 0.0, "normal": [0.0, 1.0, 0.0]}
        for name, table in tables.items():
            row = np.broadcast_to(np.array(ground[name]), (1, table.shape[1]))
            tables[name] = np.concatenate([row, table]).astype(np.float32)
        face_slot = np.array((0, *slot), np.int32)
        return np.array(images[0]), np.array(images[1]), face_slot, tables


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]


def _unit(a: np.ndarray) -> np.ndarray:
    return a / np.maximum(np.sqrt(_dot(a, a)), 1e-9)[:, None]


def clip_near(polygon: np.ndarray) -> np.ndarray:
    """The part of a polygon [N, 3] in camera coordinates that lies beyond the near plane."""
    kept = []
    for a, b in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        if a[2] > NEAR:
            kept.append(a)
        if (a[2] > NEAR) != (b[2] > NEAR):
            kept.append(a + (b - a) * ((NEAR - a[2]) / (b[2] - a[2])))
    return np.maximum(np.array(kept), [-1e9, -1e9, NEAR])
