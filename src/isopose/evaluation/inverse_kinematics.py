"""Joint rotations of 17 joint positions, for the human dynamics protocol, and back.

Every bone has a frame, found from its parent's; the bones at the pelvis start from the root's. Seventeen joints do not
tell how a bone is twisted about itself: here a bone turns from its direction at rest by the shortest way, so it has no
twist. In the root's frame at rest, x points to the left hip, y from the pelvis to the spine; the legs hang, the arms
are spread.
"""

import numpy as np

from isopose.arrays import check_array
from isopose.skeleton import BONES, JOINTS, NUM_JOINTS, PARENTS, index

SHORTEST = 1e-9
"""m; a bone this short has no direction."""

OPPOSITE = 1e-8
"""Length of the sum of two unit vectors below which they count as opposite, and any half turn is a shortest way."""

_SIDE = {"r": (-1.0, 0.0, 0.0), "l": (1.0, 0.0, 0.0)}
_UP, _DOWN = (0.0, 1.0, 0.0), (0.0, -1.0, 0.0)


def _at_rest(name: str) -> tuple[float, float, float]:
    side, _, part = name.partition("_")
    if part in ("knee", "ankle"):
        return _DOWN
    return _SIDE[side] if part else _UP


REST = np.array([_at_rest(name) for name in JOINTS])
"""Direction (17, 3) of the bone that ends at each joint, in the frame of its parent bone at rest; row 0 is unused."""


def bone_lengths(joints: np.ndarray) -> np.ndarray:
    """Length (..., 17) of the bone that ends at each joint, in the unit of joints (..., 17, 3); 0 for the pelvis."""
    check_array("joints", joints, (..., NUM_JOINTS, 3))
    return np.linalg.norm(_bones(joints), axis=-1)


def rotations(joints: np.ndarray) -> np.ndarray:
    """Rotations (..., 17, 3, 3), bone's to parent's frame, of joints (..., 17, 3), m; row 0 is root's to world.

    ValueError where a bone has no length or the spine lies along the hips.
    """
    check_array("joints", joints, (..., NUM_JOINTS, 3), finite=True)
    bones = _bones(joints.astype(float))
    local, frames = np.empty((2, *bones.shape[:-1], 3, 3))
    local[..., 0, :, :] = frames[..., 0, :, :] = _root_frame(joints.astype(float))
    for parent, child in BONES:
        before = frames[..., parent, :, :]
        direction = _unit(JOINTS[child], bones[..., child, :])
        seen = (direction[..., None, :] @ before)[..., 0, :]
        local[..., child, :, :] = _shortest_turn(REST[child], seen)
        frames[..., child, :, :] = before @ local[..., child, :, :]
    return local


def positions(local: np.ndarray, lengths: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Forward kinematics: joints (..., 17, 3) of rotations (..., 17, 3, 3), lengths (..., 17), pelvis (..., 3)."""
    check_array("local", local, (..., NUM_JOINTS, 3, 3))
    frames, joints = np.empty_like(local), np.empty(local.shape[:-1])
    frames[..., 0, :, :], joints[..., 0, :] = local[..., 0, :, :], root
    for parent, child in BONES:
        frames[..., child, :, :] = frames[..., parent, :, :] @ local[..., child, :, :]
        bone = frames[..., child, :, :] @ REST[child] * lengths[..., child, None]
        joints[..., child, :] = joints[..., parent, :] + bone
    return joints


def _bones(joints: np.ndarray) -> np.ndarray:
    """From each joint's parent to the joint, (..., 17, 3); zero for the pelvis."""
    return joints - joints[..., np.maximum(PARENTS, 0), :]


def _root_frame(joints: np.ndarray) -> np.ndarray:
    """Root's to world: x to the left hip, y as near as can be to the spine."""
    x = _unit("hips", joints[..., index("l_hip"), :] - joints[..., index("r_hip"), :])
    spine = joints[..., index("spine"), :] - joints[..., 0, :]
    y = _unit("spine", spine - (spine * x).sum(-1, keepdims=True) * x)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _unit(name: str, vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    short = int((length < SHORTEST).sum())
    if short:
        raise ValueError(f"joints: {name} has no direction in {short} of {length.size} poses; expected a longer bone")
    return vectors / length


def _shortest_turn(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Rotation (..., 3, 3) without twist from the unit vector start (3,) to end (..., 3).

    Half a turn about start, then half a turn about the middle of both. Opposite vectors have no middle: there it is
    the axis that is next in turn after start's, as every start is along an axis.
    """
    middle = start + end
    length = np.linalg.norm(middle, axis=-1, keepdims=True)
    opposite = length < OPPOSITE
    middle = np.where(opposite, np.roll(np.abs(start), 1), middle / np.where(opposite, 1, length))
    return _half_turn(middle) @ _half_turn(start)


def _half_turn(axis: np.ndarray) -> np.ndarray:
    return 2 * axis[..., :, None] * axis[..., None, :] - np.eye(3)
