"""Forward kinematics of a rotation hierarchy, and its resampling in time by spherical interpolation.

Rotations are local (child in parent), as unit quaternions (x, y, z, w) the way scipy writes them.
"""

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation


def forward_kinematics(
    parents: Sequence[int], offsets: np.ndarray, quaternions: np.ndarray, root: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and orientations of every joint of a hierarchy.

    parents (J,), -1 for the root, which comes first, and every parent before its children; offsets (J, 3) from the
    parent in the parent's frame; quaternions (F, J, 4) local; root (F, 3) position of joint 0.
    Returns positions (F, J, 3) in the unit of the offsets and orientations (F, J, 3, 3), joint to world.
    """
    frames, joints = quaternions.shape[:2]
    local = Rotation.from_quat(quaternions.reshape(-1, 4)).as_matrix().reshape(frames, joints, 3, 3)
    orientations = np.empty_like(local)
    positions = np.empty((frames, joints, 3))
    for joint, parent in enumerate(parents):
        if parent < 0:
            orientations[:, joint], positions[:, joint] = local[:, joint], root
            continue
        orientations[:, joint] = orientations[:, parent] @ local[:, joint]
        positions[:, joint] = positions[:, parent] + orientations[:, parent] @ offsets[joint]
    return positions, orientations


def playback_times(frames: int, fps: float, target_fps: float, speed: float = 1.0) -> np.ndarray:
    """Fractional source frame numbers (T,) at which to read a clip, to play it at another frame rate and speed."""
    step = fps * speed / target_fps
    count = int(np.floor((frames - 1) / step + 1e-9)) + 1
    return np.minimum(np.arange(count) * step, frames - 1)


def resample(quaternions: np.ndarray, root: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read rotations (F, J, 4) and root positions (F, 3) at fractional frame numbers (T,).

    Rotations are interpolated along the shortest arc (slerp), so bones keep their lengths; positions linearly.
    """
    before = np.floor(times).astype(int)
    after = np.minimum(before + 1, len(root) - 1)
    fraction = times - before
    start = Rotation.from_quat(quaternions[before].reshape(-1, 4))
    end = Rotation.from_quat(quaternions[after].reshape(-1, 4))
    step = (start.inv() * end).as_rotvec() * np.repeat(fraction, quaternions.shape[1])[:, None]
    rotated = (start * Rotation.from_rotvec(step)).as_quat().reshape(len(times), -1, 4)
    return rotated, root[before] + fraction[:, None] * (root[after] - root[before])
