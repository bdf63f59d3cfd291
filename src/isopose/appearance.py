"""How rendered people, scenes and occluders look: everything drawn from a seed, apart for the two splits.

Nothing here knows about poses or pixels of a crop; `isopose.rendering` paints with it. What the test split shows
is unseen in training: girths and hues come from disjoint intervals, patterns and textures from disjoint families.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from isopose.errors import UserError

Generator = np.random.Generator
Interval = tuple[float, float]

PALETTE = ("skin", "shirt", "shirt_print", "trousers", "trousers_print", "shoes", "hair", "eyes", "vest")
COLOUR = {name: index for index, name in enumerate(PALETTE)}
GIRTHS = ("arms", "legs", "torso_width", "torso_depth", "head")

# The test intervals lie between and beyond those of training: new bodies and colours, yet the same kind of person.
GIRTH_INTERVALS: dict[str, tuple[Interval, ...]] = {
    "train": ((0.78, 0.92), (1.00, 1.12)),
    "test": ((0.92, 1.00), (1.12, 1.20)),
}
HUE_INTERVALS: dict[str, tuple[Interval, ...]] = {
    "train": ((0.00, 0.16), (0.25, 0.41), (0.50, 0.66), (0.75, 0.91)),
    "test": ((0.16, 0.25), (0.41, 0.50), (0.66, 0.75), (0.91, 1.00)),
}
CLOTHES = {"train": ("plain", "hoops", "checks"), "test": ("pinstripes", "chevrons", "diamonds")}
BACKGROUNDS = {
    "train": ("gradient", "noise", "rectangles", "stripes"),
    "test": ("tiles", "discs", "waves", "cells"),
}
OCCLUDERS = {"train": ("brushed", "bands"), "test": ("bricks", "spots")}

BACKGROUND_SIZE = 256  # texels across the larger side of the image
OCCLUDER_SIZE = 64  # texels of an occluder's repeating texture


@dataclass(frozen=True)
class Appearance:
    """Body, clothes, light, scene and camera of one view.

    girths: factors by `GIRTHS`. palette: (9, 3) RGB 0..255 by `PALETTE`. shirt, trousers: (2, 3) rows
    (across, along, phase) of a pattern, see `sample_pattern`. sleeve, leg: how far cloth reaches, 0 at shoulder
    or hip, 1 at elbow or knee, 2 at wrist or ankle. opening: half the width of the light vest that shows down the
    front of the open shirt, m: it tells front from back, not left from right. hair: lowest hair at the back of
    the head, in half heads.
    light: unit vector toward the light, camera frame. ambient: share of light without direction. background:
    seed of the scene. offset: (2,) shift into the scene, texels. noise: standard deviation of a pixel, 0..255.
    blur: passes of a (1, 2, 1) filter.
    """

    seed: tuple[int, ...]
    split: str
    girths: np.ndarray
    palette: np.ndarray
    shirt: np.ndarray
    trousers: np.ndarray
    sleeve: float
    leg: float
    opening: float
    hair: float
    light: np.ndarray
    ambient: float
    background: int
    offset: np.ndarray
    noise: float
    blur: int


def check_split(split: str) -> None:
    """Refuse a split that is neither train nor test."""
    if split not in GIRTH_INTERVALS:
        raise UserError(f"split: unknown value '{split}'; expected 'train' or 'test'")


def sample_from(rng: Generator, intervals: tuple[Interval, ...]) -> float:
    """A number uniform over the union of some intervals."""
    lengths = [high - low for low, high in intervals]
    position = rng.uniform(0, sum(lengths))
    for (low, _), length in zip(intervals, lengths, strict=True):
        if position < length:
            return low + position
        position -= length
    return intervals[-1][1]


def sample_pattern(rng: Generator, family: str) -> np.ndarray:
    """Pattern of a garment: (2, 3) rows (across, along, phase) of two families of lines, in lines a metre.

    The print shows where floor(across * |u| + along * w + phase), summed over both rows, is odd; u is the distance
    from the middle of a body part and w that along it, in metres. |u| makes every pattern mirror symmetric.
    """
    lines = rng.uniform(9, 28)
    rows = {
        "plain": ((0, 0), (0, 0)),
        "hoops": ((0, lines), (0, 0)),
        "checks": ((lines, 0), (0, lines)),
        "pinstripes": ((lines, 0), (0, 0)),
        "chevrons": ((lines, lines), (0, 0)),
        "diamonds": ((lines, lines), (lines, -lines)),
    }[family]
    # Phases inside one cell keep the rest term even, so that 'plain' has no print at all.
    return np.column_stack([rows, rng.uniform(0, 1, 2)])


def sample_colour(rng: Generator, intervals: tuple[Interval, ...]) -> np.ndarray:
    """RGB 0..255 with a hue of the given intervals and enough saturation for the hue to count."""
    hue = sample_from(rng, intervals)
    return 255 * np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.25, 0.95), rng.uniform(0.2, 0.95)))


def sample_palette(rng: Generator, split: str) -> np.ndarray:
    """Colours (9, 3) by `PALETTE`; the hues of clothes depend on the split, skin, hair and shoes do not."""
    tone = rng.uniform()
    skin = (1 - tone) * np.array([244, 205, 176.0]) + tone * np.array([88, 56, 40.0])
    hair = rng.uniform(0.3, 1.0) * np.array([[150, 105, 60], [70, 50, 40], [190, 175, 150]][rng.integers(3)])
    if abs(hair.mean() - skin.mean()) < 60:  # a back of a head must not look like a face
        hair *= 0.3
    hues = HUE_INTERVALS[split]
    shirt, trousers = (sample_colour(rng, hues) for _ in range(2))
    shirt *= min(1, 150 / shirt.max())  # darker than the vest
    contrast = rng.uniform(0.35, 0.8, 2)
    prints = [
        c * (1 - k) if c.mean() > limit else c + (255 - c) * k
        for c, k, limit in zip((shirt, trousers), contrast, (60, 110), strict=True)
    ]
    shoes = np.full(3, rng.uniform(15, 235)) + rng.uniform(-12, 12, 3)
    eyes = np.full(3, 25.0)
    vest = rng.uniform(205, 250) + rng.uniform(-12, 12, 3)
    rows = [skin, shirt, prints[0], trousers, prints[1], shoes, hair, eyes, vest]
    return np.clip(rows, 0, 255).astype(np.float32)


def sample_appearance(seed: int | tuple[int, ...], split: str, background: int | None = None) -> Appearance:
    """Draw the appearance of a view. background: seed of the scene; drawn too where None."""
    check_split(split)
    key = (seed,) if isinstance(seed, int | np.integer) else tuple(seed)
    rng = np.random.default_rng([*key, split == "test"])
    girths = np.array([sample_from(rng, GIRTH_INTERVALS[split]) for _ in GIRTHS])
    girths[4] = 1 + (girths[4] - 1) / 3  # heads vary less than limbs
    shirt, trousers = (sample_pattern(rng, CLOTHES[split][rng.integers(3)]) for _ in range(2))
    light = rng.normal(size=3) + np.array([0, -1.0, -1.2])  # mostly from above and from the camera's side
    return Appearance(
        seed=key,
        split=split,
        girths=girths,
        palette=sample_palette(rng, split),
        shirt=shirt,
        trousers=trousers,
        sleeve=rng.choice([0.45, 0.7, 2.0]) * rng.uniform(0.9, 1.0),
        leg=rng.choice([0.8, 2.0], p=[0.3, 0.7]) * rng.uniform(0.9, 1.0),
        opening=rng.uniform(0.04, 0.07),
        hair=rng.uniform(-0.9, 0.1),
        light=light / np.linalg.norm(light),
        ambient=rng.uniform(0.35, 0.65),
        background=int(rng.integers(2**31)) if background is None else background,
        offset=rng.integers(0, BACKGROUND_SIZE, 2),
        noise=rng.uniform(1, 9),
        blur=int(rng.integers(1, 3)),
    )


# --- textures: each takes a generator and a size and gives (size, size, 3) RGB, 0..255 -----------------------------


def _colour(rng: Generator) -> np.ndarray:
    """Any colour, greys included (scenes, unlike clothes, share their hues)."""
    return 255 * np.array(colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0, 0.7), rng.uniform(0.1, 0.95)))


def _smooth(rng: Generator, size: int, cells: int, channels: int = 1) -> np.ndarray:
    """Random values at (cells + 1)^2 nodes, linear in between: (size, size, channels) float32, in -1..1."""
    nodes = rng.uniform(-1, 1, (cells + 1, cells + 1, channels)).astype(np.float32)
    position = np.linspace(0, cells, size, endpoint=False, dtype=np.float32)
    low = position.astype(int)
    share = (position - low)[:, None]
    rows = nodes[low] + (nodes[low + 1] - nodes[low]) * share[..., None]
    return rows[:, low] + (rows[:, low + 1] - rows[:, low]) * share


def _noise(rng: Generator, size: int) -> np.ndarray:
    """Noise at several scales over one colour, brighter and darker more than coloured."""
    image = np.broadcast_to(_colour(rng).astype(np.float32), (size, size, 3)).copy()
    for cells in (3, 9, 27, size // 4):
        image += rng.uniform(3, 35) * _smooth(rng, size, cells)
    image += rng.uniform(0, 40) * _smooth(rng, size, int(rng.choice([5, 15, 45])), 3)
    return image


def _gradient(rng: Generator, size: int) -> np.ndarray:
    """One colour running into another across the scene, a floor below."""
    y, x = np.mgrid[0:size, 0:size] / size
    angle = rng.uniform(0, 2 * np.pi)
    share = (0.5 + 0.5 * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)))[..., None]
    image = share * _colour(rng) + (1 - share) * _colour(rng)
    image[int(size * rng.uniform(0.5, 0.8)) :] *= rng.uniform(0.5, 0.9)
    return image


def _rectangles(rng: Generator, size: int) -> np.ndarray:
    """Clutter of upright rectangles, many of them as slim as a limb."""
    image = _gradient(rng, size)
    for _ in range(rng.integers(20, 70)):
        height, width = (size * rng.uniform(0.02, 0.35, 2) ** rng.uniform(1, 1.6, 2)).astype(int) + 2
        top, left = rng.integers(-height // 2, size), rng.integers(-width // 2, size)
        image[max(top, 0) : top + height, max(left, 0) : left + width] = _colour(rng)
    return image


def _stripes(rng: Generator, size: int) -> np.ndarray:
    """Straight bars of two colours at any angle over a gradient."""
    y, x = np.mgrid[0:size, 0:size]
    angle, period = rng.uniform(0, np.pi), rng.uniform(size / 40, size / 6)
    phase = (np.cos(angle) * x + np.sin(angle) * y) / period % 1
    share = rng.uniform(0.3, 1.0) * (phase < rng.uniform(0.2, 0.8))[..., None]
    return (1 - share) * _gradient(rng, size) + share * _colour(rng)


def _tiles(rng: Generator, size: int) -> np.ndarray:
    """Square tiles of a few colours with joints between them."""
    count = int(rng.integers(6, 24))
    colours = np.array([_colour(rng) for _ in range(4)])
    cell = np.arange(size) * count // size
    image = colours[rng.integers(4, size=(count, count))][cell][:, cell]
    joint = np.arange(size) * count % size < count * 2
    image[joint] *= 0.6
    image[:, joint] *= 0.6
    return image


def _discs(rng: Generator, size: int) -> np.ndarray:
    """Clutter of discs and rings."""
    image = np.broadcast_to(_colour(rng), (size, size, 3)).copy()
    for _ in range(rng.integers(15, 50)):
        radius = size * rng.uniform(0.02, 0.15)
        centre = rng.uniform(0, size, 2)
        low = np.maximum(centre - radius, 0).astype(int)
        high = np.minimum(centre + radius + 1, size).astype(int)
        y, x = np.mgrid[low[0] : high[0], low[1] : high[1]]
        distance = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
        inside = (distance < radius**2) & (distance >= (radius * rng.choice([0, 0.6])) ** 2)
        image[low[0] : high[0], low[1] : high[1]][inside] = _colour(rng)
    return image


def _waves(rng: Generator, size: int) -> np.ndarray:
    """Interfering sine waves between two colours."""
    y, x = np.mgrid[0:size, 0:size] / size
    total = np.zeros((size, size))
    for fx, fy in rng.normal(0, 6, (4, 2)):
        total += np.sin(2 * np.pi * (fx * x + fy * y + rng.uniform()))
    share = (0.5 + total / 8)[..., None]
    return share * _colour(rng) + (1 - share) * _colour(rng)


def _cells(rng: Generator, size: int) -> np.ndarray:
    """Voronoi cells of random colours."""
    coarse = size // 2
    seeds = rng.uniform(0, coarse, (int(rng.integers(15, 45)), 2))
    y, x = np.mgrid[0:coarse, 0:coarse]
    nearest = np.zeros((coarse, coarse), int)
    best = np.full((coarse, coarse), np.inf)
    for index, (row, column) in enumerate(seeds):
        distance = (y - row) ** 2 + (x - column) ** 2
        nearest[distance < best] = index
        best = np.minimum(best, distance)
    colours = np.array([_colour(rng) for _ in seeds])
    return colours[nearest].repeat(2, 0).repeat(2, 1)


def _brushed(rng: Generator, size: int) -> np.ndarray:
    """One colour with fine upright grain."""
    return _colour(rng) + rng.normal(0, rng.uniform(2, 14), (1, size, 1)) + rng.normal(0, 3, (size, size, 1))


def _bands(rng: Generator, size: int) -> np.ndarray:
    """Level bands of two colours."""
    band = (np.arange(size) * int(rng.integers(2, 9)) // size % 2)[:, None, None]
    return np.broadcast_to(np.where(band, _colour(rng), _colour(rng)), (size, size, 3))


def _bricks(rng: Generator, size: int) -> np.ndarray:
    """Courses of bricks, each shifted by half a brick."""
    y, x = np.mgrid[0:size, 0:size]
    height = size // int(rng.integers(4, 9))
    course = y // height
    joint = (y % height == 0) | ((x + course % 2 * height) % (2 * height) == 0)
    tint = 1 + 0.15 * _smooth(rng, size, 8)
    return np.where(joint[..., None], _colour(rng), _colour(rng) * tint)


def _spots(rng: Generator, size: int) -> np.ndarray:
    """Round spots on a lattice."""
    period = size / int(rng.integers(3, 8))
    y, x = np.mgrid[0:size, 0:size] % period / period - 0.5
    return np.where((x**2 + y**2 < rng.uniform(0.04, 0.14))[..., None], _colour(rng), _colour(rng))


TEXTURES: dict[str, Callable[[Generator, int], np.ndarray]] = {
    "gradient": _gradient,
    "noise": _noise,
    "rectangles": _rectangles,
    "stripes": _stripes,
    "tiles": _tiles,
    "discs": _discs,
    "waves": _waves,
    "cells": _cells,
    "brushed": _brushed,
    "bands": _bands,
    "bricks": _bricks,
    "spots": _spots,
}


def packed(image: np.ndarray) -> np.ndarray:
    """RGB (H, W, 3) as one uint32 a texel (H, W): a crop then costs one gather instead of three."""
    texels = np.zeros((*image.shape[:2], 4), np.uint8)
    texels[..., :3] = np.clip(image, 0, 255)
    return texels.view(np.uint32)[..., 0]


@lru_cache(maxsize=256)
def background(seed: int, split: str) -> np.ndarray:
    """The scene behind a person: packed texels (BACKGROUND_SIZE, BACKGROUND_SIZE) uint32, see `unpacked`."""
    rng = np.random.default_rng([seed, split == "test", 1])
    families = BACKGROUNDS[split]
    image = TEXTURES[families[rng.integers(len(families))]](rng, BACKGROUND_SIZE)
    shade = 1 + rng.uniform(0, 0.35) * _smooth(rng, BACKGROUND_SIZE, 4)
    return packed(image * shade)


@lru_cache(maxsize=256)
def occluder_texture(seed: tuple[int, ...], split: str) -> np.ndarray:
    """The repeating surface of an occluder: packed texels (OCCLUDER_SIZE, OCCLUDER_SIZE) uint32."""
    rng = np.random.default_rng([*seed, split == "test", 2])
    families = OCCLUDERS[split]
    return packed(TEXTURES[families[rng.integers(len(families))]](rng, OCCLUDER_SIZE))


def unpacked(texels: np.ndarray) -> np.ndarray:
    """Packed texels (...) uint32 as RGB (..., 3) uint8."""
    return np.ascontiguousarray(texels).view(np.uint8).reshape(*texels.shape, 4)[..., :3]
