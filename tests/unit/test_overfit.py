"""Every network can learn what it is shown: reduced widths, the project's own data, losses, training and decoding."""

import os
from pathlib import Path

import pytest
import torch

from isopose import config, rendering
from isopose.crops import boxes_around, image_to_crop
from isopose.datasets import preprocess
from isopose.datasets.store import Detections, DetectionStore, SequenceStore, ViewKey
from isopose.heatmaps import decode, render
from isopose.occlusion import label
from isopose.sparse_maps import SparseMaps
from isopose.training import estimator
from isopose.training import lifter as training

ROOT = Path(__file__).parents[2]
PARAMS = config.load(ROOT / "params.yaml", ROOT / "experiments/open/params.yaml")
SECONDS = 1.28
FRAMES = 64
MAP_SIZE = 16

SYNTHETIC = {"subjects": ["S1"], "actions": ["kicking", "walking"], "speeds": [1.0], "seconds": SECONDS}
REAL = {"subjects": ["02"], "speeds": [1.0], "max_seconds": SECONDS}
REAL_CLIPS = ("02_04", "02_05")
"""Of CMU: jumping and boxing."""


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def motion(folder, source, changes):
    """A labelled sequence store of a source, as the first two stages make it; returns its path."""
    options = PARAMS["sources"][source] | {"cameras": ["cam1"], "occluded": False} | changes
    options |= {"camera": PARAMS["camera"], "occluder": PARAMS["occluder"], "seed": 1}
    mirror = os.environ.get("ISOPOSE_DATA_MIRROR")
    preprocess.run(folder / "sequences.h5", options, mirror and Path(mirror), folder / "cache")
    label.run(folder / "sequences.h5", folder / "labelled.h5", "perspective")
    return folder / "labelled.h5"


def detect_perfectly(store, clips, output):
    """A detection store of what a perfect estimator would see of these clips."""
    with SequenceStore(store) as sequences, DetectionStore.create(output) as detections:
        for clip in map(sequences.read, clips):
            for name, view in clip.views.items():
                boxes = boxes_around(view.joints2d, 1.25, smoothing=5)
                maps = render(image_to_crop(view.joints2d, boxes, MAP_SIZE), MAP_SIZE, 1.0)
                found = Detections(*decode(maps), boxes, SparseMaps.from_dense(maps))
                detections.write(ViewKey(clip.source, clip.id, name), found)


def learned_mpjpe(folder, source, store, clips):
    """MPJPE of a lifter, mm, over two whole clips that it was trained on, and of their mean pose.

    It sees the heatmaps alone, not where the crop is, and all strides; it minimises Eq. 1. What T is makes clip and
    training clip the same.
    """
    detect_perfectly(store, clips, folder / "detections.h5")
    files = [folder / "detections.h5", None, folder / "detections.h5"]
    data = training.load_data(*files, {source: store}, with_maps=True)
    assert [len(view.joints3d) for view in data.validation] == [FRAMES, FRAMES]
    weights = dict.fromkeys(PARAMS["lifter"]["weights"], 0.0)
    small = {"embedding": {"kind": "conv", "width": 64, "channels": 16}, "width": 48, "max_layers": 2}
    alone = {"box": False, "masking": None, "flip": 0.0, "weights": weights, "discriminator": None}
    run = {"seed": 1, "device": "cpu", "batch_clips": 8, "ema_decay": 0.95, "validate_every": 500}
    params = PARAMS["lifter"] | small | alone | run
    assert (params["strides"], params["frames"]) == ([1, 2, 3, 5, 7], FRAMES)
    trained = training.Trainer(data, params, 0.005, steps=500).run(lambda *_: None)
    mean = training.mean_pose_mpjpe(data.train3d.mean_pose.numpy(), data.validation)
    return 1000 * trained.validation_mpjpe, 1000 * mean


def test_a_lifter_learns_two_synthetic_clips_to_5_mm(tmp_path):
    store = motion(tmp_path, "synthetic", SYNTHETIC)
    with SequenceStore(store) as sequences:
        clips = sequences.clips()
    learned, mean = learned_mpjpe(tmp_path, "synthetic", store, clips)
    print(f"MPJPE {learned:.2f} mm, of the mean pose {mean:.0f} mm")
    assert learned < 5 < 50 < mean


@pytest.mark.real_motion
@pytest.mark.skipif(
    not os.environ.get("ISOPOSE_DATA_MIRROR"),
    reason="ISOPOSE_DATA_MIRROR is not set: no motion capture archives here",
)
def test_a_lifter_learns_two_real_clips_to_5_mm(tmp_path):
    store = motion(tmp_path, "cmu_mocap", REAL)
    learned, mean = learned_mpjpe(tmp_path, "cmu_mocap", store, REAL_CLIPS)
    print(f"MPJPE {learned:.2f} mm, of the mean pose {mean:.0f} mm")
    assert learned < 5 < 50 < mean


def test_hrnet_learns_sixteen_rendered_images_to_95_pckh(tmp_path):
    store = motion(tmp_path, "synthetic", SYNTHETIC)
    drawn = {"images": 16, "size": 4 * MAP_SIZE, "map_size": MAP_SIZE, "split": "train", "seed": 1}
    drawn |= {"selections": [{"source": "synthetic", "cameras": ["cam1"]}]}
    rendering.render_images({"synthetic": store}, tmp_path / "images.h5", PARAMS["images"] | drawn)
    images = estimator.Images.read(tmp_path / "images.h5")
    assert 0.5 < images.visible.mean() < 1  # hidden joints, whose targets are empty, are among them
    still = {"rotation": 0.0, "scale": 0.0, "colour": 0.0, "weight_decay": 0.0}
    small = {"width": 16, "stem": 16, "modules": [1, 1], "epochs": 150, "batch": 16, "sigma": 1.25}
    params = PARAMS["estimator"] | still | small | {"seed": 1, "device": "cpu"}
    model, _ = estimator.train(images, None, params, lambda *_: None)
    scores = estimator.score(model, images, batch=16)
    print(scores)
    assert scores["pckh"] > 0.95
