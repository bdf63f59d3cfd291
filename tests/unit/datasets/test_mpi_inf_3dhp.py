import logging
import zipfile

import h5py
import numpy as np
import pytest
from tests.unit.conftest import swinging_skeleton
from tests.unit.datasets.generators import mpi_inf_3dhp as generator
from tests.unit.datasets.generators.mutations import survives

from isopose.camera import project
from isopose.datasets import mpi_inf_3dhp
from isopose.datasets.mpi_inf_3dhp import Sequence3D, read_clips
from isopose.datasets.store import SequenceStore
from isopose.errors import UserError
from isopose.skeleton import JOINTS, MIRROR

FRAMES = 12
PRECISION = 2e-6
"""Metres: nine digits of a rotation, four metres away."""


@pytest.fixture(autouse=True)
def one_worker(kept, monkeypatch):
    monkeypatch.setattr(mpi_inf_3dhp, "Worker", lambda: kept)


@pytest.fixture
def motion():
    return swinging_skeleton(FRAMES, 0.4)


@pytest.fixture
def train(tmp_path, motion, monkeypatch):
    """A folder with S1/Seq1, which has FRAMES frames."""
    monkeypatch.setattr(mpi_inf_3dhp, "SEQUENCES", {"S1/Seq1": Sequence3D(FRAMES, 25)})
    generator.write_train(tmp_path, "S1/Seq1", motion)
    return tmp_path


def ts_folder(root):
    return root / mpi_inf_3dhp.TEST_FOLDERS[0]


def write_ts(root, name="TS5", invalid=(100, 101), **changed):
    """A test sequence with its official number of valid frames; returns motion, valid and activity."""
    frames = mpi_inf_3dhp.TEST_SEQUENCES[name].valid + len(invalid)
    joints, valid = swinging_skeleton(frames, 0.1), np.ones(frames, bool)
    valid[list(invalid)] = False
    activity = 1 + np.arange(frames) * 7 // frames
    generator.write_test(ts_folder(root), name, joints, valid, activity, **changed)
    return joints, valid, activity


def assert_projects(clip, name):
    """The camera sees the joints where the annotations have them, to float32."""
    seen = project(clip.camera_joints(name), clip.cameras[name])
    np.testing.assert_allclose(seen, clip.views[name].joints2d, atol=2e-3)


def test_training_motion_is_recovered_and_projects_to_the_annotated_pixels(train, motion):
    (clip,) = read_clips(train, "train")
    assert (clip.id, clip.subject, clip.action, clip.fps, clip.source) == (
        *("S1_Seq1", "S1", "Seq1"),
        25,
        "mpi_inf_3dhp",
    )
    np.testing.assert_allclose(clip.joints3d, generator.SCALE * motion, atol=PRECISION)
    assert clip.attributes["scale"] == pytest.approx(generator.SCALE)
    assert list(clip.views) == [f"cam{number}" for number in mpi_inf_3dhp.VNECT_CAMERAS]
    for name in clip.views:
        assert_projects(clip, name)


def test_root_relative_poses_are_univ_annot3_in_each_camera(train, motion):
    (clip,) = read_clips(train, "train", cameras=[5, 9])
    for number in (5, 9):
        cell = generator.annotations(motion)["univ_annot3"][number, 0].reshape(FRAMES, 28, 3) / 1000
        expected = cell[:, [generator.ALL_JOINTS.index(n) for n in ("right_wrist", "head_top")]] - cell[:, [4]]
        joints = clip.camera_joints(f"cam{number}")
        relative = joints[:, [JOINTS.index("r_wrist"), JOINTS.index("head")]] - joints[:, :1]
        np.testing.assert_allclose(relative, expected, atol=PRECISION)


def test_the_calibration_published_for_s1_seq1_stands_as_it_should(tmp_path):
    """Camera 0 of S1/Seq1: at chest height, upright, and it sees the joint that its annotations put there."""
    path = tmp_path / "camera.calibration"
    path.write_text(
        "Skeletool Camera Calibration File V1.0\nname          0\n  sensor      10 10\n  size        2048 2048\n"
        "  animated    0\n  intrinsic   1497.693 0 1024.704 0 0 1497.103 1051.394 0 0 0 1 0 0 0 0 1 \n"
        "  extrinsic   0.9650164 0.00488022 0.262144 -562.8666 -0.004488356 -0.9993728 0.0351275 1398.138 "
        "0.262151 -0.03507521 -0.9643893 3852.623 0 0 0 1 \n  radial      0\n"
    )
    camera = mpi_inf_3dhp.read_calibration(path)[0]
    np.testing.assert_allclose(camera.R[1], [0, 0, -1], atol=0.04)  # down is the world's -z
    assert 1.2 < camera.T[2] < 1.7
    seen = project(np.array([[-0.0180923, 0.102071, 3.72617]]), camera)
    np.testing.assert_allclose(seen, [[1017.43, 1092.4]], atol=0.05)


def test_test_set_is_recovered_with_scene_activity_and_camera(tmp_path):
    joints, valid, activity = write_ts(tmp_path)
    first, second = read_clips(tmp_path, "test", ["TS5"])
    assert (first.id, second.id) == ("TS5_000001", "TS5_000103")  # images count from 1
    assert (first.subject, first.action, second.attributes["first_image"]) == ("TS5", "outdoor", 103)
    for clip, frames in ((first, slice(0, 100)), (second, slice(102, None))):
        np.testing.assert_allclose(clip.joints3d, generator.SCALE * joints[frames], atol=PRECISION)
        assert clip.attributes["activity"].tolist() == activity[frames].tolist()
        np.testing.assert_allclose(clip.cameras["cam0"].K, generator.TEST_INTRINSIC, atol=1e-6)
        assert_projects(clip, "cam0")
    assert first.cameras["cam0"].size == (1920, 1080)


@pytest.mark.parametrize("folder", mpi_inf_3dhp.TEST_FOLDERS)
def test_images_of_the_test_set_are_where_they_are_unpacked(tmp_path, folder):
    write_ts(tmp_path)
    images = f"{folder}/TS5/imageSequence"
    (tmp_path / images).mkdir(parents=True)
    assert {clip.attributes["image_folder"] for clip in read_clips(tmp_path, "test", ["TS5"])} == {images}


def test_the_test_set_has_its_2929_frames_and_three_scenes(tmp_path):
    for name in mpi_inf_3dhp.TEST_SEQUENCES:
        write_ts(tmp_path, name, invalid=())
    clips = list(read_clips(tmp_path, "test"))
    scenes = {scene: sum(len(c.joints3d) for c in clips if c.action == scene) for scene in {c.action for c in clips}}
    assert scenes == {"green_screen": 603 + 540, "no_green_screen": 505 + 553, "outdoor": 276 + 452}
    assert sum(scenes.values()) == 2929


def test_the_test_set_is_read_from_its_zip(tmp_path):
    joints, _, _ = write_ts(tmp_path, invalid=())
    folder = ts_folder(tmp_path)
    with zipfile.ZipFile(tmp_path / mpi_inf_3dhp.TEST_ZIP, "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, f"mpi_inf_3dhp_test_set/{path.relative_to(folder)}")
    folder.rename(tmp_path / "elsewhere")
    (clip,) = read_clips(tmp_path, "test", ["TS5"])
    np.testing.assert_allclose(clip.joints3d, generator.SCALE * joints, atol=PRECISION)


def test_a_clip_passes_through_the_store(tmp_path, train):
    write_ts(train)
    clips = [*read_clips(train, "train", cameras=[0]), *read_clips(train, "test", ["TS5"])]
    with SequenceStore.create(tmp_path / "s.h5") as store:
        for clip in clips:
            store.write(clip)
    with SequenceStore(tmp_path / "s.h5") as store:
        back = store.read("TS5_000001")
    assert back.attributes["activity"].tolist() == clips[1].attributes["activity"].tolist()


def test_joints_are_those_of_the_official_names():
    for indices, names in (
        (mpi_inf_3dhp.TRAIN_JOINTS, generator.ALL_JOINTS),
        (mpi_inf_3dhp.TEST_JOINTS, generator.RELEVANT_JOINTS),
    ):
        assert [generator.OURS[names[index]] for index in indices] == list(JOINTS)


def test_annotations_beyond_the_video_are_cut(train, motion, monkeypatch):
    monkeypatch.setattr(mpi_inf_3dhp, "SEQUENCES", {"S1/Seq1": Sequence3D(FRAMES - 3, 50)})
    (clip,) = read_clips(train, "train", cameras=[2])
    np.testing.assert_allclose(clip.joints3d, generator.SCALE * motion[: FRAMES - 3], atol=PRECISION)


def test_fewer_annotations_than_frames_are_told(train, monkeypatch, caplog):
    monkeypatch.setattr(mpi_inf_3dhp, "SEQUENCES", {"S1/Seq1": Sequence3D(6416, 25)})
    with caplog.at_level(logging.WARNING):
        assert len(list(read_clips(train, "train", cameras=[0]))) == 1
    assert f"has {FRAMES} of 6416 frames" in caplog.text


def test_a_video_that_is_too_short_is_no_view(train, monkeypatch, caplog):
    monkeypatch.setattr(mpi_inf_3dhp, "SHORT_VIDEOS", {("S1/Seq1", 2)})
    with caplog.at_level(logging.WARNING):
        (clip,) = read_clips(train, "train", cameras=[1, 2])
    assert list(clip.views) == ["cam1"]
    assert "S1/Seq1: left out" in caplog.text


@pytest.mark.parametrize("flipped", [True, False])
def test_exchanged_sides_are_put_right_where_they_are_exchanged(train, motion, monkeypatch, flipped):
    """As in S4/Seq2: whoever publishes corrected annotations is believed."""
    frames = slice(3, 9)
    wrong = motion.copy()
    if flipped:
        wrong[frames] = wrong[frames][:, list(MIRROR)]
    generator.write_train(train, "S1/Seq1", wrong)
    monkeypatch.setattr(mpi_inf_3dhp, "FLIPPED", {"S1/Seq1": frames})
    (clip,) = read_clips(train, "train", cameras=[0])
    np.testing.assert_allclose(clip.joints3d, generator.SCALE * motion, atol=PRECISION)
    assert_projects(clip, "cam0")


def refusal(root, part, **choice):
    with pytest.raises(UserError) as refused:
        list(read_clips(root, part, **choice))
    message = str(refused.value)
    assert "\n" not in message
    return message


def cells(motion, name, **changes):
    """A variable of annot.mat with the cells of some cameras changed by functions."""
    value = generator.annotations(motion)[name]
    for number, change in changes.items():
        value[int(number[3:]), 0] = change(value[int(number[3:]), 0])
    return value


def spoiled(values):
    values = values.copy()
    values[3] = np.nan
    return values


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda m: {"annot3": cells(m, "annot3", cam0=lambda v: v[:, :-1])}, "annot3 of camera 0 is (12, 83)"),
        (lambda m: {"annot2": cells(m, "annot2", cam4=lambda v: v.astype(int))}, "annot2 of camera 4 is (12, 56)"),
        (lambda m: {"annot2": cells(m, "annot2", cam4=lambda v: v[:5])}, "different numbers of frames"),
        (lambda m: {"annot3": cells(m, "annot3", cam0=spoiled)}, "annot3 has coordinates that are no numbers"),
        (lambda m: {"annot2": cells(m, "annot2", cam1=spoiled)}, "camera 1: annot2 has pixels that are no numbers"),
        (lambda m: {"annot2": cells(m, "annot2", cam1=lambda v: v + 99)}, "camera 1: annot2 lies 140 px"),
        (lambda m: {"univ_annot3": cells(m, "univ_annot3", cam0=lambda v: v / 1000)}, "times annot3"),
        (lambda m: {"annot3": cells(m, "annot3", cam0=lambda v: -v)}, "annot3 is behind the camera"),
        (lambda m: {"annot3": np.zeros((3, 1))}, "has not 14 cells"),
        (lambda m: {"annot3": np.zeros((14, 1))}, "annot3 of camera 0 is ()"),
        (lambda m: {"cameras": np.arange(7.0)[None]}, "has no camera 7; it has [0, 1"),
        (lambda m: {"annot3": cells(m, "annot3", cam0=lambda v: np.zeros((30_000, 84)))}, "is (30000, 84)"),
    ],
)
def test_damaged_annotations_are_one_line(train, motion, changed, message):
    generator.write_train(train, "S1/Seq1", motion, **changed(motion))
    assert message in refusal(train, "train") and "S1/Seq1" in refusal(train, "train")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:700], "lacks a line; expected name, sensor, size"),
        (lambda text: text.replace("name          7", "name          77"), "has no camera 7"),
        (lambda text: text.replace("size        2048 2048", "size        2048"), "size: is '2048'; expected 2 finite"),
        (lambda text: text.replace("intrinsic   1", "intrinsic   nan "), "expected 16 finite numbers"),
        (lambda text: text.replace("radial      0", "radial      0.1"), "has a distortion"),
        (lambda text: text.replace("extrinsic   ", "extrinsic   9"), "is no rotation"),
        (lambda text: text.replace("  animated    0\n", ""), "lacks a line"),
        (lambda text: "<!DOCTYPE html><title>404</title>", "has another first line"),
        (lambda text: text + " " * 2**20, "expected MPI-INF-3DHP's camera.calibration"),
    ],
)
def test_damaged_calibration_is_one_line(train, damage, message):
    path = train / "S1/Seq1/camera.calibration"
    path.write_text(damage(path.read_text()))
    assert message in refusal(train, "train") and "camera.calibration" in refusal(train, "train")


def test_a_missing_file_says_which(train):
    (train / "S1/Seq1/annot.mat").unlink()
    assert "S1/Seq1/annot.mat: is missing" in refusal(train, "train")
    assert "TS3/annot_data.mat: is missing" in refusal(train, "test", subjects=["TS3"])


def test_unknown_parts_and_subjects_are_told(train):
    assert "has no part 'val'; expected one of train, test" in refusal(train, "val")
    assert "has no subject 'TS1'" in refusal(train, "train", subjects=["TS1"])
    assert "has no camera 14" in refusal(train, "train", cameras=[14])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"annot2": np.zeros((278, 17, 2))}, "annot2 is (278, 17, 2) of float64; expected (278, 1, 17, 2)"),
        ({"annot3": np.zeros((2, 17, 1, 278)).T[..., :2]}, "annot3 is"),
        ({"valid_frame": np.ones((278, 1), np.uint8)}, "TS5 has 278 valid frames; expected 276"),
        ({"activity_annotation": np.full((278, 1), 8.0)}, "activities other than 1 to 7"),
        ({"univ_annot3": np.full((278, 1, 17, 3), np.inf)}, "univ_annot3 has coordinates that are no numbers"),
        ({"annot2": np.full((278, 1, 17, 2), np.nan)}, "without pixels"),
    ],
)
def test_damaged_test_annotations_are_one_line(tmp_path, changed, message):
    write_ts(tmp_path, **changed)
    assert message in refusal(tmp_path, "test", subjects=["TS5"])


def hostile(path, damage):
    with h5py.File(path, "r+") as file:
        del file["annot2"]
        if damage == "size":
            file.create_dataset("annot2", shape=(10**9, 1, 17, 2), chunks=(1000, 1, 17, 2), dtype="f8")
        elif damage == "link":
            file["annot2"] = h5py.ExternalLink("/etc/hostname", "/")
        elif damage == "group":
            file.create_group("annot2")
        elif damage == "text":
            file["annot2"] = "annotations"


@pytest.mark.parametrize("damage", ["size", "link", "group", "text", "none"])
def test_hostile_test_annotations_are_one_line(tmp_path, damage):
    write_ts(tmp_path)
    hostile(ts_folder(tmp_path) / "TS5/annot_data.mat", damage)
    message = refusal(tmp_path, "test", subjects=["TS5"])
    assert "annot_data.mat" in message and "annot2" in message


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("up\t", "down\t"), "has 0 lines 'up'"),
        (lambda text: text + text, "has 2 lines 'origin'"),
        (lambda text: text.replace("0.995038509", "0.5"), "up and right: is no rotation"),
        (lambda text: text.replace("1038.6707", "1e999"), "origin: is"),
    ],
)
def test_damaged_test_calibration_is_one_line(tmp_path, damage, message):
    write_ts(tmp_path)
    path = ts_folder(tmp_path) / "test_util/camera_calibration/ts5-6cameras.calib"
    path.write_text(damage(path.read_text()))
    assert message in refusal(tmp_path, "test", subjects=["TS5"])


def test_a_zip_without_the_file_or_that_swells_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / mpi_inf_3dhp.TEST_ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mpi_inf_3dhp_test_set/TS1/annot_data.mat", bytes(2**25 + 1))
    assert "annot_data.mat has more than 33554432 bytes" in refusal(tmp_path, "test", subjects=["TS1"])
    assert "has no mpi_inf_3dhp_test_set/TS2/annot_data.mat" in refusal(tmp_path, "test", subjects=["TS2"])
    with zipfile.ZipFile(tmp_path / mpi_inf_3dhp.TEST_ZIP, "a") as archive:
        archive.writestr("../TS2/annot_data.mat", b"outside")
    assert "'../TS2/annot_data.mat' leads out of its folder" in refusal(tmp_path, "test", subjects=["TS2"])


@pytest.mark.parametrize("name", ["annot.mat", "camera.calibration"])
def test_mutations_of_the_training_files_are_refused_or_read(train, name):
    assert survives(train / "S1/Seq1" / name, lambda: read_clips(train, "train", cameras=[0, 3])) > 0


@pytest.mark.parametrize("name", ["TS5/annot_data.mat", "test_util/camera_calibration/ts5-6cameras.calib"])
def test_mutations_of_the_test_files_are_refused_or_read(tmp_path, name):
    write_ts(tmp_path)
    assert survives(ts_folder(tmp_path) / name, lambda: read_clips(tmp_path, "test", ["TS5"])) > 0
