from dataclasses import replace

import numpy as np
import pytest
from tests.unit.datasets.generators.mutations import KeptWorker

from isopose.camera import Camera, project
from isopose.crops import boxes_around, image_to_crop
from isopose.datasets.store import Clip, Detections, DetectionStore, SequenceStore, View, ViewKey
from isopose.heatmaps import decode, render
from isopose.skeleton import PARENTS
from isopose.sparse_maps import SparseMaps

MAP_SIZE = 16
OFFSETS = np.zeros((17, 3))
OFFSETS[[1, 4]] = [[0, -0.13, 0], [0, 0.13, 0]]
OFFSETS[[2, 3, 5, 6]] = [0, 0, -0.44]
OFFSETS[[7, 8]] = [0, 0, 0.25]
OFFSETS[[9, 10]] = [0, 0, 0.12]
OFFSETS[[11, 14]] = [[0, 0.17, 0], [0, -0.17, 0]]
OFFSETS[[12, 13, 15, 16]] = [0, 0, -0.27]


def swinging_skeleton(frames, phase):
    """Joints (frames, 17, 3), m, world: bones of fixed length that swing about y."""
    time = np.arange(frames)[:, None] / 12 + phase
    angle = 0.6 * np.sin(time + np.arange(17)) * (np.linalg.norm(OFFSETS, axis=1) > 0.2)
    joints = np.zeros((frames, 17, 3))
    joints[:, 0] = [0, 0, 0.95]
    for joint, parent in enumerate(PARENTS[1:], start=1):
        c, s = np.cos(angle[:, joint]), np.sin(angle[:, joint])
        x, y, z = OFFSETS[joint]
        joints[:, joint] = joints[:, parent] + np.stack([c * x + s * z, y + 0 * c, c * z - s * x], axis=1)
    return joints


def camera_at(azimuth):
    outward = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    down = np.array([0, 0, -1.0])
    rotation = np.stack([np.cross(down, -outward), down, -outward])
    return Camera(np.array([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]]), rotation, 5 * outward + [0, 0, 1])


SMALL_LIFTER = {
    "architecture": "multi_stride",
    "embedding": {"kind": "conv", "width": 16, "channels": 8},
    "box": True,
    "strides": [1, 2],
    "frames": 16,
    "width": 8,
    "max_layers": 2,
    "dropout": 0.0,
    "map_size": MAP_SIZE,
}
"""What a lifter is built from, of the detections of `motion`."""


@pytest.fixture(scope="module")
def kept():
    """A worker for all tests of a file: a process of its own takes seconds to start."""
    with KeptWorker().kept() as worker:
        yield worker


@pytest.fixture(scope="session")
def motion(tmp_path_factory):
    """Folder with sequences.h5 (source "test": clips a, b, c of 40, 30 and 6 frames, two cameras) and detections of
    them: train.h5 (a, c), only2d.h5 (b), validation.h5 (b).
    """
    folder = tmp_path_factory.mktemp("motion")
    rng = np.random.default_rng(0)
    detections = {}
    with SequenceStore.create(folder / "sequences.h5") as store:
        for index, (clip_id, frames) in enumerate({"a": 40, "b": 30, "c": 6}.items()):
            cameras = {"cam1": camera_at(0.3), "cam2": camera_at(1.9)}
            joints = swinging_skeleton(frames, phase=1.3 * index)
            clip = Clip(clip_id, joints, np.ones(17, bool), "S1", "swing", 50.0, "test", {}, cameras)
            for name, camera in cameras.items():
                clip.views[name] = View(name, np.zeros((frames, 17, 2)), rng.random((frames, 17)) < 0.9)
                clip.views[name].joints2d = pixels = project(clip.camera_joints(name), camera)
                boxes = boxes_around(pixels, 1.3)
                maps = render(image_to_crop(pixels, boxes, MAP_SIZE), MAP_SIZE, 1.0) * 0.9
                points, peak = decode(maps)
                detections[ViewKey("test", clip_id, name)] = Detections(
                    points, peak, boxes, SparseMaps.from_dense(maps)
                )
            store.write(clip)
    for name, clips in {"train": "ac", "only2d": "b", "validation": "b"}.items():
        with DetectionStore.create(folder / f"{name}.h5") as store:
            for key, value in detections.items():
                if key.clip in clips:
                    store.write(key, value)
    return folder


@pytest.fixture(scope="session")
def plain(motion, tmp_path_factory):
    """Folder with the detections of `motion` without their heatmaps: train.h5, validation.h5."""
    folder = tmp_path_factory.mktemp("plain")
    for name in ("train.h5", "validation.h5"):
        with DetectionStore(motion / name) as given, DetectionStore.create(folder / name) as written:
            for key in given.keys():  # noqa: SIM118
                found = given.read(key)
                written.write(key, replace(found, maps=None, crop_size=found.map_size))
    return folder
