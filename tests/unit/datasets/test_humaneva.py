import logging
import struct

import numpy as np
import pytest
from tests.unit.datasets.generators import humaneva as generator
from tests.unit.datasets.generators.mutations import survives

from isopose.camera import Camera
from isopose.datasets import humaneva
from isopose.datasets.humaneva import Trial, read_clips, synchronise
from isopose.errors import UserError
from isopose.skeleton import JOINTS, index

TRIAL = Trial(6, 9, 14)
CAPTURED = 40
"""Motion capture frames: more than image 14 needs."""


@pytest.fixture(autouse=True)
def one_worker(kept, monkeypatch):
    monkeypatch.setattr(humaneva, "Worker", lambda: kept)
    monkeypatch.setattr(humaneva, "TRIALS", {("S1", "Box"): TRIAL})


@pytest.fixture
def root(tmp_path):
    generator.write_subject(tmp_path, "S1", ["Box"], CAPTURED)
    return tmp_path


def true_joints(frames):
    """The 15 joints of images `frames`, m, by name."""
    poses = [generator.joints(generator.START + (frame - 1) * generator.STEP) for frame in frames]
    return {name: np.array([pose[name] for pose in poses]) / 1000 for name in poses[0]}


def assert_is_truth(clip, frames, atol=1e-9):
    for name, expected in true_joints(frames).items():
        np.testing.assert_allclose(clip.joints3d[:, index(name)], expected, atol=atol, err_msg=name)


def test_joints_are_those_of_the_toolbox(root):
    (train,), (validate,) = read_clips(root, "train"), read_clips(root, "validate")
    assert_is_truth(train, range(10, 15))  # training frames are the later ones
    assert_is_truth(validate, range(6, 10))
    assert (train.id, train.subject, train.action, train.fps, train.source) == (
        *("S1_Box_0010", "S1", "Box"),
        60,
        "humaneva",
    )
    assert [JOINTS[joint] for joint in np.flatnonzero(~train.joint_valid)] == ["spine", "neck"]
    assert len(true_joints([6])) == 15


def test_derived_joints_lie_on_the_spine_and_below_the_head(root):
    (clip,) = read_clips(root, "train")
    pelvis, spine, thorax, neck, head = (
        clip.joints3d[:, index(name)] for name in ("pelvis", "spine", "thorax", "neck", "head")
    )
    for point, first, second in ((spine, pelvis, thorax), (neck, thorax, head)):
        around = np.linalg.norm(point - first, axis=1) + np.linalg.norm(second - point, axis=1)
        np.testing.assert_allclose(around, np.linalg.norm(second - first, axis=1), atol=1e-12)


def bouguet(points, number):
    """The pixel of a world point (3,), m: equations of Bouguet's toolbox, written out."""
    (fx, fy), (cx, cy), turn, position = generator.camera(number)
    k1, k2, p1, p2, k3 = generator.DISTORTION
    x, y, z = turn @ (points - position)
    x, y = x / z, y / z
    r = x**2 + y**2
    radial = 1 + k1 * r + k2 * r**2 + k3 * r**3
    xd = radial * x + 2 * p1 * x * y + p2 * (r + 2 * x**2)
    yd = radial * y + p1 * (r + 2 * y**2) + 2 * p2 * x * y
    return fx * (xd + generator.ALPHA * yd) + cx, fy * yd + cy


def test_views_are_projections_by_the_calibration(root):
    (clip,) = read_clips(root, "train")
    assert list(clip.views) == ["C1", "C2", "C3"]
    for number in range(3):
        seen = clip.views[f"C{number + 1}"].joints2d[2, index("l_wrist")]
        np.testing.assert_allclose(seen, bouguet(clip.joints3d[2, index("l_wrist")], number), atol=1e-3)
    np.testing.assert_allclose(clip.cameras["C1"].T, generator.camera(0)[3], atol=1e-9)
    assert clip.cameras["C1"].size == (640, 480)


def test_a_clip_knows_its_images(root):
    """Frame 10 is image 10 of the camera that started last, and 11 of one that started an image earlier."""
    (clip,) = read_clips(root, "train")
    assert clip.attributes == {"part": "train", "first_frame": 10, "first_image": [10, 11, 10]}


@pytest.mark.parametrize(
    ("image", "capture", "start", "images"),
    [
        ((11, 12, 11), 62.0, 42.0, [1, 2, 1]),  # the video started later
        ((121, 120.4, 122), 81, 1.0, [81, 80, 82]),  # motion capture did: 40 images after frame 1 it is at 81
    ],
)
def test_streams_are_brought_to_a_common_time(image, capture, start, images):
    offsets = np.array([(each, capture, 2.0) for each in image])
    found = synchronise(offsets)
    assert found[0] == pytest.approx(start) and found[1] == 2.0
    assert found[2].tolist() == images


def test_streams_known_at_different_times_agree():
    """The same relation told at another time: 30 motion capture frames are 15 images."""
    np.testing.assert_allclose(
        np.hstack(synchronise(np.array([(11, 62.0, 2), (12, 62.0, 2)]))),
        np.hstack(synchronise(np.array([(11, 62.0, 2), (27, 92.0, 2)]))),
    )


def test_frames_without_a_marker_split_the_clip(tmp_path, caplog):
    time = int(generator.START + (12 - 1) * generator.STEP)  # the earlier of the two around image 12
    generator.write_subject(tmp_path, "S1", ["Box"], CAPTURED, hidden=[(time, "LANK")])
    with caplog.at_level(logging.WARNING):
        clips = list(read_clips(tmp_path, "train"))
    assert [(clip.id, len(clip.joints3d)) for clip in clips] == [("S1_Box_0010", 2), ("S1_Box_0013", 2)]
    assert_is_truth(clips[0], [10, 11])
    assert_is_truth(clips[1], [13, 14])
    assert "1 of 5 frames of the part 'train' are invalid" in caplog.text


@pytest.mark.parametrize("label", ["PELO", "HEDP", "RRAL", "LFEP"])
def test_frames_without_a_joint_centre_are_invalid(tmp_path, label):
    generator.write_subject(
        tmp_path, "S1", ["Box"], CAPTURED, hidden=[(int(generator.START + 9 * generator.STEP), label)]
    )
    (clip,) = read_clips(tmp_path, "train")
    assert clip.attributes["first_frame"] == 11


def test_frames_after_the_capture_are_invalid(tmp_path):
    generator.write_subject(tmp_path, "S1", ["Box"], 26)  # image 13 needs the 26th and the 27th
    (clip,) = read_clips(tmp_path, "train")
    assert len(clip.joints3d) == 3


def test_a_head_below_the_thorax_is_not_valid(root, monkeypatch, caplog):
    monkeypatch.setattr(humaneva, "HEAD_LENGTH", -humaneva.HEAD_LENGTH)
    with caplog.at_level(logging.WARNING):
        (clip,) = read_clips(root, "train")
    assert [JOINTS[joint] for joint in np.flatnonzero(~clip.joint_valid)] == ["spine", "neck", "head"]
    assert "S1_Box_0010: the head is below the thorax" in caplog.text


@pytest.mark.parametrize(("scale", "atol"), [(-0.1, 1e-6), (0.1, 5e-4)])
def test_c3d_files_hold_the_same(tmp_path, scale, atol):
    """Floating point, and integers of 0.1 mm: to each format's own precision."""

    def save(path, points, labels):
        generator.save_c3d(path, points, labels, scale)

    generator.write_subject(tmp_path, "S1", ["Box"], CAPTURED, save, ".c3d")
    (clip,) = read_clips(tmp_path, "train")
    assert_is_truth(clip, range(10, 15), atol)


def test_the_frames_are_those_of_the_release_code():
    """Lengths of VideoPose3D's converted files (its prepare_data_humaneva.py), which asserts them."""
    published = {"Walking": ((585, 613), (433, 438), (443, 491)), "Box": ((380, 404), (377, 352), (507, 509))}

    for action, lengths in published.items():
        for subject, (validate, train) in zip(("S1", "S2", "S3"), lengths, strict=True):
            trial = ORIGINAL[subject, action]
            assert (len(trial.frames("validate")), len(trial.frames("train"))) == (validate, train)
            assert trial.frames("validate")[0] == 6  # the codec repeats the first images


ORIGINAL = dict(humaneva.TRIALS)


def refusal(root, part="train", **choice):
    with pytest.raises(UserError) as refused:
        list(read_clips(root, part, **choice))
    message = str(refused.value)
    assert "\n" not in message
    return message


def rewrite(root, name, change):
    path = root / "S1" / name
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("Calibration_Data/C2.cal", lambda t: t[:40], "C2.cal: its content: is"),
        ("Calibration_Data/C2.cal", lambda t: t + " 1", "expected 22 finite numbers"),
        ("Calibration_Data/C2.cal", lambda t: t.replace("640", "nan"), "expected 22 finite numbers"),
        ("Calibration_Data/C2.cal", lambda t: t.replace("640", "-640"), "has no positive focal length"),
        ("Calibration_Data/C2.cal", lambda t: " ".join(["1"] * 22), "is no rotation"),
        ("Calibration_Data/C1.cal", lambda t: t + " " * 2**20, "expected HumanEva's calibration"),
        ("Sync_Data/Box_1_(BW4).ofs", lambda t: "", "Box_1_(BW4).ofs: its content: is ''; expected 3"),
        ("Sync_Data/Box_1_(C1).ofs", lambda t: "11\n22.5\n-2\n", "has no positive rate"),
        ("Sync_Data/Box_1_(C1).ofs", lambda t: "11\n1e7\n2\n", "none of its frames"),
        ("Mocap_Data/S1.mp", lambda t: t.replace("LShoulderOffset", "LKneeWidth"), "LShoulderOffset: is 'nothing'"),
    ],
)
def test_damaged_text_is_one_line(root, name, change, message):
    rewrite(root, name, change)
    assert message in refusal(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, labels: (p[..., :2], labels), "Markers is (40, 91, 2) of float64"),
        (lambda p, labels: (p.astype(int), labels), "Markers is (40, 91, 3) of int64"),
        (lambda p, labels: (p, labels[:-1]), "names 90 of its 91 markers"),
        (lambda p, labels: (p * np.nan, labels), "has coordinates that are no numbers"),
        (lambda p, labels: (p * 1e6, labels), "beyond 100 m; expected mm"),
        (lambda p, labels: (p * 0, labels), "has all markers"),
        (lambda p, labels: (p, [label.replace("LTIO", "LXXO") for label in labels]), "has no point LTIO"),
        (lambda p, labels: (p[:, :89], labels[:89]), "ends at"),
    ],
)
def test_damaged_markers_are_one_line(root, change, message):
    points, labels = generator.markers(CAPTURED)
    generator.save_mat(root / "S1/Mocap_Data/Box_1.mat", *change(points, labels[: points.shape[1]]))
    assert message in refusal(root) and "Box_1.mat" in refusal(root)


def c3d_with(root, **changed):
    """Box_1.c3d in place of the .mat, with fields of its header changed."""
    points, labels = generator.markers(CAPTURED)
    path = root / "S1/Mocap_Data/Box_1.c3d"
    generator.save_c3d(path, points, labels[: points.shape[1]])
    path.with_suffix(".mat").unlink()
    data = bytearray(path.read_bytes())
    places = {"parameters": (0, "B"), "key": (1, "B"), "count": (2, "H"), "last": (8, "H"), "processor": (515, "B")}
    for name, value in changed.items():
        struct.pack_into("<" + places[name][1], data, places[name][0], value)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"key": 81}, "is no C3D file: its second byte is 81"),
        ({"processor": 85}, "is of processor type 85"),
        ({"count": 65535}, "names 91 of its 65535 points"),
        ({"last": 65535}, "is cut off: it says 65535 frames of 91 points"),
        ({"last": 0}, "is cut off"),
        ({"parameters": 255}, "cannot be read"),
    ],
)
def test_hostile_c3d_headers_are_one_line(root, changed, message):
    c3d_with(root, **changed)
    assert message in refusal(root) and "Box_1.c3d" in refusal(root)


def test_a_person_behind_the_camera_is_told(root, monkeypatch):
    camera = humaneva.read_calibration(root / "S1/Calibration_Data/C1.cal")
    turned = Camera(camera.K, np.diag([1.0, -1, -1]) @ camera.R, camera.T, camera.distortion, camera.size)
    monkeypatch.setattr(humaneva, "read_calibration", lambda _: turned)
    assert "from C1: the person is behind the camera" in refusal(root)


def test_a_missing_file_says_which(root):
    (root / "S1/Mocap_Data/Box_1.mat").unlink()
    assert "S1/Mocap_Data/Box_1.c3d: is missing" in refusal(root)


def test_a_missing_camera_says_which(root):
    (root / "S1/Calibration_Data/C2.cal").unlink()
    assert "S1/Calibration_Data/C2.cal: is missing; expected HumanEva's calibration" in refusal(root)


def test_unknown_choices_are_told(root):
    assert "has no part 'test'; expected one of train, validate" in refusal(root, "test")
    assert "has no subject 'S4'" in refusal(root, subjects=["S4"])
    assert "has no action 'Gestures'" in refusal(root, actions=["Gestures"])


@pytest.mark.parametrize(
    "name", ["Mocap_Data/Box_1.mat", "Mocap_Data/S1.mp", "Calibration_Data/C1.cal", "Sync_Data/Box_1_(C2).ofs"]
)
def test_mutations_of_the_mat_and_the_texts_are_refused_or_read(root, name):
    assert survives(root / "S1" / name, lambda: read_clips(root, "train")) > 0


def test_mutations_of_a_c3d_file_are_refused_or_read(root):
    c3d_with(root)
    assert survives(root / "S1/Mocap_Data/Box_1.c3d", lambda: read_clips(root, "train")) > 0
