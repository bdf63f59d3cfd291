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
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
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
from isopose.datasets.store import Clip, SequenceStore, select
from isopose.errors import UserError

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
_TRIMMED = (25, 26, 27, 28)  # parts with a zip down the front
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


def cones(
    start: np.ndarray, end: np.ndarray, forward: np.ndarray, radii: np.ndarray, ratio: np.ndarray
) -> Quadrics:
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
        shoulders[:, :1], shoulders[:, 1:], chest[:, None], radii(0.052 * girths[:, 0], 0.058 * depth), np.ones((len(joints), 1))
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


def surface(parts: Quadrics, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest surface in each pixel: flat pixel index (crop, row, column), part index and depth, m.

    Only pixels that show a person are listed, in rising order. The part index runs over (B, P) flattened.
    """
    people, count = parts.reach.shape
    size = grid.size
    centre, axes, squares = parts.centre.reshape(-1, 3), parts.axes.reshape(-1, 3, 3), parts.squares.reshape(-1, 3)
    linear, half, reach = parts.linear.ravel(), parts.half.ravel(), parts.reach.ravel()
    ends = parts.ends.reshape(-1, 2, 3)
    x0, y0, dx, dy = (np.repeat(a, count) for a in (grid.x0, grid.y0, grid.dx, grid.dy))

    near = ends[..., 2].min(axis=1) - reach
    drawn = near > NEAR
    near = np.where(drawn, near, 1.0)
    depth = np.where(drawn[:, None], ends[..., 2], 1.0)
    px = (ends[..., 0] / depth - x0[:, None]) / dx[:, None]
    py = (ends[..., 1] / depth - y0[:, None]) / dy[:, None]
    radius = 1.1 * reach / (near * np.minimum(dx, dy)) + 1  # perspective widens a ball off the axis a little
    drawn &= (px.max(axis=1) + radius > 0) & (px.min(axis=1) - radius < size)
    low = np.where(drawn, np.clip(np.ceil(py.min(axis=1) - radius), 0, size), 0).astype(np.int64)
    high = np.where(drawn, np.clip(np.floor(py.max(axis=1) + radius) + 1, 0, size), 0).astype(np.int64)

    # Along a ray z d the quadric is A z^2 + 2 B z + C; with pixels counted from (mx, my) near the part, d and hence
    # B are linear in the pixel, A and the discriminant B^2 - A C quadratic.
    mx, my = (np.where(drawn, np.clip(p.mean(axis=1), 0, size), 0).astype(np.int64) for p in (px, py))
    rx, ry, r1 = (
        axes[..., 0] * dx[:, None],
        axes[..., 1] * dy[:, None],
        axes[..., 0] * (x0 + mx * dx)[:, None] + axes[..., 1] * (y0 + my * dy)[:, None] + axes[..., 2],
    )
    origin = _dot(axes, centre[:, None])
    weight = -squares * origin
    weight[:, 2] += linear / 2
    c = _dot(squares, origin**2) - linear * origin[:, 2] - 1
    bx, by, b1 = _dot(weight, rx), _dot(weight, ry), _dot(weight, r1)
    axx, axy, ayy = _dot(squares, rx * rx), _dot(squares, rx * ry), _dot(squares, ry * ry)
    ax1, ay1, a11 = _dot(squares, rx * r1), _dot(squares, ry * r1), _dot(squares, r1 * r1)

    part, y = _expand(np.maximum(high - low, 0))
    y += low[part]
    yr = (y - my[part]).astype(np.float64)
    row_b = b1[part] + by[part] * yr
    row_a1 = 2 * (ax1[part] + axy[part] * yr)
    row_a0 = a11[part] + (2 * ay1[part] + ayy[part] * yr) * yr
    row_bx, row_axx, row_c = bx[part], axx[part], c[part]
    d2 = row_bx * row_bx - row_axx * row_c
    d1 = 2 * row_b * row_bx - row_a1 * row_c
    d0 = row_b * row_b - row_a0 * row_c

    # A row's pixels: inside the conic where it is bounded, and near the segment between the part's ends.
    fall = (py[:, 1] - py[:, 0])[part]
    fall = np.where(np.abs(fall) < 1e-6, 1e-6, fall)
    offset = y - py[part, 0]
    t0, t1 = (np.clip((offset + s * radius[part]) / fall, 0, 1) for s in (-1, 1))
    run = (px[:, 1] - px[:, 0])[part]
    left = px[part, 0] + np.minimum(t0 * run, t1 * run) - radius[part]
    right = px[part, 0] + np.maximum(t0 * run, t1 * run) + radius[part]
    bounded = d2 < 0
    root = np.sqrt(np.maximum(d1 * d1 - 4 * d2 * d0, 0))
    d2_safe = np.where(bounded, 2 * d2, -1.0)
    mid = mx[part]
    left = np.where(bounded, np.maximum(left, mid + (-d1 + root) / d2_safe), left)
    right = np.where(bounded, np.minimum(right, mid + (-d1 - root) / d2_safe), right)
    first = np.clip(np.ceil(left), 0, size).astype(np.int64)
    last = np.clip(np.floor(right) + 1, 0, size).astype(np.int64)

    row, x = _expand(np.maximum(last - first, 0))
    x += first[row]
    single = np.float32
    xr = (x - mid[row]).astype(single)
    disc = (d2.astype(single)[row] * xr + d1.astype(single)[row]) * xr + d0.astype(single)[row]
    a = (row_axx.astype(single)[row] * xr + row_a1.astype(single)[row]) * xr + row_a0.astype(single)[row]
    b = row_bx.astype(single)[row] * xr + row_b.astype(single)[row]
    with np.errstate(divide="ignore", invalid="ignore"):
        z = -(b + np.sqrt(np.maximum(disc, 0))) / a
    row_w1 = (r1[:, 2][part] + ry[:, 2][part] * yr).astype(single)
    row_w0, row_half = origin[:, 2][part].astype(single), half[part].astype(single)
    along = z * (rx[:, 2][part].astype(single)[row] * xr + row_w1[row]) - row_w0[row]
    hit = (disc >= 0) & (a > 0) & (np.abs(along) <= row_half[row]) & (z > 0)

    # One integer orders by depth, then part: the bits of a positive float rise with its value.
    row_pixel = part // count * (size * size) + y * size
    pixel = (row_pixel[row] + x)[hit]
    key = z[hit].view(np.int32).astype(np.int64) << 8 | (part % count)[row][hit]
    empty = np.iinfo(np.int64).max
    buffer = np.full(people * size * size, empty)
    np.minimum.at(buffer, pixel, key)
    seen = np.flatnonzero(buffer != empty)
    winner = buffer[seen]
    slot = winner & 0xFF
    return seen, seen // (size * size) * count + slot, (winner >> 8).astype(np.int32).view(single)


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
    zipped = np.isin(np.arange(count), _TRIMMED)[slot] & (side < 0.014) & (v > 0)
    colour[zipped] = COLOUR["trim"]
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


def _paint_occluders(
    images: np.ndarray, occluders: np.ndarray, boxes: np.ndarray, looks: Sequence[Appearance]
) -> None:
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
        looks = appearances[part]
        chunk = _scenes(K[part], boxes[part], looks, size)
        chunk = np.ascontiguousarray(chunk)
        parts = body(joints[part], np.array([a.girths for a in looks]))
        grid = Grid.of(K[part], boxes[part], size)
        found = surface(parts, grid)
        chunk.reshape(-1, 3)[found[0]] = _shade(parts, grid, looks, *found)
        if occluders is not None:
            _paint_occluders(chunk, np.asarray(occluders[part], np.float64), boxes[part], looks)
        images[part] = _expose(chunk, looks, frames[part])
    return images
