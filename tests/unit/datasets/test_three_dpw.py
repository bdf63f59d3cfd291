import os
import pickle
import zipfile

import numpy as np
import pytest
from tests.unit.datasets.generators import three_dpw as generator
from tests.unit.datasets.generators.mutations import mutations

from isopose.datasets import three_dpw
from isopose.datasets.store import SequenceStore
from isopose.datasets.worker import Worker
from isopose.errors import UserError
from isopose.skeleton import JOINTS

NAME = "downtown_runForBus_00"


@pytest.fixture(scope="module")
def worker():
    with Worker() as worker:
        yield worker


def camera_frame(content, person, frame):
    """SMPL's joints (24, 3) before the camera, a joint at a time."""
    extrinsics = content["cam_poses"][frame]
    joints = content["jointPositions"][person][frame].reshape(24, 3)
    return np.array([(extrinsics @ [*joint, 1])[:3] for joint in joints])


def test_the_motion_comes_back_person_by_person(tmp_path):
    content = generator.sequence(NAME)
    generator.write(tmp_path, {("test", NAME): content, ("train", "outdoors_golf_00"): generator.sequence("o", 1, 4)})
    clips = list(three_dpw.read_clips(tmp_path, ["test"]))
    assert [clip.id for clip in clips] == [f"{NAME}_0", f"{NAME}_1"]
    for person, clip in enumerate(clips):
        expected = np.stack([camera_frame(content, person, frame) for frame in range(12)])
        assert clip.joints3d.shape == (12, 17, 3)
        camera = clip.cameras["camera"]
        found = (clip.joints3d - camera.T) @ camera.R.T
        for joint, smpl in {"pelvis": 0, "r_hip": 2, "l_knee": 4, "r_ankle": 8, "l_wrist": 20, "thorax": 12}.items():
            np.testing.assert_allclose(found[:, JOINTS.index(joint)], expected[:, smpl], atol=1e-9)
            np.testing.assert_allclose(
                clip.camera_joints("camera")[:, JOINTS.index(joint)], expected[:, smpl], atol=1e-6
            )
        thorax, ears, head = (clip.joints3d[:, JOINTS.index(name)] for name in ("thorax", "neck", "head"))
        np.testing.assert_allclose(head - ears, 0.130 / 0.213 * (ears - thorax), atol=1e-5)  # ANSUR II's mean head
        assert clip.joint_valid.tolist() == [joint != "head" for joint in JOINTS]
        for frame, joint in np.ndindex(12, 17):
            if joint != JOINTS.index("head"):
                x, y, w = generator.K @ found[frame, joint]
                np.testing.assert_allclose(clip.views["camera"].joints2d[frame, joint], [x / w, y / w], atol=1e-6)
        assert (camera.size, clip.fps, clip.action, clip.source) == ((1080, 1920), 30.0, "runForBus", "3dpw")
        assert clip.attributes == {
            "split": "test",
            "gender": "mf"[person],
            "image_folder": f"imageFiles/{NAME}",
            "first_image": 0,
        }
    assert len(list(three_dpw.read_clips(tmp_path, ["train"]))) == 1
    with SequenceStore.create(tmp_path / "store.h5") as store:
        store.write(clips[1])
    with SequenceStore(tmp_path / "store.h5") as store:
        stored = store.read(f"{NAME}_1")
    np.testing.assert_allclose(stored.camera_joints("camera"), clips[1].camera_joints("camera"), atol=1e-6)
    assert stored.attributes == clips[1].attributes


def test_the_world_has_z_up_where_the_camera_is_level(tmp_path):
    content = generator.sequence(NAME, 1)
    content["cam_poses"] = np.tile(np.diag([1.0, -1, -1, 1]), (12, 1, 1))  # the file's y, up, is the camera's -y
    content["cam_poses"][:, 2, 3] = 8
    generator.write(tmp_path, {("test", NAME): content})
    (clip,) = three_dpw.read_clips(tmp_path, ["test"])
    up = content["jointPositions"][0].reshape(12, 24, 3)[..., 1]
    for joint, smpl in {"pelvis": 0, "l_ankle": 7, "neck": 15}.items():
        np.testing.assert_allclose(clip.joints3d[:, JOINTS.index(joint), 2], up[:, smpl], atol=1e-9)


def test_frames_that_are_not_valid_divide_a_clip(tmp_path, caplog):
    content = generator.sequence(NAME, invalid=[(1, 0), (1, 5), (1, 6)])
    content["cam_poses"][9, :3, :3] = np.nan  # of a frame that nobody has
    for person in range(2):
        content["campose_valid"][person][9] = 0
    generator.write(tmp_path, {("validation", NAME): content})
    clips = {clip.id: clip for clip in three_dpw.read_clips(tmp_path, ["validation"])}
    lengths = {name: len(clip.joints3d) for name, clip in clips.items()}
    assert lengths == {
        f"{NAME}_0_f0000": 9,
        f"{NAME}_0_f0010": 2,
        f"{NAME}_1_f0001": 4,
        f"{NAME}_1_f0007": 2,
        f"{NAME}_1_f0010": 2,
    }
    late = clips[f"{NAME}_1_f0007"]
    assert late.attributes["first_image"] == 7
    np.testing.assert_allclose(late.camera_joints("camera")[1, 0], camera_frame(content, 1, 8)[0], atol=1e-6)
    assert f"{NAME}_1: left out 4 of 12 frames" in caplog.text


def test_lists_in_place_of_arrays_are_read(tmp_path, worker):
    content = generator.sequence(NAME, invalid=[(0, 1)])
    content["campose_valid"] = [valid.tolist() for valid in content["campose_valid"]]
    content["jointPositions"] = np.stack(content["jointPositions"])
    generator.write(tmp_path, {("test", NAME): content})
    sequence = three_dpw.read_sequence(tmp_path / f"sequenceFiles/test/{NAME}.pkl", worker)
    np.testing.assert_array_equal(sequence.joints.reshape(2, 12, 72), content["jointPositions"])
    assert sequence.valid.tolist() == [[frame != 1 for frame in range(12)], [True] * 12]
    np.testing.assert_array_equal(sequence.detections[1, 3, 17], content["poses2d"][1][3][:, 17])


def test_a_frame_with_a_joint_behind_the_camera_is_left_out(tmp_path):
    content = generator.sequence(NAME, 1)
    content["jointPositions"][0][3, 72 - 1] += 20  # the camera stands at z = 8 and looks along -z
    generator.write(tmp_path, {("test", NAME): content})
    assert [len(clip.joints3d) for clip in three_dpw.read_clips(tmp_path, ["test"])] == [3, 8]


def test_the_archive_is_read_as_downloaded(tmp_path):
    content = generator.sequence(NAME)
    generator.write(tmp_path / "plain", {("test", NAME): content})
    root = tmp_path / "raw"
    root.mkdir()
    with zipfile.ZipFile(root / "sequenceFiles.zip", "w") as archive:
        archive.write(tmp_path / f"plain/sequenceFiles/test/{NAME}.pkl", f"sequenceFiles/test/{NAME}.pkl")
        archive.writestr("__MACOSX/._x", "")
    for _ in range(2):  # unpacked once, then found
        assert len(list(three_dpw.read_clips(root, ["test"], tmp_path / "cache"))) == 2
    assert sorted(path.name for path in root.iterdir()) == ["sequenceFiles.zip"]


@pytest.mark.parametrize("protocol", range(5))
def test_pickles_written_again_by_python_3_are_read(tmp_path, worker, protocol):
    """numpy 2 calls itself numpy._core; protocols 0 to 2 of Python 3 call a codec for bytes, which is refused."""
    path = tmp_path / f"{NAME}.pkl"
    path.write_bytes(pickle.dumps(generator.sequence(NAME), protocol))
    if protocol < 3:
        with pytest.raises(UserError, match=r"names _codecs\.encode"):
            three_dpw.read_sequence(path, worker)
    else:
        assert three_dpw.read_sequence(path, worker).joints.shape == (2, 12, 24, 3)


class Run:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_pickle_that_runs_code_is_refused_before_it_does(tmp_path, worker):
    marker = tmp_path / "ran"
    content = generator.sequence(NAME)
    for thing in (Run(os.system, f"touch {marker}"), Run(eval, f"open({str(marker)!r}, 'w')"), Run(np.save, marker, 1)):
        path = tmp_path / f"{NAME}.pkl"
        path.write_bytes(pickle.dumps(content | {"betas": [thing]}, 4))
        with pytest.raises(UserError, match=r"names [\w.]+, which is no numpy array.*; expected a sequence of 3DPW"):
            three_dpw.read_sequence(path, worker)
        assert not marker.exists()
        pickle.loads(path.read_bytes())  # it would have run
        assert marker.exists() or thing.call[0] is np.save
        marker.unlink(missing_ok=True)


def replaced(key, value):
    def change(content):
        content[key] = value(content[key])

    return change


def first_replaced(key, value):
    return replaced(key, lambda values: [value(values[0]), *values[1:]])


def spoiled(array, value=np.nan):
    array = array.astype(float)
    array.flat[0] = value
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("cam_poses"), "'cam_poses' is missing"),
        (lambda content: content.pop("jointPositions"), "'jointPositions' is missing"),
        (replaced("jointPositions", lambda _: []), "'jointPositions' has no people"),
        (replaced("campose_valid", lambda valid: valid[:1]), "'campose_valid' has 1 entries for 2 people"),
        (replaced("genders", lambda _: ["m"]), "'genders' has 1 entries for 2 people"),
        (first_replaced("jointPositions", lambda array: array[:, :69]), r"'jointPositions' holds float64 \(12, 69\)"),
        (first_replaced("poses2d", lambda array: array.swapaxes(1, 2)), r"'poses2d' holds float64 \(12, 18, 3\)"),
        (first_replaced("jointPositions", lambda array: array.astype("S9")), r"'jointPositions' holds \|S9"),
        (replaced("jointPositions", lambda _: np.array(5.0)), "'jointPositions' is no list of people"),
        (replaced("cam_poses", lambda _: "abc"), r"'cam_poses' holds <U3 \(\), not numbers \(12, 4, 4\)"),
        (first_replaced("jointPositions", spoiled), "'jointPositions' holds values that cannot be"),
        (first_replaced("jointPositions", lambda array: 1000 * array + 2e4), "'jointPositions' holds values"),
        (replaced("cam_poses", lambda array: array[:, :3]), r"'cam_poses' holds float64 \(12, 3, 4\)"),
        (replaced("cam_poses", lambda array: array * 2), "'cam_poses' holds values that cannot be"),
        (replaced("cam_poses", lambda array: array * [[[-1.0], [1], [1], [1]]]), "'cam_poses' holds values"),
        (replaced("cam_poses", spoiled), "'cam_poses' holds values that cannot be"),
        (replaced("cam_intrinsics", lambda array: -array), "'cam_intrinsics' holds values that cannot be"),
    ],
)
def test_a_file_of_another_content_is_one_line(tmp_path, worker, change, message):
    content = generator.sequence(NAME)
    change(content)
    path = tmp_path / f"{NAME}.pkl"
    path.write_bytes(generator.python2_pickle(content))
    with pytest.raises(UserError, match=message) as refused:
        three_dpw.read_sequence(path, worker)
    told = str(refused.value)
    assert told.startswith(f"{path}: ")
    assert "expected a sequence of 3DPW" in told and "\n" not in told


def test_a_broken_or_swollen_file_is_one_line(tmp_path, worker):
    path = tmp_path / f"{NAME}.pkl"
    whole = generator.python2_pickle(generator.sequence(NAME))
    shape = whole.index(b"K\x0cKH\x86")  # (12, 72)
    huge = whole[:shape] + b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86" + whole[shape + 5 :]
    for content in (whole[: len(whole) // 2], b"", b"\x80\x02N.", huge, b"\x80\x02" + b"(" * 10**6):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"expected a sequence of 3DPW.*; copy it from the source again") as refused:
            three_dpw.read_sequence(path, worker)
        assert "\n" not in str(refused.value)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"sequenceFiles\.zip: is missing; expected sequenceFiles\.zip as downloaded"):
        list(three_dpw.read_clips(tmp_path))
    (tmp_path / "sequenceFiles/test").mkdir(parents=True)
    with pytest.raises(UserError, match=r"sequenceFiles/test: holds no \.pkl"):
        list(three_dpw.read_clips(tmp_path, ["test"]))
    with pytest.raises(UserError, match="3dpw: has no split 'all'; expected one of test, train, validation"):
        list(three_dpw.read_clips(tmp_path, ["all"]))


def test_mutations_are_read_or_refused_in_one_line(tmp_path, worker):
    path = tmp_path / f"{NAME}.pkl"
    outcomes = set()
    for content in mutations(generator.python2_pickle(generator.sequence(NAME, 1, 3))):
        path.write_bytes(content)
        try:
            sequence = three_dpw.read_sequence(path, worker)
            list(three_dpw._clips(sequence, "test"))
            outcomes.add("read")
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_the_leavings_of_a_mac_beside_a_file_are_not_read(tmp_path):
    generator.write(tmp_path, {("test", NAME): generator.sequence(NAME, 1)})
    (file,) = tmp_path.rglob("*.pkl")
    file.with_name(f"._{file.name}").write_bytes(b"\x00\x05\x16\x07")
    assert len(list(three_dpw.read_clips(tmp_path, ["test"]))) == 1
