import io
import struct
import tarfile

import numpy as np
import pytest
from scipy.io import savemat
from tests.unit.datasets.generators import penn_action as generator
from tests.unit.datasets.generators.mutations import COUNT, mutations

from isopose.datasets import penn_action
from isopose.datasets.worker import Worker
from isopose.errors import UserError
from isopose.skeleton import JOINTS

SKELETON = {name.replace("left_", "l_").replace("right_", "r_"): name for name in generator.JOINTS}


@pytest.fixture(scope="module")
def worker():
    with Worker() as worker:
        yield worker


def test_the_joints_come_back(tmp_path):
    content, places, visibility, boxes = generator.annotation()
    other, *_ = generator.annotation(7, seed=1, train=False, action="bowl")
    generator.write(tmp_path, {1: content, 2: other})
    clip, second = penn_action.read_clips(tmp_path)
    assert clip.points.shape == (46, 17, 2)
    for index, joint in enumerate(JOINTS):
        if joint not in SKELETON:
            assert joint in ("pelvis", "spine", "thorax", "neck")
            assert not clip.joint_valid[index] and not clip.visible[:, index].any()
            continue
        seen = visibility[:, generator.JOINTS.index(SKELETON[joint])]
        np.testing.assert_array_equal(clip.visible[:, index], seen)
        np.testing.assert_allclose(clip.points[seen, index], places[SKELETON[joint]][seen], atol=1e-9)
        assert np.isnan(clip.points[~seen, index]).all()
    np.testing.assert_allclose(clip.boxes, boxes, atol=1e-9)
    assert (clip.id, clip.split, clip.action, clip.size) == ("0001", "train", "tennis_serve", (481, 272))
    assert clip.attributes == {"viewpoint": "back"}
    assert clip.images[0] == "Penn_Action/frames/0001/000001.jpg" and clip.images[-1].endswith("/000046.jpg")
    assert (second.id, second.split, second.action, len(second.points)) == ("0002", "test", "bowl", 7)


def test_a_file_may_have_too_few_boxes(tmp_path, worker):
    content, *_, boxes = generator.annotation()
    content["bbox"] = content["bbox"][:-1]
    generator.write(tmp_path, {1: content}, compressed=True)
    clip = penn_action.read_clip(tmp_path / "Penn_Action/labels/0001.mat", worker)
    np.testing.assert_allclose(clip.boxes[:-1], boxes[:-1], atol=1e-9)
    assert np.isnan(clip.boxes[-1]).all()


def test_the_archive_is_read_as_downloaded(tmp_path):
    generator.write(tmp_path / "plain", {1: generator.annotation()[0]})
    label = (tmp_path / "plain/Penn_Action/labels/0001.mat").read_bytes()
    root = tmp_path / "raw"
    root.mkdir()
    with tarfile.open(root / "Penn_Action.tar.gz", "w:gz") as archive:
        for name, data in {"labels/0001.mat": label, "frames/0001/000001.jpg": b"j"}.items():
            member = tarfile.TarInfo(f"Penn_Action/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert [clip.id for clip in penn_action.read_clips(root, tmp_path / "cache")] == ["0001"]
    assert [path.name for path in (tmp_path / "cache").rglob("*.*") if path.is_file()] == ["0001.mat"]  # no frames
    assert [path.name for path in root.iterdir()] == ["Penn_Action.tar.gz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "'x' is missing"),
        ({"x": np.ones((46, 12))}, r"'x' is \(46, 12\), not \(46, 13\)"),
        ({"visibility": np.ones((45, 13))}, r"'visibility' is \(45, 13\), not \(46, 13\)"),
        ({"y": "abc"}, "'y' is not numbers"),
        ({"y": np.full((46, 13), np.nan)}, "a visible joint has no place"),
        ({"x": np.full((46, 13), 1e30)}, "a visible joint has no place"),
        ({"bbox": np.ones((46, 3))}, r"'bbox' is \(46, 3\)"),
        ({"train": 3.0}, "'train' is 3, not 1 or -1"),
        ({"nframes": 1e9}, r"'x' is \(46, 13\), not \(1e\+09, 13\)"),
        ({"nframes": np.ones(2)}, r"'nframes' is \(1, 2\), not one number"),
        ({"dimensions": np.zeros(3)}, "'dimensions' is"),
        ({"action": 5.0}, "'action' is not text"),
        ({"pose": np.array(["a", 2], dtype=object)}, "'pose' is not text"),
    ],
)
def test_a_file_of_another_content_is_one_line(tmp_path, worker, change, message):
    content, *_ = generator.annotation()
    content = {name: value for name, value in (content | change).items() if value is not None}
    path = tmp_path / "0001.mat"
    savemat(path, content)
    with pytest.raises(UserError, match=message) as refused:
        penn_action.read_clip(path, worker)
    told = str(refused.value)
    assert told.startswith(f"{path}: ")
    assert "expected an annotation of Penn Action" in told and "\n" not in told


def test_a_broken_or_swollen_file_is_one_line(tmp_path, worker):
    path = tmp_path / "0001.mat"
    savemat(path, generator.annotation()[0])
    whole = path.read_bytes()
    shape = struct.pack("<2i", 46, 13)
    assert shape in whole
    swollen = whole.replace(shape, struct.pack("<2i", 2**31 - 1, 2**31 - 1), 1)
    for content in (whole[: len(whole) // 2], b"", b"MATLAB 7.3 MAT-file".ljust(512), swollen):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"expected an annotation of Penn Action.*copy it from") as refused:
            penn_action.read_clip(path, worker)
        assert "\n" not in str(refused.value)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"Penn_Action\.tar\.gz: is missing; expected Penn_Action\.tar\.gz as down"):
        list(penn_action.read_clips(tmp_path))
    (tmp_path / "Penn_Action/labels").mkdir(parents=True)
    with pytest.raises(UserError, match=r"Penn_Action/labels: holds no \.mat"):
        list(penn_action.read_clips(tmp_path))


@pytest.mark.parametrize("compressed", [False, True])
def test_mutations_are_read_or_refused_in_one_line(tmp_path, worker, compressed):
    generator.write(tmp_path, {1: generator.annotation(3)[0]}, compressed)
    path = tmp_path / "Penn_Action/labels/0001.mat"
    refused = 0
    for content in mutations(path.read_bytes(), COUNT // 2):
        path.write_bytes(content)
        try:
            assert len(penn_action.read_clip(path, worker).points) == 3
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            refused += 1
    assert refused


def test_a_video_becomes_a_clip_without_3d(tmp_path):
    content, places, visibility, boxes = generator.annotation()
    generator.write(tmp_path, {1: content, 2: generator.annotation(7, seed=1, train=False, action="bowl")[0]})
    options = {"splits": ["train"], "actions": None, "fps": 50}
    (clip,) = penn_action.read_source(tmp_path, tmp_path / "cache", options)
    assert clip.only_2d and clip.fps == 50 and clip.joints3d.shape == (46, 17, 3)
    view = clip.views["camera"]
    wrist, seen = JOINTS.index("l_wrist"), visibility[:, generator.JOINTS.index("left_wrist")]
    np.testing.assert_array_equal(view.visible[:, wrist], seen)
    np.testing.assert_allclose(view.joints2d[seen, wrist], places["left_wrist"][seen], rtol=1e-6)
    np.testing.assert_allclose(clip.attributes["boxes"], boxes, rtol=1e-6)
    assert clip.attributes["image_folder"] == "Penn_Action/frames/0001" and clip.attributes["first_image"] == 1
    K = clip.cameras["camera"].K  # the middle of the 481 x 272 image, square pixels
    assert (K[0, 0], K[0, 2], K[1, 2]) == (pytest.approx(1.145 * 481), 240.5, 136) and K[0, 0] == K[1, 1]
    bowls = penn_action.read_source(tmp_path, tmp_path / "cache", options | {"splits": ["test"], "actions": ["bowl"]})
    assert [clip.id for clip in bowls] == ["0002"]
    with pytest.raises(UserError, match="penn_action: has no split 'validation'; expected one of test, train"):
        list(penn_action.read_source(tmp_path, tmp_path / "cache", options | {"splits": ["validation"]}))
