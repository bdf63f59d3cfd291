"""People made of rounded cones and ellipsoids, painted straight into square crops; the stage that renders images.

Every body part is a quadric, so a ray meets it where a quadratic in depth vanishes and the discriminant is a conic
in pixels: each part costs a few operations on the pixels of its own rows, and a z-buffer keeps the nearest surface.
Camera frame: metres, x right, y down, z away. All arithmetic is element by element, so that a frame's bytes do not
depend on the batch it is rendered in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import typer

from isopose import skeleton, stage
from isopose.appearance import (
    BACKGROUND_SIZE,
    COLOUR,
    OCCLUDER_SIZE,
    Appearance,
    background,
    check_split,
    occluder_texture,
    sample_appearance,
    unpacked,
)
from isopose.crops import boxes_around, crop_to_image, image_to_crop
from isopose.datasets.store import Clip, SequenceStore, ViewKey, select
from isopose.errors import UserError
from isopose.evaluation.keypoints import head_size
from isopose.labelled_images import create, crop_labels, jittered
from isopose.occlusion.rectangles import covered

CHUNK = 16  # crops rendered at once: few enough for the working arrays to stay in the cache
NEAR = 0.1  # m, parts that come nearer to the camera are left out
TEXEL = 4.0  # image px to a texel of an occluder
NOISE_UNIT = 32  # the noise bank holds standard normals times this, as int16
NOISE_LENGTH = 1 << 20

J = {name: index for index, name in enumerate(skeleton.JOINTS)}

# Limbs as (start, end, radius at the start m, radius at the end m, girth); both sides alike.
_LIMBS = [
    ("l_shoulder", "l_elbow", 0.054, 0.043, 0),
    ("r_shoulder", "r_elbow", 0.054, 0.043, 0),
    ("l_elbow", "l_wrist", 0.043, 0.030, 0),
    ("r_elbow", "r_wrist", 0.043, 0.030, 0),
    ("l_hip", "l_knee", 0.085, 0.057, 1),
    ("r_hip", "r_knee", 0.085, 0.057, 1),
    ("l_knee", "l_ankle", 0.057, 0.038, 1),
    ("r_knee", "r_ankle", 0.057, 0.038, 1),
]
_START = [J[limb[0]] for limb in _LIMBS]
_END = [J[limb[1]] for limb in _LIMBS]
_RADII = np.array([limb[2:4] for limb in _LIMBS])
_GIRTH = [limb[4] for limb in _LIMBS]
_LOWER = np.array([0, 0, 1, 1, 0, 0, 1, 1])  # forearms and shins: cloth reaches them only when longer than 1
_TIPS = [2, 3, 6, 7]  # limbs that end in a wrist or an ankle

_SHIRT = (COLOUR["shirt"], COLOUR["shirt_print"], COLOUR["skin"])
_TROUSERS = (COLOUR["trousers"], COLOUR["trousers_print"], COLOUR["skin"])
_SKIN = (COLOUR["skin"],) * 3
_SHOES = (COLOUR["shoes"],) * 3
_GARMENTS = [_SHIRT] * 4 + [_TROUSERS] * 4

# The parts of a person in order: (colour, colour of the print, colour beyond the cloth's end).
PARTS = [
    *_GARMENTS,  # 0-7: limbs
    *_GARMENTS,  # 8-15: balls at the limbs' starts
    *[_GARMENTS[limb] for limb in _TIPS],  # 16-19: balls at wrists and ankles
    *[_SKIN] * 2,  # 20, 21: hands
    *[_SHOES] * 2,  # 22, 23: feet
    *[_TROUSERS, _SHIRT, _SHIRT, _SHIRT, _SHIRT, _SHIRT],  # 24-29: hips, belly, waist, chest, breast, shoulders
    *[_SKIN] * 3,  # 30-32: neck, head, nose
]
_OPEN = (25, 26, 27, 28)  # parts where the shirt is open down the front
_HEAD = 31
_PART_COLOURS = np.array(PARTS)


@dataclass
class Quadrics:
    """Body parts of B people, P each: u^2 a0 + v^2 a1 + w^2 a2 + w g = 1 for |w| <= half.

    u, v, w are metres along the rows of axes (B, P, 3, 3), which point across, forward and along the part, from
    centre (B, P, 3); squares (B, P, 3) holds a0..a2, linear (B, P) g and half (B, P). ends (B, P, 2, 3) and reach
    (B, P): every point of the part is within reach of the segment between the ends.
    """

    centre: np.ndarray
    axes: np.ndarray
    squares: np.ndarray
    linear: np.ndarray
    half: np.ndarray
    ends: np.ndarray
    reach: np.ndarray

    @classmethod
    def joined(cls, groups: Sequence[Quadrics]) -> Quadrics:
        """Put the parts of several groups side by side."""
        fields = ("centre", "axes", "squares", "linear", "half", "ends", "reach")
        return cls(*(np.concatenate([getattr(g, name) for g in groups], axis=1) for name in fields))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar product over the last axis, summed in a fixed order."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def _unit(vector: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) at length one; a zero vector stays zero."""
    return vector / np.maximum(np.sqrt(_dot(vector, vector)), 1e-9)[..., None]


def _frame(along: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """Axes (..., 3, 3) with rows across, forward, along; forward is made square to along."""
    along = _unit(along)
    forward = _unit(forward - _dot(forward, along)[..., None] * along)
    return np.stack([np.cross(along, forward), forward, along], axis=-2)


def ellipsoids(centre: np.ndarray, axes: np.ndarray, radii: np.ndarray) -> Quadrics:
    """Ellipsoids at centre (B, n, 3) with radii (B, n, 3), m, along the rows of axes (B, n, 3, 3)."""
    radii = np.broadcast_to(radii, centre.shape)
    flat = np.zeros(centre.shape[:2])
    ends = np.stack([centre, centre], axis=2)
    return Quadrics(centre, axes, 1 / radii**2, flat, flat + np.inf, ends, radii.max(axis=-1))


def cones(start: np.ndarray, end: np.ndarray, forward: np.ndarray, radii: np.ndarray, ratio: np.ndarray) -> Quadrics:
    """Tapered tubes from start to end (B, n, 3), open at both ends.

    radii (B, n, 2): half widths across and forward at the start, m; ratio (B, n): those at the end over these.
    """
    radii = np.broadcast_to(radii, (*start.shape[:2], 2))
    along = end - start
    half = np.maximum(np.sqrt(_dot(along, along)) / 2, 1e-4)
    slope = (ratio - 1) / (ratio + 1) / half
    middle = radii * ((1 + ratio) / 2)[..., None]
    squares = np.concatenate([1 / middle**2, -(slope**2)[..., None]], axis=-1)
    reach = radii.max(axis=-1) * np.maximum(ratio, 1)
    ends = np.stack([start, end], axis=2)
    return Quadrics((start + end) / 2, _frame(along, forward), squares, -2 * slope, half, ends, reach)


def _facing(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Forward directions (B, 3) of the pelvis and of the chest: left x up."""
    hips = joints[:, J["l_hip"]] - joints[:, J["r_hip"]]
    shoulders = joints[:, J["l_shoulder"]] - joints[:, J["r_shoulder"]]
    lower = joints[:, J["spine"]] - joints[:, J["pelvis"]]
    upper = joints[:, J["thorax"]] - joints[:, J["spine"]]
    return _unit(np.cross(hips, lower)), _unit(np.cross(shoulders, upper))


def _limbs(joints: np.ndarray, girths: np.ndarray, pelvis: np.ndarray, chest: np.ndarray) -> list[Quadrics]:
    """Limbs, the balls that round them off, hands and feet (parts 0-23)."""
    start, end = joints[:, _START], joints[:, _END]
    radii = _RADII * girths[:, _GIRTH, None]
    # A little of the body's own axis keeps a limb that points straight forward from having no frame.
    up = _unit(joints[:, J["thorax"]] - joints[:, J["pelvis"]])
    forward = np.stack([chest + 0.1 * up] * 4 + [pelvis + 0.1 * up] * 4, axis=1)
    limbs = cones(start, end, forward, radii[..., :1], radii[..., 1] / radii[..., 0])
    balls = ellipsoids(start, limbs.axes, radii[..., :1])
    tips = ellipsoids(end[:, _TIPS], limbs.axes[:, _TIPS], radii[:, _TIPS, 1:])

    arms = limbs.axes[:, 2:4]
    hands = ellipsoids(
        end[:, 2:4] + 0.07 * arms[..., 2, :], arms, np.array([0.040, 0.024, 0.088]) * girths[:, None, :1]
    )

    # Knees bend forward only: a bent leg tells where its toes point, a straight one follows the pelvis.
    thigh, shin = limbs.axes[:, 4:6, 2], limbs.axes[:, 6:8, 2]
    toes = _frame(shin, pelvis[:, None] + 1.5 * (thigh - shin))[..., 1, :] + 0.2 * shin
    feet = ellipsoids(
        end[:, 6:8] + 0.065 * _unit(toes) + 0.035 * shin,
        _frame(toes, -shin),
        np.array([0.046, 0.042, 0.130]) * (0.5 + 0.5 * girths[:, None, 1:2]),
    )
    return [limbs, balls, tips, hands, feet]


def _torso(joints: np.ndarray, girths: np.ndarray, pelvis: np.ndarray, chest: np.ndarray) -> list[Quadrics]:
    """Hips, belly, waist, chest, breast and shoulders (parts 24-29), wider than deep."""
    root, spine, thorax = (joints[:, J[name]] for name in ("pelvis", "spine", "thorax"))
    shoulders = joints[:, [J["l_shoulder"], J["r_shoulder"]]]
    hips = joints[:, [J["l_hip"], J["r_hip"]]]
    width, depth = girths[:, 2], girths[:, 3]
    hip_width = np.sqrt(_dot(hips[:, 0] - hips[:, 1], hips[:, 0] - hips[:, 1])) / 2 + 0.06 * width
    across = shoulders[:, 0] - shoulders[:, 1]
    chest_width = np.sqrt(_dot(across, across)) / 2 * (0.55 + 0.38 * width)
    waist_width = (0.5 * hip_width + 0.5 * chest_width) * (0.55 + 0.35 * width)
    breast = spine + 0.7 * (thorax - spine)

    def radii(*columns: np.ndarray) -> np.ndarray:
        return np.stack(np.broadcast_arrays(*columns), axis=-1)[:, None]

    def ellipsoid(centre: np.ndarray, along: np.ndarray, forward: np.ndarray, *columns: np.ndarray) -> Quadrics:
        return ellipsoids(centre[:, None], _frame(along, forward)[:, None], radii(*columns))

    belly = cones(
        root[:, None],
        spine[:, None],
        (pelvis + chest)[:, None],
        radii(hip_width * 0.95, 0.112 * depth),
        (waist_width / (hip_width * 0.95))[:, None],
    )
    trunk = cones(
        spine[:, None],
        breast[:, None],
        chest[:, None],
        radii(waist_width, 0.104 * depth),
        (chest_width / waist_width)[:, None],
    )
    yoke = cones(
        shoulders[:, :1],
        shoulders[:, 1:],
        chest[:, None],
        radii(0.052 * girths[:, 0], 0.058 * depth),
        np.ones((len(joints), 1)),
    )
    return [
        ellipsoid(root, spine - root, pelvis, hip_width, 0.118 * depth, 0.125),
        belly,
        ellipsoid(spine, thorax - root, chest + pelvis, waist_width, 0.108 * depth, 0.10),
        trunk,
        ellipsoid(breast, thorax - spine, chest, chest_width, 0.118 * depth, 0.125),
        yoke,
    ]


def _head(joints: np.ndarray, girths: np.ndarray, chest: np.ndarray) -> list[Quadrics]:
    """Neck, head and nose (parts 30-32)."""
    thorax, face, crown = (joints[:, J[name]] for name in ("thorax", "neck", "head"))
    up = crown - thorax
    length = np.sqrt(_dot(up, up))
    # The joint at the nose tells where the head looks if it lies off the head's axis; else the chest does.
    offset = face - thorax - (_dot(face - thorax, up) / np.maximum(length**2, 1e-9))[:, None] * up
    axes = _frame(up, offset + 0.05 * chest)
    size = girths[:, 4] * np.clip(length / 0.24, 0.75, 1.25)
    centre = crown - (0.112 * size)[:, None] * axes[:, 2]
    nose = centre + (0.098 * size)[:, None] * axes[:, 1] - (0.015 * size)[:, None] * axes[:, 2]
    scale = size[:, None, None]
    ratio = np.full((len(joints), 1), 0.9)
    return [
        cones(thorax[:, None], centre[:, None], chest[:, None], 0.058 * girths[:, None, :1], ratio),
        ellipsoids(centre[:, None], axes[:, None], scale * np.array([0.080, 0.098, 0.118])),
        ellipsoids(nose[:, None], axes[:, None], scale * np.array([0.015, 0.026, 0.028])),
    ]


def body(joints: np.ndarray, girths: np.ndarray) -> Quadrics:
    """The parts of B people, in the order of `PARTS`: joints (B, 17, 3), m, girths (B, 5) by `GIRTHS`."""
    joints = np.asarray(joints, np.float64)
    pelvis, chest = _facing(joints)
    groups = _limbs(joints, girths, pelvis, chest) + _torso(joints, girths, pelvis, chest)
    return Quadrics.joined(groups + _head(joints, girths, chest))


def _expand(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ragged ranges: owner and position 0..count-1 of each element."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)


@dataclass
class Grid:
    """Rays of square crops: crop pixel (i, j) looks along (x0 + dx i, y0 + dy j, 1); arrays (B,), and the size."""

    x0: np.ndarray
    y0: np.ndarray
    dx: np.ndarray
    dy: np.ndarray
    size: int

    @classmethod
    def of(cls, K: np.ndarray, boxes: np.ndarray, size: int) -> Grid:
        """The rays of boxes (B, 3) px under pinhole matrices K (B, 3, 3)."""
        corners = crop_to_image(np.tile([[[0.0, 0.0], [1.0, 1.0]]], (len(boxes), 1, 1)), boxes, size)
        focal = np.stack([K[:, 0, 0], K[:, 1, 1]], axis=-1)
        first, second = ((corners[:, i] - K[:, :2, 2]) / focal for i in (0, 1))
        step = second - first
        return cls(first[:, 0], first[:, 1], step[:, 0], step[:, 1], size)

    def repeated(self, count: int) -> tuple[np.ndarray, ...]:
        """x0, y0, dx, dy for each of the count parts of every person: (B * count,)."""
        return tuple(np.repeat(a, count) for a in (self.x0, self.y0, self.dx, self.dy))


@dataclass
class _Bounds:
    """Where each part may appear in its crop: ends (N, 2) px of its segment in x and y, the radius around it,
    a pixel (N,) near its middle to count from, and its rows from low up to high."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    middle_x: np.ndarray
    middle_y: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, parts: Quadrics, grid: Grid) -> _Bounds:
        """Bounds of all parts, flattened to N = B * P; a part that is not drawn has no rows."""
        size = grid.size
        ends, reach = parts.ends.reshape(-1, 2, 3), parts.reach.ravel()
        x0, y0, dx, dy = grid.repeated(parts.reach.shape[1])
        near = ends[..., 2].min(axis=1) - reach
        drawn = near > NEAR
        depth = np.where(drawn[:, None], ends[..., 2], 1.0)
        x = (ends[..., 0] / depth - x0[:, None]) / dx[:, None]
        y = (ends[..., 1] / depth - y0[:, None]) / dy[:, None]
        # Perspective widens a ball off the axis a little.
        radius = 1.1 * reach / (np.where(drawn, near, 1.0) * np.minimum(dx, dy)) + 1
        drawn &= (x.max(axis=1) + radius > 0) & (x.min(axis=1) - radius < size)

        def pixel(position: np.ndarray) -> np.ndarray:
            return np.where(drawn, np.clip(position, 0, size), 0).astype(np.int64)

        low, high = pixel(np.ceil(y.min(axis=1) - radius)), pixel(np.floor(y.max(axis=1) + radius) + 1)
        return cls(x, y, radius, pixel(x.mean(axis=1)), pixel(y.mean(axis=1)), low, high)

    def row_span(self, part: np.ndarray, row: np.ndarray, disc: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Columns where a part may appear in a row: near its segment, and inside its conic where that is bounded.

        disc: coefficients (rows,) of the discriminant in the column counted from the part's middle.
        """
        fall = (self.y[:, 1] - self.y[:, 0])[part]
        fall = np.where(np.abs(fall) < 1e-6, 1e-6, fall)
        offset, run, radius = row - self.y[part, 0], (self.x[:, 1] - self.x[:, 0])[part], self.radius[part]
        t0, t1 = (np.clip((offset + sign * radius) / fall, 0, 1) * run for sign in (-1, 1))
        left = self.x[part, 0] + np.minimum(t0, t1) - radius
        right = self.x[part, 0] + np.maximum(t0, t1) + radius
        d2, d1, d0 = disc
        bounded = d2 < 0
        root = np.sqrt(np.maximum(d1 * d1 - 4 * d2 * d0, 0))
        twice = np.where(bounded, 2 * d2, -1.0)
        middle = self.middle_x[part]
        left = np.where(bounded, np.maximum(left, middle + (root - d1) / twice), left)
        right = np.where(bounded, np.minimum(right, middle - (root + d1) / twice), right)
        return left, right


class _Rays:
    """What each part's quadric becomes along the ray of a pixel: A z^2 + 2 B z + C = 0 at depth z.

    A ray's direction is linear in the pixel, so B is linear and A and the discriminant B^2 - A C are quadratic in it;
    pixels are counted from a place near the part, which keeps their coefficients small. All arrays (N,).
    """

    def __init__(self, parts: Quadrics, grid: Grid, bounds: _Bounds) -> None:
        axes, squares = parts.axes.reshape(-1, 3, 3), parts.squares.reshape(-1, 3)
        linear = parts.linear.ravel()
        x0, y0, dx, dy = (a[:, None] for a in grid.repeated(parts.reach.shape[1]))
        # The direction in the part's own axes: rx * column + ry * row + r.
        rx, ry = axes[..., 0] * dx, axes[..., 1] * dy
        r = (
            axes[..., 0] * (x0 + bounds.middle_x[:, None] * dx)
            + axes[..., 1] * (y0 + bounds.middle_y[:, None] * dy)
            + axes[..., 2]
        )
        origin = _dot(axes, parts.centre.reshape(-1, 1, 3))
        weight = -squares * origin
        weight[:, 2] += linear / 2
        self.c = _dot(squares, origin**2) - linear * origin[:, 2] - 1
        self.b = [_dot(weight, v) for v in (rx, ry, r)]
        self.a = [_dot(squares, v) for v in (rx * rx, rx * ry, ry * ry, rx * r, ry * r, r * r)]
        self.along = [v[:, 2] for v in (rx, ry, r, origin)]

    def rows(self, part: np.ndarray, y: np.ndarray) -> tuple[tuple[np.ndarray, ...], ...]:
        """Coefficients in the column, highest power first, of the discriminant, A, B and the place along the part."""
        bx, by, b1 = (v[part] for v in self.b)
        axx, axy, ayy, ax1, ay1, a11 = (v[part] for v in self.a)
        wx, wy, w1, _ = (v[part] for v in self.along)
        c = self.c[part]
        b0 = b1 + by * y
        a1, a0 = 2 * (ax1 + axy * y), a11 + (2 * ay1 + ayy * y) * y
        disc = (bx * bx - axx * c, 2 * b0 * bx - a1 * c, b0 * b0 - a0 * c)
        return disc, (axx, a1, a0), (bx, b0), (wx, w1 + wy * y)


def _polynomial(coefficients: tuple[np.ndarray, ...], row: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Evaluate a polynomial per row, highest power first, at the pixels x (n,) of row (n,), in float32."""
    first, *rest = (c.astype(np.float32) for c in coefficients)
    value = first[row]
    for c in rest:
        value *= x
        value += c[row]
    return value


def surface(parts: Quadrics, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest surface in each pixel: flat pixel index (crop, row, column), part index and depth, m.

    Only pixels that show a person are listed, in rising order. The part index runs over (B, P) flattened.
    """
    people, count = parts.reach.shape
    size = grid.size
    bounds = _Bounds.of(parts, grid)
    rays = _Rays(parts, grid, bounds)

    part, y = _expand(np.maximum(bounds.high - bounds.low, 0))
    y += bounds.low[part]
    disc_row, a_row, b_row, along_row = rays.rows(part, (y - bounds.middle_y[part]).astype(np.float64))
    left, right = bounds.row_span(part, y, disc_row)
    first = np.clip(np.ceil(left), 0, size).astype(np.int64)
    last = np.clip(np.floor(right) + 1, 0, size).astype(np.int64)

    row, x = _expand(np.maximum(last - first, 0))
    x += first[row]
    xr = (x - bounds.middle_x[part][row]).astype(np.float32)
    disc, a = _polynomial(disc_row, row, xr), _polynomial(a_row, row, xr)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = -(_polynomial(b_row, row, xr) + np.sqrt(np.maximum(disc, 0))) / a
        along = z * _polynomial(along_row, row, xr) - rays.along[3][part].astype(np.float32)[row]
        inside = np.abs(along) <= parts.half.ravel()[part].astype(np.float32)[row]
    hit = (disc >= 0) & (a > 0) & inside & (z > 0)

    # One integer orders by depth, then part: the bits of a positive float rise with its value.
    pixel = (((part // count * size + y) * size)[row] + x)[hit]
    key = z[hit].view(np.int32).astype(np.int64) << 8 | (part % count)[row][hit]
    empty = np.iinfo(np.int64).max
    buffer = np.full(people * size * size, empty)
    np.minimum.at(buffer, pixel, key)
    seen = np.flatnonzero(buffer != empty)
    nearest = buffer[seen]
    depth = (nearest >> 8).astype(np.int32).view(np.float32)
    return seen, seen // (size * size) * count + (nearest & 0xFF), depth


def _cloth_ends(parts: Quadrics, sleeve: np.ndarray, leg: np.ndarray) -> np.ndarray:
    """Where cloth gives way to skin along each part (B, P), m from its centre: w beyond it is bare."""
    reach = np.concatenate([np.repeat(sleeve[:, None], 4, 1), np.repeat(leg[:, None], 4, 1)], axis=1)
    half = parts.half[:, :8]
    ends = np.full(parts.reach.shape, np.inf)
    ends[:, :8] = (2 * (reach - _LOWER) - 1) * half
    ends[:, 8:16] = np.where(reach > _LOWER, np.inf, -np.inf)
    ends[:, 16:20] = np.where(reach[:, _TIPS] >= 2, np.inf, -np.inf)
    return ends


def _face(u: np.ndarray, v: np.ndarray, w: np.ndarray, hair: np.ndarray) -> np.ndarray:
    """Colour index on the head from u, v, w in head radii across, forward and up: hair, eyes, mouth, else skin."""
    dark = (v > 0) & (
        (np.abs(np.abs(u) - 0.40) < 0.17) & (np.abs(w - 0.08) < 0.12) | (np.abs(u) < 0.3) & (np.abs(w + 0.52) < 0.08)
    )
    haired = (w > 0.5) | (v < -0.1) & (w > hair)
    return np.select([haired, dark], [COLOUR["hair"], COLOUR["eyes"]], COLOUR["skin"])


def _shade(
    parts: Quadrics,
    grid: Grid,
    looks: Sequence[Appearance],
    pixel: np.ndarray,
    part: np.ndarray,
    depth: np.ndarray,
) -> np.ndarray:
    """Colours (n, 3) uint8 of surface points: garment, print or face under Lambert's law."""
    people, count = parts.reach.shape
    size = grid.size
    light = np.array([a.light for a in looks])[:, None, None]
    prints = np.array([[a.shirt if p[0] == COLOUR["shirt"] else a.trousers for p in PARTS] for a in looks])
    ends = _cloth_ends(parts, np.array([a.sleeve for a in looks]), np.array([a.leg for a in looks]))
    columns = [
        parts.axes.reshape(-1, 9),
        _dot(parts.axes, parts.centre[:, :, None]).reshape(-1, 3),
        parts.squares.reshape(-1, 3),
        parts.linear.reshape(-1, 1) / 2,
        _dot(parts.axes, light).reshape(-1, 3),
        ends.reshape(-1, 1),
        prints.reshape(-1, 6),
    ]
    table = np.ascontiguousarray(np.concatenate(columns, axis=1).T.astype(np.float32))
    fields = np.take(table, part, axis=1)
    (xx, xy, xz, yx, yy, yz, zx, zy, zz, u0, v0, w0, su, sv, sw, g, lu, lv, lw, end) = fields[:20]
    pattern = fields[20:]

    crop, place = np.divmod(pixel, size * size)
    row, column = np.divmod(place, size)
    px = ((grid.x0[:, None] + grid.dx[:, None] * np.arange(size)).astype(np.float32)).ravel()[crop * size + column]
    py = ((grid.y0[:, None] + grid.dy[:, None] * np.arange(size)).astype(np.float32)).ravel()[crop * size + row]
    px *= depth
    py *= depth
    u = xx * px + xy * py + xz * depth - u0
    v = yx * px + yy * py + yz * depth - v0
    w = zx * px + zy * py + zz * depth - w0

    nu, nv, nw = u * su, v * sv, w * sw + g
    facing = (nu * lu + nv * lv + nw * lw) / np.sqrt(nu * nu + nv * nv + nw * nw)
    ambient = np.array([a.ambient for a in looks], np.float32)[crop]
    shade = ambient + (1 - ambient) * np.maximum(facing, 0)

    side = np.abs(u)
    lines = np.floor(pattern[0] * side + pattern[1] * w + pattern[2])
    lines += np.floor(pattern[3] * side + pattern[4] * w + pattern[5])
    printed = lines.astype(np.int64) & 1
    slot = part - crop * count
    colour = _PART_COLOURS.ravel()[slot * 3 + np.where(w > end, 2, printed)]
    opening = np.array([a.opening for a in looks], np.float32)[crop]
    open_front = np.isin(np.arange(count), _OPEN)[slot] & (side < opening) & (v > 0)
    colour[open_front] = COLOUR["vest"]
    head = np.flatnonzero(slot == _HEAD)
    hair = np.array([a.hair for a in looks], np.float32)[crop[head]]
    radii = (np.sqrt(s[head]) for s in (su, sv, sw))
    colour[head] = _face(*(c[head] * r for c, r in zip((u, v, w), radii, strict=True)), hair)

    palette = np.concatenate([a.palette for a in looks])
    return (palette[crop * len(looks[0].palette) + colour] * shade[:, None]).astype(np.uint8)


def _reflected(index: np.ndarray, size: int) -> np.ndarray:
    """Fold any integer into 0..size-1, mirrored at the borders."""
    index = np.mod(index, 2 * size)
    return np.where(index < size, index, 2 * size - 1 - index)


def _scenes(K: np.ndarray, boxes: np.ndarray, looks: Sequence[Appearance], size: int) -> np.ndarray:
    """Backgrounds (B, S, S, 3) uint8: each view's scene, still while the box moves over it."""
    pixels = np.repeat(np.arange(size)[None, :, None], 2, axis=2) * np.ones((len(boxes), 1, 1))
    scale = BACKGROUND_SIZE / (2 * K[:, :2, 2].max(axis=1))  # the principal point is near the image's middle
    texels = np.floor(crop_to_image(pixels, boxes, size) * scale[:, None, None]).astype(np.int64)
    texels += np.array([a.offset for a in looks])[:, None]
    texels = _reflected(texels, BACKGROUND_SIZE)
    packed = np.empty((len(boxes), size, size), np.uint32)
    for image, look, (column, row) in zip(packed, looks, texels.transpose(0, 2, 1), strict=True):
        image[:] = background(look.background, look.split)[row].take(column, axis=1)
    return unpacked(packed)


def _paint_occluders(images: np.ndarray, occluders: np.ndarray, boxes: np.ndarray, looks: Sequence[Appearance]) -> None:
    """Draw textured rectangles (B, M, 4) image px over the images, in place; a texture moves with its rectangle."""
    size = images.shape[1]
    corners = image_to_crop(occluders.reshape(len(boxes), -1, 2), boxes, size).reshape(occluders.shape)
    present = np.isfinite(corners).all(axis=-1)
    for crop, index in zip(*np.nonzero(present), strict=True):
        x0, y0, x1, y1 = corners[crop, index]
        columns, rows = (
            np.arange(max(int(np.ceil(low)), 0), min(int(np.floor(high)) + 1, size))
            for low, high in ((x0, x1), (y0, y1))
        )
        step = boxes[crop, 2] / size / TEXEL
        texture = occluder_texture((*looks[crop].seed, int(index)), looks[crop].split)
        v, u = (((i - low) * step).astype(int) % OCCLUDER_SIZE for i, low in ((rows, y0), (columns, x0)))
        if rows.size and columns.size:
            images[crop, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = unpacked(texture[v][:, u])


@lru_cache(maxsize=1)
def _noise_bank() -> np.ndarray:
    """Standard normals in units of 1 / NOISE_UNIT, cut at four deviations, int16."""
    values = np.random.default_rng(0).standard_normal(NOISE_LENGTH, np.float32)
    return (np.clip(values, -4, 4) * NOISE_UNIT).astype(np.int16)


def _expose(images: np.ndarray, looks: Sequence[Appearance], frames: np.ndarray) -> np.ndarray:
    """The camera: blur by passes of (1, 2, 1) each way, then noise drawn from (seed, frame)."""
    values = images.astype(np.int16)
    passes = np.array([a.blur for a in looks])
    for level in range(passes.max()):
        chosen = np.flatnonzero(passes > level)
        picked = values[chosen] if len(chosen) < len(values) else values
        for _ in range(2):
            inner = picked[:, 1:-1]
            picked[:, 1:-1] = (picked[:, :-2] + picked[:, 2:] + 2 * inner + 2) >> 2
            picked = picked.swapaxes(1, 2)
        values[chosen] = picked
    bank = _noise_bank()
    length = values[0].size
    for image, look, frame in zip(values, looks, frames, strict=True):
        offset = np.random.default_rng([*look.seed, int(frame), 3]).integers(NOISE_LENGTH - length)
        sigma = np.int16(round(look.noise * 16))
        image += ((bank[offset : offset + length] * sigma) >> 9).reshape(image.shape)
    return np.clip(values, 0, 255).astype(np.uint8)


def render_crops(
    joints: np.ndarray,
    K: np.ndarray,
    boxes: np.ndarray,
    appearances: Sequence[Appearance],
    frames: np.ndarray,
    size: int,
    occluders: np.ndarray | None = None,
) -> np.ndarray:
    """Render people into square crops.

    joints (B, 17, 3), m, camera frame; K (3, 3) or (B, 3, 3); boxes (B, 3) centre x, centre y, side, image px;
    frames (B,) number of each frame, which its noise depends on; size of the crops, px; occluders (B, M, 4) x0, y0,
    x1, y1 in image px, NaN where absent, drawn in front. Returns RGB (B, size, size, 3) uint8.
    """
    joints, boxes = np.asarray(joints, np.float64), np.asarray(boxes, np.float64)
    K = np.broadcast_to(np.asarray(K, np.float64), (len(joints), 3, 3))
    images = np.empty((len(joints), size, size, 3), np.uint8)
    for begin in range(0, len(joints), CHUNK):
        part = slice(begin, begin + CHUNK)
        looks, canvas = appearances[part], images[part]
        canvas[:] = _scenes(K[part], boxes[part], looks, size)
        parts = body(joints[part], np.array([a.girths for a in looks]))
        grid = Grid.of(K[part], boxes[part], size)
        found = surface(parts, grid)
        canvas.reshape(-1, 3)[found[0]] = _shade(parts, grid, looks, *found)
        if occluders is not None:
            _paint_occluders(canvas, np.asarray(occluders[part], np.float64), boxes[part], looks)
        canvas[:] = _expose(canvas, looks, frames[part])
    return images


def pinhole_joints(joints: np.ndarray, joints2d: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Joints (F, 17, 3), m, moved at their depth so that K alone, without distortion, projects them to joints2d."""
    depth = joints[..., 2:]
    focal, centre = K[[0, 1], [0, 1]], K[:2, 2]
    return np.concatenate([(joints2d - centre) / focal * depth, depth], axis=-1)


def view_frames(clip: Clip, view_name: str, boxes: np.ndarray, frames: np.ndarray, size: int, split: str) -> np.ndarray:
    """Render frames (n,) of a view into crops: RGB (n, size, size, 3) uint8.

    boxes (F, 3) px of the whole clip. Body, clothes and scene come from the view's seed and stay the same in all its
    frames; the view's occluders are in front.
    """
    view = clip.views[view_name]
    K = clip.cameras[view.camera].K
    return render_crops(
        pinhole_joints(clip.camera_joints(view_name)[frames], view.joints2d[frames], K),
        K,
        boxes[frames],
        [sample_appearance(view.seed, split)] * len(frames),
        frames,
        size,
        None if view.occluders is None else view.occluders[frames],
    )


# --- the stage: labelled images for the 2D estimator ----------------------------------------------------------------

PARAMS = {
    "selections": list,
    "images": int,
    "size": int,
    "map_size": int,
    "margin": float,
    "crop_jitter": dict,
    "training_occluders": float,
    "split": str,
    "seed": int,
}
"""The stage's parameters: which views, how many images, their and the labels' resolution, the person's box (see
`isopose.labelled_images.jittered`), the share of images with occluders, and which looks."""

BLOCK = 256  # images rendered and written at once
SCENES = 256  # different backgrounds in a file, as many as are kept in memory


def training_occluders(boxes: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Random rectangles (N, 2, 4) px over the boxes (N, 3), NaN where absent: this share of boxes gets one or two.

    Sides are 0.1 to 0.45 of the box, centres anywhere in it.
    """
    shape = (len(boxes), 2, 2)
    side = boxes[:, None, 2:]
    centre = boxes[:, None, :2] + side * rng.uniform(-0.5, 0.5, shape)
    half = side * rng.uniform(0.1, 0.45, shape) / 2
    rectangles = np.concatenate([centre - half, centre + half], axis=-1)
    count = (rng.random(len(boxes)) < share) * rng.integers(1, 3, len(boxes))
    rectangles[np.arange(2) >= count[:, None]] = np.nan
    return rectangles


def draw_frames(stores: dict[str, Path], params: dict[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw views with equal odds, and in each a frame: what is known of N frames, as arrays of N rows.

    joints (17, 3) m camera frame, joints2d (17, 2) image px, visible (17) bool, K (3, 3), box (3) px, head_size px in
    the image, own (M, 4) px occluders of the view itself, and source, clip, view, subject, frame.
    """
    keys = select(stores, params["selections"])
    chosen = rng.integers(len(keys), size=params["images"])
    place = rng.random(params["images"])
    rows: list[dict[str, Any]] = [{} for _ in chosen]
    for (source, clip_id), views in groupby(np.unique(chosen), key=lambda index: keys[index][:2]):
        with SequenceStore(stores[source]) as store:
            clip = store.read(clip_id)
        for index in views:
            labels = _labelled_view(clip, keys[index], params["margin"], stores[source])
            for image in np.flatnonzero(chosen == index):
                frame = int(place[image] * len(clip.joints3d))
                rows[image] = {name: values[frame] for name, values in labels.items()}
                rows[image] |= keys[index]._asdict() | {"subject": clip.subject, "frame": frame}
    most = max(len(row["own"]) for row in rows)
    for row in rows:
        row["own"] = np.pad(row["own"], ((0, most - len(row["own"])), (0, 0)), constant_values=np.nan)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _labelled_view(clip: Clip, key: ViewKey, margin: float, path: Path) -> dict[str, np.ndarray]:
    """What `draw_frames` tells of a view, for all F frames."""
    view = clip.views[key.view]
    if view.visible is None:
        raise UserError(f"{path}: view '{key}' has no visibility; expected a labelled store; run the labelling first")
    camera, joints = clip.cameras[view.camera], clip.camera_joints(key.view)
    frames = len(joints)
    return {
        "joints": pinhole_joints(joints, view.joints2d, camera.K),
        "joints2d": view.joints2d,
        "visible": view.visible,
        "K": np.broadcast_to(camera.K, (frames, 3, 3)),
        "box": boxes_around(view.joints2d, margin),
        "head_size": head_size(joints, camera),
        "own": np.empty((frames, 0, 4)) if view.occluders is None else view.occluders,
    }


def render_images(stores: dict[str, Path], output: Path, params: dict[str, Any]) -> None:
    """Draw, render and write labelled images (docs/rendering.md has the layout)."""
    check_split(params["split"])
    count, size, map_size, seed = (params[name] for name in ("images", "size", "map_size", "seed"))
    rng = np.random.default_rng([seed, params["split"] == "test", 4])
    drawn = draw_frames(stores, params, rng)
    boxes = jittered(drawn["box"], params["crop_jitter"], rng)
    occluders = np.concatenate([drawn["own"], training_occluders(boxes, params["training_occluders"], rng)], axis=1)
    scenes = seed * SCENES + rng.integers(SCENES, size=count)
    visible = drawn["visible"] & ~covered(drawn["joints2d"], occluders)
    labelled = np.ones_like(visible)
    labels = crop_labels(drawn["joints2d"], visible, labelled, drawn["head_size"], boxes, map_size)
    labels["frame"] = drawn["frame"]
    labels |= {name: drawn[name].astype("S") for name in ("source", "clip", "view", "subject")}
    with create(output, (count, size), labels, split=params["split"], map_size=map_size) as images:
        for begin in stage.track_progress(range(0, count, BLOCK), "rendering"):
            block = np.arange(begin, min(begin + BLOCK, count))
            looks = [sample_appearance((seed, int(i)), params["split"], int(scenes[i])) for i in block]
            images[block[0] : block[-1] + 1] = render_crops(
                drawn["joints"][block], drawn["K"][block], boxes[block], looks, block, size, occluders[block]
            )


app = typer.Typer(add_completion=False)


@app.command()
def main(
    store: list[str] = stage.STORE_OPTION,
    output: Path = typer.Option(..., help="Labelled images (HDF5)."),
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Render labelled images of people from the selected views."""
    render_images(stage.parse_named(store), output, stage.parse_params(params, PARAMS))


if __name__ == "__main__":
    stage.run(app)
