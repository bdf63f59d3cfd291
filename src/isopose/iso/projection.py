"""Orth() of Eq. 8: from a 3D pose to heatmap pixels.

A projection is a function of the initial poses `(F, 17, 3)`, the keypoints `(F, 17, 2)` and their confidence
`(F, 17)` that returns how poses are projected, fitted once: refitted in every iteration, the scale would drift.
"""

from collections.abc import Callable

from torch import Tensor

from isopose.camera import fit_weak_perspective

Projection = Callable[[Tensor], Tensor]
"""Poses `(F, 17, 3)`, m, root-relative camera frame -> heatmap pixels `(F, 17, 2)`."""


def weak_perspective(pose: Tensor, keypoints: Tensor, confidence: Tensor) -> tuple[Projection, Tensor]:
    """Scale and shift of each frame in closed form, confident joints counting more.

    Returns the projection and its scale `(F,)`, heatmap pixels a metre.
    """
    scale, shift = fit_weak_perspective(pose[..., :2], keypoints, confidence)
    return lambda poses: scale * poses[..., :2] + shift, scale[:, 0, 0]
