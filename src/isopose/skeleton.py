"""The 17 Human3.6M joints, their bones and their left-right symmetry. Imports nothing but the standard library."""

JOINTS = (
    "pelvis",
    "r_hip",
    "r_knee",
    "r_ankle",
    "l_hip",
    "l_knee",
    "l_ankle",
    "spine",
    "thorax",
    "neck",
    "head",
    "l_shoulder",
    "l_elbow",
    "l_wrist",
    "r_shoulder",
    "r_elbow",
    "r_wrist",
)
"""Names in storage order. ``neck`` is Human3.6M's "neck/nose": a point at the height of the nose."""

NUM_JOINTS = len(JOINTS)

PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
"""Index of each joint's parent; -1 for the root (pelvis)."""

BONES = tuple((parent, child) for child, parent in enumerate(PARENTS) if parent >= 0)
"""The 16 bones as (parent, child) joint indices."""

SYMMETRIC_PAIRS = ((1, 4), (2, 5), (3, 6), (14, 11), (15, 12), (16, 13))
"""(right, left) joint indices."""


def _mirror() -> tuple[int, ...]:
    order = list(range(NUM_JOINTS))
    for right, left in SYMMETRIC_PAIRS:
        order[right], order[left] = left, right
    return tuple(order)


MIRROR = _mirror()
"""Permutation that exchanges left and right: ``pose[..., MIRROR, :]``."""


def index(name: str) -> int:
    """Return the index of the joint called ``name``."""
    return JOINTS.index(name)
