"""Weights of the reprojection loss, `w_k` of Eq. 8: one function each, and their choice by name.

Distances are in heatmap pixels, confidences in 0..1 (calibrated, unless a weight says otherwise).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from isopose.errors import UserError

Weighting = Callable[[Tensor, Tensor], Tensor]
"""`(distance, confidence) -> weight`, all of one shape."""


def constant(confidence: Tensor) -> Tensor:
    """`w = 1`: the 2D detection is always believed."""
    return torch.ones_like(confidence)


def confidence(confidence: Tensor) -> Tensor:
    """`w = c`, raw or calibrated."""
    return confidence


def hard_threshold(confidence: Tensor, threshold: float, binary: bool = False) -> Tensor:
    """`w = c` (or 1 if `binary`) where `c >= threshold`, else 0."""
    kept = (confidence >= threshold).to(confidence.dtype)
    return kept if binary else kept * confidence


def soft_threshold(distance: Tensor, confidence: Tensor, sigma: float) -> Tensor:
    """`w = 1 - exp(-c d^2 / (2 sigma^2))` (Eq. 9); it rises with the distance."""
    return -torch.expm1(-confidence * distance**2 / (2 * sigma**2))


def robust(distance: Tensor, scale: float) -> Tensor:
    """`w = scale^2 / (scale^2 + d^2)`, so that `w d^2` is Geman and McClure's loss; it falls with the distance."""
    return scale**2 / (scale**2 + distance**2)


KINDS: dict[str, Callable[..., Tensor]] = {
    "none": lambda distance, confidence: torch.zeros_like(confidence),
    "constant": lambda distance, confidence: constant(confidence),
    "confidence": lambda distance, confidence: confidence,
    "calibrated": lambda distance, confidence: confidence,
    "hard": lambda distance, confidence, **options: hard_threshold(confidence, **options),
    "soft": soft_threshold,
    "robust": lambda distance, confidence, **options: robust(distance, **options),
}
"""Every weighting by name. "confidence" takes the raw peak height and all others the calibrated confidence; "none" is
the control without reprojection."""


def weighting(kind: str, **options: float) -> Weighting:
    """The weighting called `kind` with its options (`threshold`, `binary`, `sigma`, `scale`)."""
    if kind not in KINDS:
        raise UserError(f"ISO weighting '{kind}' is unknown; expected one of {', '.join(KINDS)}")
    return partial(KINDS[kind], **options)
