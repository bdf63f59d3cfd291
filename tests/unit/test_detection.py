import json

import numpy as np
import pytest
import torch

from isopose import detection, heatmaps, sparse_maps
from isopose.camera import Camera, project
from isopose.crops import boxes_around, crop_to_image, image_to_crop
from isopose.datasets.store import Clip, DetectionStore, SequenceStore, View, ViewKey
from isopose.errors import UserError
from isopose.evaluation import keypoints
from isopose.evaluation.detections import Quality
from isopose.joint_sets import COCO, MPII
from isopose.models import import_hrnet
from isopose.models.hrnet import HRNet, detect, save_estimator
from isopose.rendering import view_frames
from isopose.skeleton import index

SIZE, FRAMES = 32, 20
ARCHITECTURE = {"width": 16, "joints": 17, "stem": 16, "modules": [1], "blocks": 1, "bottlenecks": 1}
PARAMETERS = {
    "selections": [{"source": "lab", "subjects": ["a", "b"], "cameras": ["cam1"], "occluded": False}],
    "margin": 1.25,
    "smoothing": 5,
    "split": "test",
    "flip_test": False,
    "batch": 8,
    "threads": 1,
    "device": "cpu",
}


def standing(frames: int, seed: int) -> np.ndarray:
    """Joints (F, 17, 3), m, of someone upright five metres away who drifts to the right."""
    pose = np.zeros((17, 3))
    pose[:, 1] = [0, 0, 0.45, 0.9, 0, 0.45, 0.9, -0.25, -0.5, -0.62, -0.75, -0.5, -0.2, 0, -0.5, -0.2, 0]
    pose[:, 0] = [0, -0.1, -0.1, -0.1, 0.1, 0.1, 0.1, 0, 0, 0, 0, 0.2, 0.25, 0.25, -0.2, -0.25, -0.25]
    pose[9, 2] = -0.08
    drift = np.linspace(0, 0.5, frames)[:, None] * [1, 0, 0]
    noise = np.random.default_rng(seed).normal(0, 0.01, (1, 17, 3))
    return pose + noise + drift[:, None] + [0, 0, 5]


@pytest.fixture
def lab(tmp_path):
    """Two clips seen by one camera, and an untrained estimator."""
    camera = Camera(np.array([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]]), np.eye(3), np.zeros(3))
    sequences, weights = tmp_path / "sequences.h5", tmp_path / "estimator.safetensors"
    with SequenceStore.create(sequences) as store:
        for seed, name in enumerate(("a", "b")):
            joints = standing(FRAMES, seed)
            visible = np.random.default_rng(seed).random((FRAMES, 17)) < 0.8
            view = View("cam1", project(joints, camera), visible, seed=seed)
            store.write(
                Clip(
                    name,
                    joints,
                    np.ones(17, bool),
                    name,
                    "stand",
                    50.0,
                    "lab",
                    {},
                    {"cam1": camera},
                    {"cam1": view},
                )
            )
    torch.manual_seed(0)
    save_estimator(HRNet(**ARCHITECTURE), {"architecture": ARCHITECTURE, "size": SIZE}, weights)
    return sequences, weights


def clip_of(path, name="a") -> Clip:
    with SequenceStore(path) as store:
        return store.read(name)


def test_stage_stores_what_the_network_says(lab, tmp_path):
    sequences, weights = lab
    output, quality = tmp_path / "detections.h5", tmp_path / "quality.json"
    detection.main([f"lab={sequences}"], weights, output, quality, json.dumps(PARAMETERS))
    model, _ = detection.load_estimator(weights)
    with DetectionStore(output) as store:
        assert store.keys() == [ViewKey("lab", "a", "cam1"), ViewKey("lab", "b", "cam1")]
        found = store.read(ViewKey("lab", "a", "cam1"))
    clip = clip_of(sequences)
    boxes = boxes_around(clip.views["cam1"].joints2d, 1.25, 5)
    np.testing.assert_array_equal(found.boxes, boxes)
    maps = detect(model, view_frames(clip, "cam1", boxes, np.arange(FRAMES), SIZE, "test"))
    np.testing.assert_allclose(found.confidence, maps.max(axis=(-2, -1)), atol=1e-5)
    assert found.map_size == SIZE // 4
    np.testing.assert_allclose(
        found.maps.dense(), np.where(maps > sparse_maps.MAP_THRESHOLD, maps, 0).clip(0, 1), atol=1.01 / 255
    )
    summary = json.loads(quality.read_text())
    assert summary["frames"] == 2 * FRAMES
    dense_bytes = 2 * 17 * (SIZE // 4) ** 2
    assert summary["dense_fp16_ratio"] == pytest.approx(dense_bytes / summary["bytes_per_frame"])
    assert summary["bytes_per_frame"] == output.stat().st_size / (2 * FRAMES)


def test_perfect_maps_give_perfect_detections(lab, monkeypatch):
    sequences, _ = lab
    clip = clip_of(sequences)
    view = clip.views["cam1"]
    calls = iter(range(0, FRAMES, 5))

    def oracle(model, images, flip, mirror, origin):
        """Maps of the true joints in the frames of this call; invisible joints have none."""
        chosen = slice(start := next(calls), start + 5)
        boxes = boxes_around(view.joints2d, 1.25, 5)
        points = image_to_crop(view.joints2d, boxes, 64)[chosen]
        return heatmaps.render(points.astype(np.float32), 64, 2.0) * view.visible[chosen, :, None, None]

    monkeypatch.setattr(detection, "detect", oracle)
    found, maps = detection.detect_view(None, SIZE, clip, "cam1", PARAMETERS | {"batch": 5})
    side = found.boxes[:, 2].max() / 64
    assert np.abs(found.image_keypoints - view.joints2d)[view.visible].max() < 0.5 * side
    head = keypoints.head_size(clip.camera_joints("cam1"), clip.cameras["cam1"])
    assert keypoints.pckh(found.image_keypoints, view.joints2d, head, view.visible) == 1
    scores = Quality()
    scores.add(clip, "cam1", found, maps)
    summary = scores.summary(stored_bytes=1000)
    assert summary["pckh"] == summary["auroc"] == 1
    assert summary["left_right_confusion"] == 0
    assert summary["dense_fp16_ratio"] == pytest.approx(FRAMES * 17 * 64 * 64 * 2 / 1000)
    assert 0.5 / 255 * 0.9 < summary["storage_max_error"] < sparse_maps.MAP_THRESHOLD
    assert summary["storage_rms_error"] == pytest.approx(np.sqrt(np.mean((found.maps.dense() - maps) ** 2)))


def test_batches_do_not_matter(lab):
    sequences, weights = lab
    clip = clip_of(sequences)
    model, config = detection.load_estimator(weights)
    first, _ = detection.detect_view(model, config["size"], clip, "cam1", PARAMETERS | {"batch": 20})
    second, _ = detection.detect_view(model, config["size"], clip, "cam1", PARAMETERS | {"batch": 7})
    np.testing.assert_allclose(first.confidence, second.confidence, atol=1e-5)


@pytest.fixture(params=[MPII, COCO], ids=lambda joint_set: joint_set.name)
def imported(request, tmp_path):
    """An estimator imported from a checkpoint of random weights, its joint set, and the network itself."""
    torch.manual_seed(1)
    model = HRNet(**ARCHITECTURE | {"width": 8, "joints": len(request.param.joints)}).eval()
    checkpoint, weights = tmp_path / "pose.pth", tmp_path / "imported.safetensors"
    torch.save(model.state_dict(), checkpoint)
    import_hrnet.main(checkpoint, weights, request.param.name, json.dumps({"size": 256, "width": 8}))
    return weights, request.param, model


@pytest.mark.parametrize("flip", [False, True])
def test_an_imported_estimator_detects_the_skeletons_joints(lab, imported, tmp_path, flip):
    sequences, (weights, joint_set, model), output = lab[0], imported, tmp_path / "detections.h5"
    params = PARAMETERS | {"selections": [PARAMETERS["selections"][0] | {"subjects": ["a"]}], "flip_test": flip}
    detection.main([f"lab={sequences}"], weights, output, tmp_path / "quality.json", json.dumps(params))
    with DetectionStore(output) as store:
        found = store.read(ViewKey("lab", "a", "cam1"))
    assert found.maps.joints == 17 and found.map_size == 64
    clip = clip_of(sequences)
    boxes = boxes_around(clip.views["cam1"].joints2d, 1.25, 5)
    np.testing.assert_array_equal(found.boxes, boxes)
    # The network sees a crop one and a half of its pixels farther right and down: its grid begins at the first pixel.
    images = view_frames(clip, "cam1", boxes + boxes[:, 2:] * [1.5 / 256, 1.5 / 256, 0], np.arange(FRAMES), 256, "test")
    points, peaks = heatmaps.decode(detect(model, images, flip, joint_set.mirror, 0))
    np.testing.assert_allclose(found.confidence, joint_set.confidence(peaks), atol=1e-4)
    # Untrained maps are nearly flat, so a peak may fall on another of two equal pixels: nearly all are the same.
    same = np.abs(found.keypoints - joint_set.keypoints(points)).max(axis=-1) < 1e-4
    assert same.mean() > 0.95
    source = joint_set.joints.index("l_wrist")
    np.testing.assert_allclose(found.confidence[:, index("l_wrist")], peaks[:, source], atol=1e-4)


class Blobs(torch.nn.Module):
    """A network that shows the red of the image in every channel, read on the grid of its origin."""

    def __init__(self, channels: int, origin: float) -> None:
        super().__init__()
        self.gains = torch.nn.Parameter(torch.ones(channels))
        self.origin = origin

    def forward(self, images):
        red = images[:, :1]
        maps = torch.nn.functional.avg_pool2d(red, 4) if self.origin == 1.5 else red[:, :, ::4, ::4]
        return maps * self.gains[:, None, None]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("origin", [0, 1.5])
@pytest.mark.parametrize("joint_set", [MPII, COCO])
def test_keypoints_lie_on_the_crops_grid_whatever_the_networks(lab, monkeypatch, joint_set, origin, flip):
    # Of quarters of a px, the nearest is 41.25, 23.25; three eighths to either side it would be another.
    clip, place = clip_of(lab[0]), np.array([41.2, 23.2])
    boxes = boxes_around(clip.views["cam1"].joints2d, 1.25, 5)
    target = crop_to_image(np.broadcast_to(place, (FRAMES, 1, 2)), boxes, 64)

    def blob(clip, view_name, boxes, frames, size, split):
        """Red where the image's one point lies in these boxes."""
        maps = heatmaps.render(image_to_crop(target[frames], boxes[frames], size), size, 10.0)[:, 0]
        return np.repeat(np.rint(255 * maps).astype(np.uint8)[..., None], 3, -1)

    monkeypatch.setattr(detection, "view_frames", blob)
    network = Blobs(len(joint_set.joints), origin)
    params = PARAMETERS | {"flip_test": flip}
    found, maps = detection.detect_view(network, 256, clip, "cam1", params, joint_set, origin)
    for points in (found.keypoints, heatmaps.decode(maps)[0]):
        np.testing.assert_allclose(points, np.full((FRAMES, 17, 2), [41.25, 23.25]), atol=1e-4)


def test_an_estimator_of_other_joints_than_it_says_is_refused(tmp_path):
    path = tmp_path / "estimator.safetensors"
    for config in ({"joints_set": "lsp"}, {}, {"joints_set": "coco"}):
        with pytest.raises(UserError, match=r"estimator.safetensors: has 16 heatmaps of .*mpii \(16\).*; import or"):
            detection.joint_set_of({"architecture": {"joints": 16}} | config, path)
    assert detection.joint_set_of({"architecture": {"joints": 17}}, path).name == "human36m"
