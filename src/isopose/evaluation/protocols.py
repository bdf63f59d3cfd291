"""How the field averages errors: over frames, and over actions (each action counting the same, as in the paper)."""

import numpy as np


def over_frames(sums: np.ndarray, counts: np.ndarray) -> float:
    """Mean error a frame from the summed errors `(N,)` and frame counts `(N,)` of groups of frames."""
    return float(np.sum(sums) / np.sum(counts))


def over_actions(sums: np.ndarray, counts: np.ndarray, actions: np.ndarray) -> float:
    """Mean over the actions of the mean error of their frames; actions `(N,)` are the groups' names.

    An action without a counted frame is left out.
    """
    names, index = np.unique(actions, return_inverse=True)
    total, frames = (np.bincount(index, values, len(names)) for values in (sums, counts))
    return float(np.mean(total[frames > 0] / frames[frames > 0]))
