import json

import numpy as np
import pytest
from scipy.special import expit

from isopose.errors import UserError
from isopose.iso.calibration import KINDS, Calibrator, expected_calibration_error, peak_logit, reliability


def simulated(slope: float, offset: float, count: int = 40_000):
    """Peaks with normal logits that are right with probability sigmoid(slope * logit + offset)."""
    rng = np.random.default_rng(0)
    confidence = expit(rng.normal(0.5, 1.5, count))
    correct = rng.random(count) < expit(slope * peak_logit(confidence) + offset)
    return confidence, correct


def test_temperature_is_recovered():
    fitted = Calibrator.fit("temperature", *simulated(1 / 2.5, 0))
    assert fitted.parameters["temperature"] == pytest.approx(2.5, rel=0.03)


def test_platt_is_recovered():
    fitted = Calibrator.fit("platt", *simulated(0.7, -1.2))
    assert fitted.parameters["slope"] == pytest.approx(0.7, rel=0.05)
    assert fitted.parameters["offset"] == pytest.approx(-1.2, rel=0.05)


def test_temperature_has_a_closed_form_for_two_peaks():
    # All peaks at p or 1 - p: the likelihood is largest where sigmoid(logit(p) / T) is the share of right signs.
    confidence = np.repeat([0.9, 0.1], [100, 50])
    correct = np.concatenate([np.arange(100) < 70, np.arange(50) < 15])
    expected = np.log(9) / np.log(0.7 / 0.3)
    fitted = Calibrator.fit("temperature", confidence, correct)
    assert fitted.parameters["temperature"] == pytest.approx(expected, rel=1e-4)


def test_isotonic_rises_and_pools_violators():
    fitted = Calibrator.fit("isotonic", np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, 0, 1]))
    np.testing.assert_allclose(fitted(np.array([0.1, 0.2, 0.3, 0.4])), [0, 0.5, 0.5, 1], atol=1e-12)
    fitted = Calibrator.fit("isotonic", *simulated(0.7, -1.2))
    assert (np.diff(fitted(np.linspace(-0.2, 1.2, 500))) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities(kind):
    confidence, correct = simulated(0.7, -1.2)
    fitted = Calibrator.fit(kind, confidence, correct)
    peaks = np.array([[-0.3, 0.0, 0.2], [0.9, 1.0, 1.4]])
    probability = fitted(peaks)
    assert probability.shape == peaks.shape
    assert ((probability >= 0) & (probability <= 1)).all()
    assert probability[0, 0] == probability[0, 1] and probability[1, 1] == probability[1, 2]
    restored = Calibrator.from_dict(json.loads(json.dumps(fitted.to_dict())))
    np.testing.assert_array_equal(restored(peaks), probability)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibration_removes_the_error(kind):
    confidence, correct = simulated(0.7, -1.2)
    before = expected_calibration_error(confidence, correct, 15)
    after = expected_calibration_error(Calibrator.fit(kind, confidence, correct)(confidence), correct, 15)
    assert before > 0.15
    assert after < 0.01


def test_error_by_loop():
    rng = np.random.default_rng(1)
    probability = np.concatenate([rng.random((30, 17)).ravel(), [0.0, 0.1, 0.5, 1.0]])
    correct = rng.random(probability.shape) < probability**2
    bins, total = 10, 0.0
    for index in range(bins):
        low, high = index / bins, (index + 1) / bins
        inside = [i for i, p in enumerate(probability) if low <= p < high or (index == bins - 1 and p == 1)]
        if inside:
            gap = np.mean([correct[i] for i in inside]) - np.mean([probability[i] for i in inside])
            total += len(inside) * abs(gap)
    assert expected_calibration_error(probability, correct, bins) == pytest.approx(total / len(probability))


def test_reliability_table():
    table = reliability(np.array([0.1, 0.3, 0.8, 1.0]), np.array([0, 1, 1, 1]), 2)
    np.testing.assert_array_equal(table["lower"], [0, 0.5])
    np.testing.assert_array_equal(table["count"], [2, 2])
    np.testing.assert_allclose(table["probability"], [0.2, 0.9])
    np.testing.assert_allclose(table["accuracy"], [0.5, 1])
    assert np.isnan(reliability(np.array([0.9]), np.array([1]), 2)["accuracy"][0])


def test_unusable_input_is_refused():
    with pytest.raises(UserError, match="'beta' is unknown"):
        Calibrator.fit("beta", np.array([0.5]), np.array([True]))
    with pytest.raises(UserError, match="all right or all wrong"):
        Calibrator.fit("platt", np.array([0.5, 0.6]), np.array([True, True]))


@pytest.mark.parametrize("kind", [*KINDS, "constant"])
def test_a_confidence_that_is_no_number_is_never_fitted_to(kind):
    with pytest.raises(ValueError, match="confidence: 1 of 3 numbers are NaN or infinite"):
        Calibrator.fit(kind, np.array([0.5, np.nan, 0.6]), np.array([True, False, True]))
