"""Writes files in 3DPW's layout, from its readme.txt: dictionaries pickled by Python 2, whose text and bytes are one
type and whose numpy calls itself numpy.core.
"""

import io
import pickle
import struct
from types import BuiltinFunctionType, FunctionType

import numpy as np
from scipy.spatial.transform import Rotation

from isopose.skeleton import JOINTS


class Python2Pickler(pickle._Pickler):
    """Protocol 2 as Python 2 wrote it: str and bytes are BINSTRING, numpy's functions lie in numpy.core."""

    dispatch = dict(pickle._Pickler.dispatch)

    def __init__(self, file):
        super().__init__(file, protocol=2)

    def save_string(self, string):
        content = string if isinstance(string, bytes) else string.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(string)

    def save_global(self, thing, name=None):
        module = thing.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{name or thing.__qualname__}\n".encode())
        self.memoize(thing)

    dispatch[bytes] = dispatch[str] = save_string
    dispatch[FunctionType] = dispatch[BuiltinFunctionType] = save_global


def python2_pickle(content):
    """Bytes of a pickle as Python 2 would have written it."""
    buffer = io.BytesIO()
    Python2Pickler(buffer).dump(content)
    return buffer.getvalue()


def motion(people, frames, seed=0):
    """Joints (people, frames, 24, 3), m, in a world where y is up, of people who walk about the origin."""
    rng = np.random.default_rng(seed)
    body = rng.uniform([-0.4, -0.9, -0.2], [0.4, 0.8, 0.2], (people, 1, 24, 3))
    time = np.arange(frames)[:, None, None] / 30
    swing = 0.1 * np.sin(2 * np.pi * time + rng.uniform(0, 6, (people, 1, 24, 1)))
    start = rng.uniform(-1, 1, (people, 1, 1, 3)) * [1, 0, 1]
    return body + swing + start + time * [0.5, 0, 0.3]


SMPL = (
    *("pelvis", "l_hip", "r_hip", "spine1", "l_knee", "r_knee", "spine", "l_ankle", "r_ankle", "spine3"),
    *("l_foot", "r_foot", "thorax", "l_collar", "r_collar", "neck", "l_shoulder", "r_shoulder", "l_elbow", "r_elbow"),
    *("l_wrist", "r_wrist", "l_hand", "r_hand"),
)
"""SMPL's 24 joints in order; those in the place of one of the 17 joints have its name."""


def of_skeleton(joints):
    """Joints (F, 17, 3), m, z up, as SMPL's (F, 24, 3), y up: a hand lies at its wrist, and so on."""
    near = {"spine1": "pelvis", "spine3": "thorax", "l_foot": "l_ankle", "r_foot": "r_ankle", "l_hand": "l_wrist"}
    near |= {"r_hand": "r_wrist", "l_collar": "thorax", "r_collar": "thorax"}
    return joints[:, [JOINTS.index(near.get(name, name)) for name in SMPL]][..., [1, 2, 0]]


def moving_camera(frames, seed=0):
    """Extrinsics (frames, 4, 4), world to camera: a phone held 8 m away that is carried along and shakes."""
    rng = np.random.default_rng(seed + 1)
    extrinsics = np.tile(np.eye(4), (frames, 1, 1))
    for frame in range(frames):
        # looks along the world's -z; its y points down
        shake = Rotation.from_euler("xyz", rng.normal(0, 0.05, 3))
        rotation = (shake * Rotation.from_euler("x", np.pi)).as_matrix()
        centre = np.array([0.02 * frame, 0.3, 8.0]) + rng.normal(0, 0.01, 3)
        extrinsics[frame, :3, :3] = rotation
        extrinsics[frame, :3, 3] = -rotation @ centre
    return extrinsics


K = np.array([[1961.85, 0, 540], [0, 1969.23, 960], [0, 0, 1]])


def sequence(name, people=2, frames=12, invalid=(), seed=0, joints=None):
    """The dictionary of a sequence; invalid: (person, frame) pairs; joints (people, frames, 24, 3): not by chance."""
    rng = np.random.default_rng(seed + 2)
    joints = motion(people, frames, seed) if joints is None else joints
    valid = np.ones((people, frames), np.int64)
    for person, frame in invalid:
        valid[person, frame] = 0
    extrinsics = moving_camera(frames, seed)
    points = rng.uniform(0, 1000, (people, frames, 3, 18))
    points[:, :, 2] = rng.uniform(0, 1, (people, frames, 18))

    def each(make):
        return [make() for _ in range(people)]

    return {
        "sequence": name,
        "betas": each(lambda: rng.normal(size=10)),
        "poses": each(lambda: rng.normal(size=(frames, 72))),
        "trans": each(lambda: rng.normal(size=(frames, 3))),
        "poses_60Hz": each(lambda: rng.normal(size=(2 * frames, 72))),
        "trans_60Hz": each(lambda: rng.normal(size=(2 * frames, 3))),
        "betas_clothed": each(lambda: rng.normal(size=10)),
        "v_template_clothed": each(lambda: rng.normal(size=(20, 3))),
        "texture_maps": each(lambda: np.zeros((2, 2, 3), np.uint8)),
        "genders": ["m", "f"][:people],
        "poses2d": list(points),
        "jointPositions": [person.reshape(frames, 72) for person in joints],
        "img_frame_ids": np.arange(0, 2 * frames, 2),
        "cam_poses": extrinsics,
        "campose_valid": list(valid),
        "cam_intrinsics": K,
    }


def write(root, sequences):
    """Write {(split, name): dictionary} under sequenceFiles."""
    for (split, name), content in sequences.items():
        path = root / "sequenceFiles" / split / f"{name}.pkl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(python2_pickle(content))
