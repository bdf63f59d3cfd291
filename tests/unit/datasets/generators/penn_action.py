"""Writes files in Penn Action's layout, from its README: labels/0001.mat with the fields of ``annotation``, joints in
the listed order, pixels from 1, dimensions as height, width, frames.
"""

import numpy as np
from scipy.io import savemat

JOINTS = (
    *("head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)


def annotation(frames=46, size=(481, 272), seed=0, train=True, action="tennis_serve"):
    """What a file holds, and where the joints are: {joint: (frames, 2)} px, the first pixel's centre being (0, 0)."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)
    places = {
        joint: np.stack([rng.uniform(50, 400) + 20 * np.sin(time / 9 + i), rng.uniform(40, 230) + time / 2], axis=1)
        for i, joint in enumerate(JOINTS)
    }
    stacked = np.stack(list(places.values()), axis=1)
    corners = np.concatenate([stacked.min(1) - 5, stacked.max(1) + 5], axis=1)
    visibility = rng.random((frames, len(JOINTS))) < 0.8
    matlab = np.where(visibility[..., None], stacked + 1, 1.0)  # a joint that is not seen stands in the first pixel
    content = {
        "action": action,
        "pose": "back",
        "x": matlab[..., 0],
        "y": matlab[..., 1],
        "visibility": visibility,
        "train": 1.0 if train else -1.0,
        "bbox": corners + 1,
        "dimensions": np.array([[size[1], size[0], frames]], float),
        "nframes": float(frames),
    }
    return content, places, visibility, corners


def write(root, annotations, compressed=False):
    """Write {number: content} under Penn_Action/labels."""
    folder = root / "Penn_Action/labels"
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in annotations.items():
        savemat(folder / f"{number:04d}.mat", content, do_compression=compressed)
