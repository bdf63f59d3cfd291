import math

import pytest
import torch

from isopose.errors import UserError
from isopose.iso import weights

CONFIDENCE = torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=torch.float64)
DISTANCE = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)


def test_constant_and_confidence():
    assert weights.constant(CONFIDENCE).tolist() == [1, 1, 1, 1]
    assert weights.confidence(CONFIDENCE).tolist() == CONFIDENCE.tolist()


def test_hard_threshold_keeps_the_confidence_or_one():
    assert weights.hard_threshold(CONFIDENCE, 0.5).tolist() == [0, 0, 0.5, 1]
    assert weights.hard_threshold(CONFIDENCE, 0.5, binary=True).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("distance", "confidence", "sigma", "expected"),
    [
        (0.0, 1.0, 1.0, 0.0),
        (3.0, 0.0, 1.0, 0.0),
        (math.sqrt(2 * math.log(2)), 1.0, 1.0, 0.5),
        (2 * math.sqrt(math.log(2)), 0.5, 1.0, 0.5),
        (2.0, 1.0, 2.0, 1 - math.exp(-0.5)),
        (1e3, 1.0, 1.0, 1.0),
    ],
)
def test_soft_threshold_closed_values(distance, confidence, sigma, expected):
    arguments = (torch.tensor(value, dtype=torch.float64) for value in (distance, confidence))
    assert weights.soft_threshold(*arguments, sigma).item() == pytest.approx(expected, abs=1e-12)


def test_soft_threshold_rises_with_distance_and_confidence():
    curves = torch.stack([weights.soft_threshold(DISTANCE, c, 1.0) for c in CONFIDENCE])
    assert (curves[1:].diff(dim=1) > 0).all()
    assert (curves[:, 1:].diff(dim=0) > 0).all()


def test_robust_gives_geman_mcclures_loss():
    weight = weights.robust(DISTANCE, 2.0)
    expected = 4 * (DISTANCE / 2) ** 2 / (1 + (DISTANCE / 2) ** 2)
    torch.testing.assert_close(weight * DISTANCE**2, expected)
    assert (weight.diff() < 0).all()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kind": "none"}, torch.zeros(4, dtype=torch.float64)),
        ({"kind": "constant"}, torch.ones(4, dtype=torch.float64)),
        ({"kind": "confidence"}, CONFIDENCE),
        ({"kind": "calibrated"}, CONFIDENCE),
        ({"kind": "hard", "threshold": 0.5}, weights.hard_threshold(CONFIDENCE, 0.5)),
        ({"kind": "soft", "sigma": 2.0}, weights.soft_threshold(DISTANCE, CONFIDENCE, 2.0)),
        ({"kind": "robust", "scale": 2.0}, weights.robust(DISTANCE, 2.0)),
    ],
)
def test_by_name(options, expected):
    torch.testing.assert_close(weights.weighting(**options)(DISTANCE, CONFIDENCE), expected)


def test_unknown_name():
    with pytest.raises(UserError, match="'sotf' is unknown"):
        weights.weighting("sotf")
