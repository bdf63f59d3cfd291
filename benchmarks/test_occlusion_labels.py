"""Speed of the Cylinder Man labels."""

import numpy as np
import pytest
from reference import cylinder_man as reference

from isopose.occlusion.cylinder_man import visibility


@pytest.fixture(scope="module")
def frames():
    """Joints (20000, 17, 3), m, about 4 m before the camera, spread like a person's."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(20_000, 17, 3)) * [0.2, 0.5, 0.2] + [0, 0, 4]).astype(np.float32)


def test_labels_against_a_loop_over_joints(compare, frames):
    few = len(frames) // 200
    result, expected = compare(
        lambda: visibility(frames), lambda: reference.by_loop(frames[:few]), wanted=100, scale=200, rounds=1
    )
    assert (result[:few] == expected).mean() > 0.999


def test_labels_against_plain_numpy(compare, frames):
    result, expected = compare(lambda: visibility(frames), lambda: reference.broadcast(frames), wanted=1)
    assert (result == expected).mean() > 0.999
