"""From the skeleton a lifter was trained on to another data set's joints: the paper's joint adaptation for 3DPW.

The paper (section 4, 3DPW) says "a joint adaptation similar to" PoseNet3D's; here it is a linear map of the joints,
the same for x, y and z, so that a turned pose gives the turned result.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from isopose.arrays import check_array
from isopose.evaluation.metrics import p_mpjpe
from isopose.skeleton import JOINTS

COMMON_JOINTS = (
    *("r_ankle", "r_knee", "r_hip", "l_hip", "l_knee", "l_ankle"),
    *("r_wrist", "r_elbow", "r_shoulder", "l_shoulder", "l_elbow", "l_wrist", "thorax", "neck"),
)
"""The 14 joints that scores on 3DPW are over, in the order of the field (LSP's). In a clip of 3DPW ``thorax`` and
``neck`` are SMPL's neck and head, :data:`isopose.datasets.three_dpw.JOINT_TABLE`.
"""

_COMMON = [JOINTS.index(name) for name in COMMON_JOINTS]


@dataclass(frozen=True)
class JointAdaptation:
    """A linear map of joints: weights (K, J), of J joints to K."""

    weights: np.ndarray

    @classmethod
    def fit(cls, predicted: np.ndarray, target: np.ndarray) -> Self:
        """The map with the least squared error from predicted (..., J, 3) to target (..., K, 3) poses.

        Both about the same root and in the same frame and unit; of people and clips that are not tested on. A joint
        that is always zero, the root, gets no weight. ValueError for other shapes, or numbers that are not finite.
        """
        check_array("predicted", predicted, (..., "J", 3), finite=True)
        check_array("target", target, (*predicted.shape[:-2], "K", 3), finite=True)
        rows = (np.moveaxis(poses, -2, -1).reshape(-1, poses.shape[-2]) for poses in (predicted, target))
        return cls(np.linalg.lstsq(*rows, rcond=None)[0].T)

    def __call__(self, poses: np.ndarray) -> np.ndarray:
        """Joints (..., K, 3) of poses (..., J, 3)."""
        check_array("poses", poses, (..., self.weights.shape[1], 3))
        return self.weights @ poses


def common_joints(poses: np.ndarray) -> np.ndarray:
    """The 14 common joints (..., 14, 3) of poses (..., 17, 3)."""
    check_array("poses", poses, (..., len(JOINTS), 3))
    return poses[..., _COMMON, :]


def p_mpjpe_3dpw(poses: np.ndarray, truth: np.ndarray, adaptation: JointAdaptation) -> np.ndarray:
    """P-MPJPE (...), m, of poses (..., 17, 3), adapted, against a clip of 3DPW (..., 17, 3), over the common 14."""
    return p_mpjpe(adaptation(poses), common_joints(truth))
