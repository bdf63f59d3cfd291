"""Pillars and boxes that cross in front of the person in a view, as rectangles of the image."""

from dataclasses import dataclass

import numpy as np

from isopose.datasets.sources import generator


@dataclass(frozen=True)
class Occluders:
    """How many, how long, how large.

    per_second: occluders that start in a second of a clip (at least one a clip); seconds: shortest and longest time an
    occluder is in the image (logarithmically uniform); pillar_share: share that are pillars, from top to bottom of the
    image, the others are boxes; width, height: of an occluder, as shares of the person's height in the image (a pillar
    has half the width).
    """

    per_second: float = 0.6
    seconds: tuple[float, float] = (0.06, 2.0)
    pillar_share: float = 0.4
    width: tuple[float, float] = (0.15, 0.5)
    height: tuple[float, float] = (0.2, 0.55)


def draw_occluders(
    joints2d: np.ndarray, fps: float, image_size: tuple[int, int], settings: Occluders, *seed: object
) -> np.ndarray:
    """Rectangles (F, M, 4) px, x0 y0 x1 y1, NaN where absent: column m is one occluder, present in one run of frames.

    joints2d (F, 17, 2) px. An occluder moves in a straight line at even speed from one side of the person to the other
    while it is present, so a long one hides a joint for long and a short one for a few frames.
    """
    rng = generator("occluders", *seed)
    frames = len(joints2d)
    count = max(1, round(settings.per_second * frames / fps))
    low, high = joints2d.min(axis=1), joints2d.max(axis=1)
    rectangles = np.full((frames, count, 4), np.nan, np.float32)
    for column in range(count):
        seconds = np.exp(rng.uniform(*np.log(settings.seconds)))
        length = int(np.clip(round(seconds * fps), 1, frames))
        start = int(rng.integers(0, frames - length + 1))
        run = np.arange(start, start + length)
        size = (high - low)[run].mean(axis=0)
        pillar = rng.random() < settings.pillar_share
        half_width = size[1] * rng.uniform(*settings.width) * (0.25 if pillar else 0.5)
        sweep = rng.uniform(0.1, 0.6) * size[0] * rng.choice([-1, 1])
        ends = (low + high)[run[[0, -1]]] / 2
        x = np.linspace(ends[0, 0] - sweep, ends[1, 0] + sweep, length)
        if pillar:
            top, bottom = np.zeros(length), np.full(length, image_size[1] - 1.0)
        else:
            half_height = size[1] * rng.uniform(*settings.height) / 2
            level = rng.uniform(0.1, 0.9)
            y = np.linspace(*((1 - level) * low + level * high)[run[[0, -1]], 1], length)
            top, bottom = y - half_height, y + half_height
        rectangles[run, column] = np.stack([x - half_width, top, x + half_width, bottom], axis=1)
    return rectangles


def occlusion_seconds(rectangles: np.ndarray, fps: float) -> np.ndarray:
    """Seconds (F, M) that the occluder present in a frame stays; 0 where none is."""
    present = np.isfinite(rectangles[..., 0])
    return present * (present.sum(axis=0) / fps)
