"""What inference stage optimisation does whatever the motion: with exact detections, and with none to believe."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isopose.iso.optimise import optimise
from isopose.iso.projection import perspective, torso, weak_perspective
from isopose.iso.weights import weighting
from isopose.models.discriminator import Discriminator

SEEDS = st.integers(0, 2**31 - 1)
FOCAL, CENTRE = 60.0, 15.5


def scene(seed, frames, noise):
    """Estimated poses (F, 17, 3), m, float64, and the exact keypoints (F, 17, 2) of the true ones, heatmap pixels."""
    rng = np.random.default_rng(seed)
    drift = 0.05 * np.sin(np.arange(frames)[:, None, None] / 15 + rng.uniform(0, 6, (17, 3)))
    truth = rng.normal(0, 0.3, (17, 3)) + drift
    truth -= truth[:, :1]
    pose = truth + rng.normal(0, noise, truth.shape) * (np.arange(17) > 0)[:, None]
    placed = truth + [*rng.uniform(-0.5, 0.5, 2), rng.uniform(3, 6)]
    keypoints = FOCAL * placed[..., :2] / placed[..., 2:] + CENTRE
    return pose, keypoints


@settings(deadline=None, max_examples=20)
@given(
    SEEDS,
    st.integers(1, 12),
    st.floats(0.02, 0.2),
    st.sampled_from(
        [{"kind": "constant"}, {"kind": "calibrated"}, {"kind": "hard", "threshold": 0.9}]
        + [{"kind": "soft", "sigma": 1.0}, {"kind": "robust", "scale": 1.0}]
    ),
    st.sampled_from(["orth", "torso", "camera"]),
)
def test_exact_detections_of_full_confidence_never_raise_the_reprojection_error(seed, frames, noise, weights, camera):
    pose, keypoints = scene(seed, frames, noise)
    known = perspective(torch.full((frames, 2), FOCAL), torch.full((frames, 2), CENTRE))
    trace = optimise(
        pose,
        keypoints,
        np.ones((frames, 17)),
        weighting=weighting(**weights),
        iterations=25,
        smoothness=0.0,
        projection={"orth": weak_perspective, "torso": torso, "camera": known}[camera],
    ).trace
    for term in ("reprojection", "pixels"):
        assert trace[term][-1] < trace[term][0]


@settings(deadline=None, max_examples=15)
@given(
    SEEDS,
    st.integers(1, 30),
    st.sampled_from([{"kind": "confidence"}, {"kind": "hard", "threshold": 0.3}, {"kind": "soft", "sigma": 1.0}]),
)
def test_without_confidence_the_pose_is_left_to_smoothness_and_discriminator(seed, frames, weights):
    """Then it does not matter where the detections are; Orth(), which is fitted to them, is kept the same."""
    pose, keypoints = scene(seed, frames, 0.05)
    torch.manual_seed(seed)
    options = {"discriminator": Discriminator(width=8).double(), "iterations": 10, "segment_frames": 16}
    options |= {"smoothness": 1.0, "adversarial": 1.0}
    nothing = np.zeros((frames, 17))
    found, control = (
        optimise(pose, keypoints, nothing, weighting=kind, **options)
        for kind in (weighting(**weights), weighting("none"))
    )
    np.testing.assert_array_equal(found.pose, control.pose)
    assert not found.trace["reprojection"].any()
    assert (found.pose[:, 1:] != pose[:, 1:]).any()
    terms = found.trace["smoothness"] + found.trace["adversarial"]
    assert terms[-1] < terms[0]
