"""Speed of inference stage optimisation: 64 clips of 64 frames in one batch against one clip at a time."""

import numpy as np
import pytest
import torch

from isopose.iso.optimise import optimise
from isopose.iso.weights import weighting

CLIPS = FRAMES = 64


@pytest.fixture(scope="module")
def arrays():
    """Poses, keypoints (heatmap pixels) and confidence of all clips."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 0.3, (CLIPS, 1, 17, 3)) + 0.1 * np.sin(np.arange(FRAMES) / 15)[:, None, None]
    pose = truth + rng.normal(0, 0.03, truth.shape)
    keypoints = 32 + 25 * truth[..., :2] + rng.normal(0, 1, (*truth.shape[:-1], 2))
    confidence = rng.uniform(size=truth.shape[:-1])
    flat = [array.reshape(CLIPS * FRAMES, *array.shape[2:]) for array in (pose, keypoints, confidence)]
    return [array.astype(np.float32) for array in flat]


def test_one_batch_against_one_clip_at_a_time(compare, arrays):
    soft = weighting("soft", sigma=1.0)

    def batch():
        return optimise(*arrays, lengths=[FRAMES] * CLIPS, weighting=soft).pose

    def one_clip_at_a_time():
        clips = zip(*(np.split(array, CLIPS) for array in arrays), strict=True)
        return np.concatenate([optimise(*clip, weighting=soft).pose for clip in clips])

    result, expected = compare(batch, one_clip_at_a_time, wanted=8, rounds=1)
    # Adam divides by the gradient's size, so rounding may move a coordinate whose gradient is nearly zero.
    assert np.median(np.abs(result - expected)) < 1e-5
