"""Calibration: from the peak height of a heatmap to the probability that the joint was found (paper 3.5).

A peak is not a probability. Three maps from one to the other are fitted on held-out people, all on the
logit of the peak: one temperature (Guo et al., ICML 2017), Platt's slope and offset, and isotonic
regression. A confidence that is the same for every detection tells none from another: its map is a constant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from isopose.arrays import check_array
from isopose.errors import UserError

PEAK_MARGIN = 1e-3
"""Peaks are clipped to ``[PEAK_MARGIN, 1 - PEAK_MARGIN]``: a regressed map may leave 0..1, a logit may
not."""


def peak_logit(confidence: np.ndarray) -> np.ndarray:
    """Logit of the peak height after clipping (see :data:`PEAK_MARGIN`); any shape to the same."""
    return logit(np.clip(np.asarray(confidence, dtype=np.float64), PEAK_MARGIN, 1 - PEAK_MARGIN))


def _fit_temperature(logits: np.ndarray, correct: np.ndarray) -> dict:
    """Scale of the logit with the smallest negative log-likelihood (one parameter, T > 0)."""
    from scipy.optimize import minimize_scalar  # here: its import is slow, and most jobs only apply a calibration

    sign = np.where(correct, 1.0, -1.0)

    def negative_log_likelihood(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -sign * logits / np.exp(log_temperature)).mean())

    best = minimize_scalar(negative_log_likelihood, bounds=(-6.0, 6.0), method="bounded")
    return {"temperature": float(np.exp(best.x))}


def _fit_platt(logits: np.ndarray, correct: np.ndarray) -> dict:
    """Slope and offset of the logit by unregularised logistic regression."""
    from sklearn.linear_model import LogisticRegression  # here, because applying a calibration does not need it

    model = LogisticRegression(C=np.inf).fit(logits[:, None], correct)
    return {"slope": float(model.coef_[0, 0]), "offset": float(model.intercept_[0])}


def _fit_isotonic(logits: np.ndarray, correct: np.ndarray) -> dict:
    """Corners of the rising step function with the smallest squared error."""
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(out_of_bounds="clip").fit(logits, correct.astype(np.float64))
    return {"logits": model.X_thresholds_.tolist(), "probabilities": model.y_thresholds_.tolist()}


KINDS = ("temperature", "platt", "isotonic")
CONSTANT = "constant"
"""The kind for a confidence that never differs: the share of the detections that are right."""

_FIT: dict[str, Callable[[np.ndarray, np.ndarray], dict]] = {
    "temperature": _fit_temperature,
    "platt": _fit_platt,
    "isotonic": _fit_isotonic,
    CONSTANT: lambda logits, correct: {"probability": float(correct.mean())},
}
_APPLY: dict[str, Callable[[np.ndarray, dict], np.ndarray]] = {
    "temperature": lambda logits, fitted: expit(logits / fitted["temperature"]),
    "platt": lambda logits, fitted: expit(fitted["slope"] * logits + fitted["offset"]),
    "isotonic": lambda logits, fitted: np.interp(logits, fitted["logits"], fitted["probabilities"]),
    CONSTANT: lambda logits, fitted: np.full(logits.shape, fitted["probability"]),
}


@dataclass(frozen=True)
class Calibrator:
    """A fitted map from peak height to probability; ``kind`` is one of :data:`KINDS`, or :data:`CONSTANT`."""

    kind: str
    parameters: dict

    @classmethod
    def fit(cls, kind: str, confidence: np.ndarray, correct: np.ndarray) -> Calibrator:
        """Fit to raw peaks and whether each detection was right, both of one shape.

        Errors: ValueError for peaks that are NaN or infinite, UserError for what no map can be fitted to.
        """
        check_array("confidence", confidence, np.shape(correct), finite=True)
        if kind not in _FIT:
            raise UserError(f"calibration kind {kind!r} is unknown; expected one of {', '.join(KINDS)}")
        correct = np.ravel(correct).astype(bool)
        if kind != CONSTANT and (correct.all() or not correct.any()):
            raise UserError("calibration: detections are all right or all wrong; expected both; use more clips")
        return cls(kind, _FIT[kind](peak_logit(confidence).ravel(), correct))

    def __call__(self, confidence: np.ndarray) -> np.ndarray:
        """Probability that a detection with this raw peak is right; the shape of ``confidence``, float64."""
        return _APPLY[self.kind](peak_logit(confidence), self.parameters)

    def to_dict(self) -> dict:
        """The calibrator as plain values for JSON."""
        return {"kind": self.kind, "parameters": self.parameters}

    @classmethod
    def from_dict(cls, values: dict) -> Calibrator:
        """The calibrator that :meth:`to_dict` wrote."""
        return cls(values["kind"], values["parameters"])


def reliability(probability: np.ndarray, correct: np.ndarray, bins: int) -> dict[str, np.ndarray]:
    """Reliability table over equal bins of 0..1, each value ``(bins,)``.

    ``lower`` (edge), ``count``, mean ``probability`` and ``accuracy`` of the detections in the bin; NaN
    where empty.
    """
    probability = np.ravel(probability)
    edges = np.linspace(0.0, 1.0, bins + 1)
    # Bins are closed on the left, the last on both sides.
    index = np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    divisor = np.where(count, count, np.nan)
    return {
        "lower": edges[:-1],
        "count": count,
        "probability": np.bincount(index, weights=probability, minlength=bins) / divisor,
        "accuracy": np.bincount(index, weights=np.ravel(correct).astype(np.float64), minlength=bins) / divisor,
    }


def expected_calibration_error(probability: np.ndarray, correct: np.ndarray, bins: int) -> float:
    """Mean over the detections of |accuracy - probability| of their bin (Guo et al., Eq. 3)."""
    table = reliability(probability, correct, bins)
    gap = np.abs(table["accuracy"] - table["probability"])
    return float(np.nansum(gap * table["count"]) / table["count"].sum())
