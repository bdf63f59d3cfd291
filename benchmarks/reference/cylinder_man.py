"""Cylinder Man written plainly: joint by joint in Python, and broadcast over everything at once in numpy."""

import numpy as np

from isopose.occlusion.cylinder_man import PARTS, SHOULDERS, THORAX

MEMBER = np.array([[joint in part.members for joint in range(17)] for part in PARTS])


def by_loop(frames):
    """Perspective visibility (F, 17), one joint and one part at a time."""
    visible = np.ones(frames.shape[:-1], bool)
    for frame, joints in enumerate(frames):
        torso = np.mean([np.linalg.norm(joints[THORAX] - joints[shoulder]) for shoulder in SHOULDERS])
        for joint in range(17):
            for part in PARTS:
                if joint not in part.members:
                    radius = torso if part.radius is None else part.radius
                    if _hides(joints[part.start], joints[part.end], radius, joints[joint]):
                        visible[frame, joint] = False
    return visible


def _hides(start, end, radius, point):
    bone = end - start
    across = np.cross(bone, start + end)
    across = across / np.linalg.norm(across)
    normal = np.cross(bone, across)
    met = point * ((start @ normal) / (point @ normal))
    along = (met - start) @ bone / (bone @ bone)
    return 0 < along < 1 and abs((met - start) @ across) < radius and (point - start) @ normal < 0


def broadcast(frames):
    """Perspective visibility (F, 17) as (F, 10, 17, 3) arrays."""
    start = frames[:, [part.start for part in PARTS]]
    end = frames[:, [part.end for part in PARTS]]
    torso = np.linalg.norm(frames[:, [THORAX]] - frames[:, SHOULDERS], axis=-1).mean(-1)
    fixed = np.array([np.nan if part.radius is None else part.radius for part in PARTS], frames.dtype)
    radius = np.where(np.isnan(fixed), torso[:, None], fixed)[..., None]
    bone = end - start
    across = np.cross(bone, start + end)
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    normal = np.cross(bone, across)
    points = frames[:, None]
    reach = (start * normal).sum(-1, keepdims=True) / (points * normal[:, :, None]).sum(-1)
    met = points * reach[..., None] - start[:, :, None]
    along = (met * bone[:, :, None]).sum(-1) / (bone**2).sum(-1, keepdims=True)
    side = np.abs((met * across[:, :, None]).sum(-1))
    depth = ((points - start[:, :, None]) * normal[:, :, None]).sum(-1)
    hidden = (along > 0) & (along < 1) & (side < radius) & (depth < 0) & ~MEMBER
    return ~hidden.any(1)
