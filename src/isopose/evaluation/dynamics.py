"""Human dynamics (paper Table 9): poses of frames that are not observed yet, and their mean angle error.

The protocol is that of Martinez et al., CVPR 2017 (human-motion-prediction, `src/translate.py` and
`src/seq2seq_model.py`), after Jain et al., CVPR 2016.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from isopose.arrays import check_array
from isopose.camera import Camera
from isopose.datasets.human36m import protocol_angles
from isopose.datasets.store import Detections
from isopose.evaluation.inverse_kinematics import rotations
from isopose.evaluation.metrics import mean_angle_error, mpjpe
from isopose.models.lifter import Lifter, lift
from isopose.skeleton import NUM_JOINTS
from isopose.sparse_maps import SparseMaps

HORIZONS: Mapping[int, int] = MappingProxyType({80: 1, 160: 3, 320: 7, 400: 9, 560: 13, 1000: 24})
"""Milliseconds to the index of the future frame at 25 fps. The paper's table leaves out 400."""

SMALLEST_DEVIATION = 1e-4
"""rad; an angle of the ground truth that varies less within a stretch does not count."""

OBSERVED = 50
"""Frames at 25 fps that are observed before those to predict."""

_SEED, _EARLIEST, _LENGTH = 1234567890, 16, 150


def first_future_frames(lengths: tuple[int, int], stretches: int) -> np.ndarray:
    """First frame to predict (stretches / 2, 2), 25 fps, from the frames of an action's two trials of S5.

    The draws of `find_indices_srnn` (human-motion-prediction, `src/seq2seq_model.py`), trial 1 and 2 in turn: where
    50 observed frames start that 100 follow. The older sampling has 8 stretches an action, the newer 256, of less
    variance. ValueError where a trial is too short.
    """
    if min(lengths) <= _EARLIEST + _LENGTH:
        raise ValueError(f"lengths: {lengths}; expected more than {_EARLIEST + _LENGTH} frames at 25 fps in each trial")
    rng = np.random.RandomState(_SEED)
    draws = [[rng.randint(_EARLIEST, frames - _LENGTH) for frames in lengths] for _ in range(stretches // 2)]
    return np.array(draws) + OBSERVED


def predict_future(
    lifter: Lifter, detections: Detections, camera: Camera, observed_frames: int, future_frames: int
) -> np.ndarray:
    """Root-relative poses (future_frames, 17, 3), m, camera frame, after the first ``observed_frames`` of a view.

    The frames to predict are masked as in training (paper 3.3): keypoints, confidence and maps zero. The box, which
    training does not mask, stays where it was last seen. Nothing of the detections beyond the observed frames is read.
    """
    known = len(detections.boxes)
    if not 1 <= observed_frames <= known or future_frames < 1:
        raise ValueError(
            f"observed_frames {observed_frames}, future_frames {future_frames}; expected 1 to {known} and at least 1"
        )
    return lift(lifter, _without_future(detections, observed_frames, future_frames), camera)[observed_frames:]


def _without_future(detections: Detections, observed: int, future: int) -> Detections:
    """The first ``observed`` frames, then ``future`` blank ones."""
    # The middle of the map is zero in the lifter's coordinates.
    middle = (detections.map_size - 1) / 2
    after = ((0, future), (0, 0))
    return Detections(
        np.pad(detections.keypoints[:observed], (*after, (0, 0)), constant_values=middle),
        np.pad(detections.confidence[:observed], after),
        np.pad(detections.boxes[:observed], after, mode="edge"),
        detections.maps and _maps_without_future(detections.maps, observed, future),
        detections.crop_size,
    )


def _maps_without_future(maps: SparseMaps, observed: int, future: int) -> SparseMaps:
    rows, pad = observed * maps.joints, ((0, future * maps.joints),)
    end = maps.pointer[rows]
    pointer = np.pad(maps.pointer[: rows + 1], pad, mode="edge")
    return SparseMaps(pointer, maps.pixel[:end], maps.value[:end], maps.joints, maps.size)


def zero_velocity(last: np.ndarray, frames: int) -> np.ndarray:
    """The baseline that stands still: the last observed pose (..., 17, 3) for all frames, (..., frames, 17, 3)."""
    return np.repeat(last[..., None, :, :], frames, axis=-3)


def angle_errors(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean angle error (..., T), rad, of joints (..., T, 17, 3), m, that both go through the same inverse kinematics.

    The root's angles are zero; those of the ground truth that hardly vary within the stretch do not count.
    """
    check_array("predicted", predicted, (..., "T", NUM_JOINTS, 3))
    ours, theirs = (protocol_angles(rotations(joints)) for joints in (predicted, target))
    counts = theirs.std(axis=-3, keepdims=True) > SMALLEST_DEVIATION
    return mean_angle_error(np.where(counts, ours, 0), np.where(counts, theirs, 0))


def errors_by_horizon(predicted: np.ndarray, target: np.ndarray) -> dict[int, dict[str, float]]:
    """Means over stretches (N, T, 17, 3), 25 fps, m, root-relative, T >= 25, at every horizon: ms to its errors.

    mean_angle_error (rad) and mpjpe (m).
    """
    angle, position = angle_errors(predicted, target), mpjpe(predicted, target)
    return {
        horizon: {"mean_angle_error": float(angle[:, k].mean()), "mpjpe": float(position[:, k].mean())}
        for horizon, k in HORIZONS.items()
    }
