import json

import av
import numpy as np
import pytest
import torch

from isopose import detection, heatmaps, sparse_maps
from isopose.camera import Camera, project
from isopose.crops import boxes_around, crop_to_image, image_to_crop
from isopose.datasets.footage import Recordings, recorded_boxes
from isopose.datasets.store import Clip, DetectionStore, SequenceStore, View, ViewKey
from isopose.datasets.worker import Worker
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


IMAGE = 256  # px, the side of the recorded images below


def write_video(path, images, codec="libx264rgb", kind="rgb24"):
    """Encode images (n, H, W, 3), as a camera of Human3.6M does: B-frames, and keyframes far apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=50, options={"crf": "0" if kind == "rgb24" else "18"})
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], kind
        stream.codec_context.max_b_frames, stream.gop_size = 3, 100
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


VIDEO = "S9/Videos/Walking 1.54138969.mp4"


@pytest.fixture
def recorded(lab, tmp_path):
    """A labelled store of Human3.6M with one clip, rendered, whose video is that rendering without loss."""
    camera = Camera(np.array([[250.0, 0, 127], [0, 250, 127], [0, 0, 1]]), np.eye(3), np.zeros(3), size=(IMAGE, IMAGE))
    joints, path = standing(FRAMES, 0), tmp_path / "recorded.h5"
    view = View("54138969", project(joints, camera), np.ones((FRAMES, 17), bool), seed=3)
    attributes = {"trial": "Walking 1", "broken_video": ""}
    attributes["boxes"] = np.tile([0.0, 0, IMAGE, IMAGE] - np.array([0.5]), (FRAMES, 1))
    names = ("S9_Walking_1", joints, np.ones(17, bool), "S9", "Walking", 50.0, "human36m")
    clip = Clip(*names, attributes, {"54138969": camera}, {"54138969": view})
    with SequenceStore.create(path, reader="human36m") as store:
        store.write(clip)
    whole = np.tile([IMAGE / 2 - 0.5, IMAGE / 2 - 0.5, IMAGE], (FRAMES, 1))
    images = view_frames(clip, "54138969", whole, np.arange(FRAMES), IMAGE, "test")
    write_video(tmp_path / "raw/human36m" / VIDEO, images)
    return path, lab[1], images


def detect_recorded(recorded, tmp_path, **params):
    selection = {"source": "h36m", "cameras": ["54138969"], "occluded": False}
    params = json.dumps(PARAMETERS | {"selections": [selection], "margin": 1.0} | params)
    output, quality = tmp_path / "detections.h5", tmp_path / "quality.json"
    detection.main([f"h36m={recorded[0]}"], recorded[1], output, quality, params, tmp_path / "raw")
    with DetectionStore(output) as store:
        return store.read(ViewKey("h36m", "S9_Walking_1", "54138969")), json.loads(quality.read_text())


def test_a_recorded_view_is_read_from_its_video(recorded, tmp_path):
    found, quality = detect_recorded(recorded, tmp_path)
    np.testing.assert_allclose(found.boxes, np.tile([127.5, 127.5, 256], (FRAMES, 1)))
    model, config = detection.load_estimator(recorded[1])
    side = IMAGE // config["size"]
    # each crop pixel is the mean of the video's under a triangle, here as a sum over pixels
    weights = np.maximum(1 - np.abs(np.arange(-side, side) + 0.5) / side, 0) / side
    padded = np.pad(recorded[2].astype(float), ((0, 0), *[(side // 2, side // 2)] * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * side, 2 * side), (1, 2))[:, ::side, ::side]
    small = np.rint(np.einsum("nijcyx,y,x->nijc", windows, weights, weights)).astype(np.uint8)
    maps = detect(model, small)
    np.testing.assert_allclose(found.confidence, maps.max(axis=(-2, -1)), atol=0.01)
    points, _ = heatmaps.decode(maps)
    assert (np.abs(found.keypoints - points).max(axis=-1) < 0.3).mean() > 0.9  # rounding moves a flat map's peak
    assert quality["frames"] == FRAMES and 0 <= quality["pckh"] <= 1


def test_a_recorded_view_without_its_video_is_never_rendered(recorded, tmp_path):
    (tmp_path / "raw/human36m" / VIDEO).unlink()
    with pytest.raises(UserError, match=r"Walking 1\.54138969\.mp4: is missing; expected a video"):
        detect_recorded(recorded, tmp_path)
    assert not (tmp_path / "detections.h5").exists()


def test_keypoints_of_a_video_are_where_its_pixels_are(recorded, tmp_path):
    """A bright spot that moves through the image is found in its place, whatever the box and the frame rate."""
    clip = clip_of(recorded[0], "S9_Walking_1")
    clip.attributes.pop("boxes")
    view = clip.views["54138969"]
    view.joints2d[:, 10] = np.nan  # a joint that is not labelled
    place = np.stack([100 + 2.5 * np.arange(FRAMES), 90 + 1.5 * np.arange(FRAMES)], axis=1)
    spots = heatmaps.render(place[:, None].astype(np.float32), IMAGE, 4.0)[:, 0]
    images = np.repeat(np.rint(250 * spots).astype(np.uint8)[..., None], 3, -1)
    write_video(tmp_path / "raw/human36m" / VIDEO, images, "libx264", "yuv420p")
    network = Blobs(17, 1.5)
    with Worker() as worker:
        recordings = Recordings("human36m", tmp_path / "raw/human36m", worker)
        found, _ = detection.detect_view(network, 256, clip, "54138969", PARAMETERS, recorded=recordings)
        pixel = found.boxes[:, 2].max() / 64
        error = np.abs(found.image_keypoints - place[:, None])
        assert error.max() < 0.5 * pixel
        clip.joints3d, view.joints2d = clip.joints3d[::2], view.joints2d[::2]
        clip.fps, clip.attributes["recorded_fps"] = 25.0, 50.0
        view.occluders = np.tile([0.0, 0, 300, 300], (len(view.joints2d), 1, 1))
        view.occluders[2:] = np.nan
        half, _ = detection.detect_view(network, 256, clip, "54138969", PARAMETERS, recorded=recordings)
    assert np.abs(half.image_keypoints - place[::2, None])[2:].max() < 0.5 * pixel
    assert half.confidence[2:].min() > half.confidence[:2].max()  # grey where the spot would be


def test_2d_labels_alone_give_boxes_and_no_scores(recorded, tmp_path):
    clip = clip_of(recorded[0], "S9_Walking_1")
    clip.joints3d[:] = np.nan
    boxes = np.full((FRAMES, 4), np.nan)
    boxes[3], boxes[15] = (20, 30, 60, 130), (100, 30, 140, 130)
    clip.attributes["boxes"] = boxes
    with SequenceStore.create(recorded[0], reader="human36m") as store:
        store.write(clip)
    found, quality = detect_recorded(recorded, tmp_path, smoothing=1, margin=1.2)
    expected = [[40, 80, 120]] * 10 + [[120, 80, 120]] * 10
    np.testing.assert_allclose(found.boxes, expected)
    assert quality["frames"] == FRAMES and "pckh" not in quality and "visible_share" not in quality
    assert quality["bytes_per_frame"] == (tmp_path / "detections.h5").stat().st_size / FRAMES


def test_a_person_without_any_box_is_told(recorded, tmp_path):
    clip = clip_of(recorded[0], "S9_Walking_1")
    for boxes, fault in ((np.full((FRAMES, 4), np.nan), "none of 20 frames has one"), (np.zeros((3, 4)), r"\(3, 4\)")):
        clip.attributes["boxes"] = boxes
        with pytest.raises(UserError, match=f"human36m: S9_Walking_1/54138969: .*{fault}.*; read the clips again"):
            recorded_boxes(clip, "54138969", 1.25, 5)


def test_a_view_whose_video_is_broken_is_left_out_and_said(recorded, tmp_path, capsys):
    clip = clip_of(recorded[0], "S9_Walking_1")
    broken, other = clip.attributes | {"broken_video": "54138969"}, clip.attributes
    with SequenceStore.create(recorded[0], reader="human36m") as store:
        for name, attributes in (("S9_Walking_1", other), ("S9_Walking_2", broken)):
            clip.id, clip.attributes = name, attributes
            store.write(clip)
    detect_recorded(recorded, tmp_path)
    with DetectionStore(tmp_path / "detections.h5") as store:
        assert [key.clip for key in store.keys()] == ["S9_Walking_1"]  # noqa: SIM118
    assert "h36m/S9_Walking_2/54138969: left out, its video is broken" in capsys.readouterr().out


def test_joints_that_a_dataset_lacks_are_not_held_against_it(recorded, tmp_path):
    _, whole = detect_recorded(recorded, tmp_path)
    clip = clip_of(recorded[0], "S9_Walking_1")
    clip.joint_valid[7] = False
    with SequenceStore.create(recorded[0], reader="human36m") as store:
        store.write(clip)
    found, quality = detect_recorded(recorded, tmp_path)
    view, rest = clip.views["54138969"], np.arange(17) != 7
    head = keypoints.head_size(clip.camera_joints("54138969"), clip.cameras["54138969"])
    near = np.linalg.norm(found.image_keypoints - view.joints2d, axis=-1) <= 0.5 * head[:, None]
    assert quality["pckh"] == pytest.approx(near[:, rest].mean()) and whole["pckh"] == pytest.approx(near.mean())
