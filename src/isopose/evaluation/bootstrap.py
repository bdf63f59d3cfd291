"""Bootstrap confidence intervals that resample clips, because the frames and views of a clip are not independent."""

import numpy as np


def interval(
    sums: np.ndarray,
    counts: np.ndarray,
    clips: np.ndarray,
    actions: np.ndarray,
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of the mean error over actions.

    Args:
        sums: summed errors `(N,)` of groups of frames.
        counts: frames `(N,)` of the groups.
        clips: clip `(N,)` each group belongs to; whole clips are drawn with replacement.
        actions: action `(N,)` of each group; an action that a resample misses does not count in it. With one action
            for all, the interval is that of the mean over frames.
        resamples: number of resamples.
        seed: of the generator.
        level: share of the resamples inside the interval.
    """
    clip_names, row = np.unique(clips, return_inverse=True)
    action_names, column = np.unique(actions, return_inverse=True)
    totals = np.zeros((2, len(clip_names), len(action_names)))
    np.add.at(totals, (slice(None), row, column), np.stack([sums, counts]))
    even = np.full(len(clip_names), 1 / len(clip_names))
    drawn = np.random.default_rng(seed).multinomial(len(clip_names), even, size=resamples)
    errors, frames = drawn @ totals
    means = np.ma.masked_array(errors, frames == 0) / np.where(frames == 0, 1, frames)
    tail = (1 - level) / 2
    low, high = np.quantile(means.mean(axis=1).compressed(), [tail, 1 - tail])
    return float(low), float(high)
