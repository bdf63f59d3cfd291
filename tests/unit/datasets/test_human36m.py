import gzip
import io
import os
import pickle
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tests.unit.datasets.generators import human36m as official
from tests.unit.datasets.generators.mutations import COUNT, mutations

from isopose.camera import Camera, project, world_to_camera
from isopose.datasets import human36m, human36m_metadata
from isopose.datasets.human36m_files import read_cdf, read_npz
from isopose.datasets.raw_files import unpack
from isopose.datasets.store import SequenceStore
from isopose.datasets.worker import Worker
from isopose.errors import UserError
from isopose.joint_sets import JOINT_SETS
from isopose.skeleton import JOINTS


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """S9 whole, 4 frames a trial, packed as downloaded, without D2; two trials of S11 unpacked, with D2."""
    release = official.Release(tmp_path_factory.mktemp("raw") / "human36m")
    release.add_metadata()
    release.add_all(4, ["S9"], with_2d=False)
    release.pack("S9")
    release.add("S11", "Directions", 12, extra2d=3, kind=official.CDF_DOUBLE, majority="column_major")
    release.add("S11", "Directions 1", 5, compress=0)
    return release


def read(release, cache, **options):
    return {clip.id: clip for clip in human36m.read_clips(release.root, cache, **options)}


@pytest.fixture(scope="module")
def clips(release, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    before = snapshot(release.root)
    read_clips = read(release, cache, subjects=["S9"]) | read(release, cache, subjects=["S11"], actions=["Directions"])
    assert snapshot(release.root) == before  # nothing is written where the downloads are
    return read_clips


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def true_joints(release, subject, name):
    return release.joints[subject, name][:, official.USED] / 1000


def test_every_trial_is_a_clip_whose_joints_are_the_true_ones(release, clips):
    assert len([clip for clip in clips.values() if clip.subject == "S9"]) == 30
    for clip in clips.values():
        truth = true_joints(release, clip.subject, clip.attributes["trial"])
        np.testing.assert_allclose(clip.joints3d, truth, atol=1e-6)
        assert clip.fps == 50 and clip.source == "human36m" and clip.joint_valid.all()


def test_the_seventeen_joints_by_the_names_of_the_literature():
    """data_utils.py of 3d-pose-baseline, H36M_NAMES."""
    names = {0: "Hip", 1: "RHip", 2: "RKnee", 3: "RFoot", 6: "LHip", 7: "LKnee", 8: "LFoot", 12: "Spine", 13: "Thorax"}
    names |= {14: "Neck/Nose", 15: "Head", 17: "LShoulder", 18: "LElbow", 19: "LWrist", 25: "RShoulder", 26: "RElbow"}
    names |= {27: "RWrist"}
    ours = {"Hip": "pelvis", "Spine": "spine", "Thorax": "thorax", "Neck/Nose": "neck", "Head": "head"}
    sides = {f"{side}{part}": f"{side.lower()}_{part.lower()}" for side in "RL" for part in ("Hip", "Knee", "Shoulder")}
    sides |= {f"{side}{part}": f"{side.lower()}_{part.lower()}" for side in "RL" for part in ("Elbow", "Wrist")}
    sides |= {"RFoot": "r_ankle", "LFoot": "l_ankle"}
    assert tuple((ours | sides)[names[index]] for index in human36m.JOINT_INDICES) == JOINTS


def test_cameras_are_those_of_w0(release, clips):
    for subject, clip_id in (("S9", "S9_Eating"), ("S11", "S11_Directions_1")):
        cameras = clips[clip_id].cameras
        assert tuple(cameras) == official.CAMERAS
        for c, camera in enumerate(cameras.values()):
            np.testing.assert_allclose(camera.R, release.rig.rotation(subject, c), atol=1e-12)
            np.testing.assert_allclose(camera.T * 1000, release.rig.centres[int(subject[1:]) - 1, c], atol=1e-9)
            np.testing.assert_allclose(np.diag(camera.K), [*release.rig.focal[c], 1], rtol=1e-12)
            np.testing.assert_allclose(camera.K[:2, 2], release.rig.centre[c], rtol=1e-12)
            assert camera.size == official.SIZES[c]


def test_views_are_d2_positions_and_what_the_cameras_project(release, clips):
    for clip in clips.values():
        truth = release.joints[clip.subject, clip.attributes["trial"]]
        for c, (name, view) in enumerate(clip.views.items()):
            expected = release.rig.project(truth, clip.subject, c)[:, official.USED]
            np.testing.assert_allclose(view.joints2d, expected, atol=2e-4)  # float32 mm and px
            projected = project(clip.camera_joints(name), clip.cameras[view.camera])
            np.testing.assert_allclose(projected, expected, atol=1e-2)
        assert clip.attributes.get("projection_error", 0) < 1e-3
    assert {clip.subject for clip in clips.values() if "projection_error" in clip.attributes} == {"S11"}


def test_the_official_lens_is_opencvs_with_half_the_cross_terms_and_a_thin_prism(release):
    """Over the whole image: exact so, and not with p1 and p2 as OpenCV's own."""
    rig = release.rig
    grid = np.stack(np.meshgrid(np.linspace(-0.43, 0.43, 30), np.linspace(-0.43, 0.43, 30)), axis=-1).reshape(-1, 2)
    for c in range(4):
        camera = human36m_metadata.camera(*np.split(numbers(rig, c), [6]), (1000, 1000))
        points = np.c_[grid, np.ones(len(grid))] @ camera.R + camera.T
        official_pixels = rig.project(points * 1000, "S9", c)
        seen = world_to_camera(points, camera)
        np.testing.assert_allclose(project(seen, camera), official_pixels, atol=1e-9)
        (k1, k2, k3), p = rig.radial[c], rig.tangential[c]
        five = Camera(camera.K, camera.R, camera.T, np.array([k1, k2, *p, k3]))
        assert np.linalg.norm(project(seen, five) - official_pixels, axis=-1).max() > 0.1


def numbers(rig, c):
    return np.r_[rig.angles[8, c], rig.centres[8, c], rig.focal[c], rig.centre[c], rig.radial[c], rig.tangential[c]]


def test_names_splits_and_known_faults(clips):
    assert {clip.action for clip in clips.values()} == {
        *("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases", "Sitting"),
        *("SittingDown", "Smoking", "Waiting", "WalkDog", "Walking", "WalkTogether"),
    }
    assert {clip.attributes["trial"] for clip in clips.values() if clip.action == "Photo"} == {"Photo", "Photo 1"}
    shifted = {clip.id for clip in clips.values() if clip.attributes["shifted"]}
    assert shifted == {"S9_Greeting", "S9_SittingDown_1", "S9_Waiting_1"}
    assert clips["S9_SittingDown_1"].attributes["subaction"] == 2
    broken = {clip.id: clip.attributes["broken_video"] for clip in clips.values() if clip.attributes["broken_video"]}
    assert broken == {"S11_Directions": "54138969"}
    assert {clip.attributes["split"] for clip in clips.values()} == {"test"}
    assert human36m.clip_id("S5", "TakingPhoto 2") == human36m.clip_id("S5", "Photo 2") == "S5_Photo_2"
    assert human36m.action_of("WalkingTogether") == human36m.action_of("WalkTogether 1") == "WalkTogether"


def test_a_2d_track_may_be_longer_and_is_cut(clips):
    clip = clips["S11_Directions"]
    assert clip.attributes["frames2d_cut"] == 3
    assert all(len(view.joints2d) == len(clip.joints3d) == 12 for view in clip.views.values())


def test_a_2d_track_may_not_be_shorter_or_of_another_trial(release, tmp_path):
    copy = official.Release(tmp_path / "raw", release.rig)
    copy.add_metadata()
    copy.add("S1", "Eating", 6)
    copy.add("S1", "Eating 1", 6)
    folder = copy.root / "S1/MyPoseFeatures/D2_Positions"
    other = copy.rig.project(copy.joints["S1", "Eating 1"], "S1", 0)
    official.write_pose(folder / "Eating.54138969.cdf", other.reshape(6, 64))
    with pytest.raises(
        UserError, match=r"Eating\.54138969\.cdf: lies \d+ px from the projected D3_Positions; expected"
    ):
        read(copy, tmp_path, subjects=["S1"], actions=["Eating"])
    official.write_pose(folder / "Eating.54138969.cdf", other.reshape(6, 64)[:5])
    with pytest.raises(
        UserError, match=r"Eating\.54138969\.cdf: has 5 frames; expected at least the 6 of D3_Positions"
    ):
        read(copy, tmp_path, subjects=["S1"], actions=["Eating"])


def test_without_d2_the_joints_are_projected(release, tmp_path):
    copy = official.Release(tmp_path / "raw", release.rig)
    copy.add_metadata()
    for name in ("Posing", "Posing 1"):
        copy.add("S7", name, 5, with_2d=False)
    clip = read(copy, tmp_path, subjects=["S7"], actions=["Posing"])["S7_Posing"]
    for c, view in enumerate(clip.views.values()):
        expected = copy.rig.project(copy.joints["S7", "Posing"], "S7", c)[:, official.USED]
        np.testing.assert_allclose(view.joints2d, expected, atol=1e-3)
    assert "projection_error" not in clip.attributes and clip.attributes["split"] == "train"


def test_packed_or_unpacked_is_the_same(small, tmp_path):
    unpacked = read(small, tmp_path, subjects=["S1"], actions=["Eating"])
    small.pack("S1")
    packed = read(small, tmp_path, subjects=["S1"], actions=["Eating"])
    assert list(packed) == list(unpacked) == ["S1_Eating_1", "S1_Eating"]
    for clip_id, clip in packed.items():
        np.testing.assert_array_equal(clip.joints3d, unpacked[clip_id].joints3d)
        for name, view in clip.views.items():
            np.testing.assert_array_equal(view.joints2d, unpacked[clip_id].views[name].joints2d)
    assert clip.attributes == unpacked[clip_id].attributes and "projection_error" in clip.attributes


def test_a_clip_survives_the_store(clips, tmp_path):
    clip = clips["S11_Directions"]
    with SequenceStore.create(tmp_path / "store.h5") as store:
        store.write(clip)
    with SequenceStore(tmp_path / "store.h5") as store:
        back = store.read(clip.id)
    assert {key: back.attributes[key] for key in clip.attributes} == clip.attributes
    np.testing.assert_array_equal(back.cameras["55011271"].distortion, clip.cameras["55011271"].distortion)


# ---- Angles ---------------------------------------------------------------------------------------------------------


def test_angles_are_the_true_rotations(release, tmp_path):
    found = list(human36m.read_angles(release.root, tmp_path, ["S9"], ["Eating"]))
    assert [angles.id for angles in found] == ["S9_Eating_1", "S9_Eating"]
    for angles, name in zip(found, ("Eating 1", "Eating"), strict=True):
        root, rotations, _ = release.angles["S9", name]
        np.testing.assert_allclose(angles.rotations, rotations, atol=1e-5)  # of float32 degrees
        np.testing.assert_allclose(angles.root, root / 1000, atol=1e-6)
        assert angles.rotations.shape[1] == len(human36m.ANGLE_JOINTS) == 25


def test_the_protocols_angles_are_those_of_its_own_code(release):
    """rotmat2euler(expmap2rotmat(e)) of human-motion-prediction, whose e is the exponential map of R transposed."""
    rotations = release.angles["S9", "Eating"][1]
    ours = human36m.protocol_angles(rotations)
    vectors = -Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_rotvec()
    for vector, angles in zip(vectors, ours.reshape(-1, 3), strict=True):
        theta = np.linalg.norm(vector)
        x, y, z = vector / theta
        skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        R = np.eye(3) + np.sin(theta) * skew + (1 - np.cos(theta)) * skew @ skew
        e2 = -np.arcsin(R[0, 2])
        e1 = np.arctan2(R[1, 2] / np.cos(e2), R[2, 2] / np.cos(e2))
        e3 = np.arctan2(R[0, 1] / np.cos(e2), R[0, 0] / np.cos(e2))
        if angles.any():  # the root's are left out
            np.testing.assert_allclose(angles, [e1, e2, e3], atol=1e-6)
    assert not ours[:, 0].any() and ours[:, 1:].any(-1).all()


# ---- The community's files ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def npz(release, tmp_path_factory):
    """Folder with metadata.xml, data_3d_h36m.npz and data_2d_h36m_cpn.npz of S9 and S11."""
    folder = tmp_path_factory.mktemp("npz")
    (folder / "metadata.xml").write_bytes(official.metadata_xml(release.rig))
    poses, tracks = {}, {}
    for (subject, trial), joints in release.joints.items():
        name = trial.replace("TakingPhoto", "Photo").replace("WalkingDog", "WalkDog")
        views = [release.rig.project(joints, subject, c)[:, official.USED].astype("f4") for c in range(4)]
        broken = (subject, trial) == ("S11", "Directions")
        if not broken:
            poses.setdefault(subject, {})[name] = (joints / 1000).astype("float32")
        tracks.setdefault(subject, {})[name] = views[1:] if broken else views
    official.write_npz(folder / "data_3d_h36m.npz", "positions_3d", poses)
    official.write_npz(folder / "data_2d_h36m_cpn.npz", "positions_2d", tracks)
    return folder


def test_the_communitys_poses_are_the_same_clips(clips, npz):
    asked = ({"subjects": ["S9"], "actions": None}, {"subjects": ["S11"], "actions": ["Directions"]})
    found = {clip.id: clip for options in asked for clip in human36m.read_source(npz, npz, options)}
    assert set(found) == set(clips) - {"S11_Directions"}
    for clip_id, clip in found.items():
        np.testing.assert_allclose(clip.joints3d, clips[clip_id].joints3d, atol=1e-6)
        same = ("trial", "subaction", "split", "shifted", "broken_video")
        assert {key: clip.attributes[key] for key in same} == {key: clips[clip_id].attributes[key] for key in same}
        for name, view in clip.views.items():
            np.testing.assert_allclose(view.joints2d, clips[clip_id].views[name].joints2d, atol=1e-3)


def test_the_communitys_poses_are_those_of_subjects_without_official_ones(release, npz, tmp_path):
    copy = official.Release(tmp_path / "raw", release.rig)
    copy.add_metadata()
    copy.add("S7", "Posing", 5)
    copy.add("S7", "Posing 1", 5)
    shutil.copy(npz / human36m.NPZ, copy.root)
    options = {"subjects": ["S9", "S7"], "actions": ["Posing"]}
    found = {clip.id: len(clip.joints3d) for clip in human36m.read_source(copy.root, tmp_path, options)}
    assert found == {"S7_Posing_1": 5, "S7_Posing": 5, "S9_Posing_1": 4, "S9_Posing": 4}


def test_a_trial_that_the_communitys_file_lacks_is_told(npz):
    with pytest.raises(UserError, match=r"data_3d_h36m.npz: has no S11 Eating 1; expected all trials"):
        next(human36m.read_source(npz, npz, {"subjects": ["S11"], "actions": ["Eating"]}))


def test_the_communitys_detections_belong_to_views(release, clips, npz):
    metadata = human36m_metadata.read_metadata(npz)
    found = list(human36m.read_detections(npz / "data_2d_h36m_cpn.npz", metadata.cameras, ["S9", "S11"]))
    assert len(found) == 4 * len(clips) - 1
    assert ("S11_Directions", "54138969") not in {(track.clip, track.view) for track in found}
    for track in found:
        truth = clips[track.clip].views[track.view].joints2d
        np.testing.assert_allclose(track.points, truth, atol=1e-3)
        assert track.confidence is None


def test_a_third_number_is_the_confidence(release, npz, tmp_path):
    track = np.random.default_rng(0).random((3, 17, 3)).astype("f4")
    official.write_npz(tmp_path / "data.npz", "positions_2d", {"S9": {"Eating": [track] * 4}})
    metadata = human36m_metadata.read_metadata(npz)
    first = next(human36m.read_detections(tmp_path / "data.npz", metadata.cameras, ["S9"]))
    np.testing.assert_array_equal(first.confidence, track[..., 2])
    np.testing.assert_array_equal(first.points, track[..., :2])


def test_the_layouts_of_joints_are_those_of_the_joint_sets():
    assert set(human36m.JOINT_LAYOUTS) == set(JOINT_SETS)
    for name, (count, left, right) in human36m.JOINT_LAYOUTS.items():
        joints = JOINT_SETS[name].joints
        assert len(joints) == count
        for side, indices in {"l_": left, "r_": right}.items():
            assert [index for index, joint in enumerate(joints) if joint.startswith(side)] == list(indices)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_pickles_of_every_numpy_and_python(npz, tmp_path, protocol):
    """numpy 1 says numpy.core where numpy 2 says numpy._core; protocol 2 writes bytes by _codecs.encode."""
    track = np.asfortranarray(np.random.default_rng(0).random((3, 17, 2)).astype(">f8"))
    content = pickle.dumps(np.array({"S9": {"Eating": [track] * 4}}), protocol=protocol)
    if protocol < 4:  # of the older; later ones say how long they are
        content = content.replace(b"numpy._core", b"numpy.core")
    write_object_npz(tmp_path / "data.npz", content)
    metadata = human36m_metadata.read_metadata(npz)
    reader = human36m.read_detections(tmp_path / "data.npz", metadata.cameras, ["S9"])
    np.testing.assert_array_equal(next(reader).points, track)


def write_object_npz(path, pickled):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("positions_2d.npy", header.getvalue() + pickled)


# ---- Files that are not as they should be ---------------------------------------------------------------------------


class Code:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_pickle_that_runs_code_does_not(npz, tmp_path):
    marker = tmp_path / "run"
    write_object_npz(tmp_path / "data.npz", pickle.dumps(np.array({"S9": {"Eating": Code(marker)}})))
    metadata = human36m_metadata.read_metadata(npz)
    with pytest.raises(
        UserError, match=r"data\.npz: cannot be read \(UnpicklingError: its pickle asks for posix\.mkdir"
    ):
        list(human36m.read_detections(tmp_path / "data.npz", metadata.cameras, ["S9"]))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "positions_2d has no trials of S9; expected a dict of subjects"),
        ({"S9": {"../x": []}}, "has a trial '../x'; expected names as 'Eating 1'"),
        ({"S9": {"Eating": ["text"]}}, "trial Eating holds no floats; expected an array of them"),
        ({"S9": {"Eating": [np.zeros((3, 17, 2))]}}, "S9 Eating has 1 tracks; expected one a camera, 4"),
        ({"S9": {"Eating": [np.zeros((3, 16, 2))] * 4}}, r"S9 Eating 54138969 is \(3, 16, 2\); expected \(F, 17, 2\)"),
        ({"S9": {"Eating": [np.array([1], [("a", "f4")])]}}, r"cannot be read \(UnpicklingError: an array of 'V4'"),
    ],
)
def test_other_things_in_a_npz_are_refused(npz, tmp_path, tree, message):
    official.write_npz(tmp_path / "data.npz", "positions_2d", tree)
    metadata = human36m_metadata.read_metadata(npz)
    with pytest.raises(UserError, match=r"data\.npz: " + message) as refused:
        list(human36m.read_detections(tmp_path / "data.npz", metadata.cameras, ["S9"]))
    assert "\n" not in str(refused.value)


@pytest.fixture
def small(release, tmp_path):
    """A release of one action of one subject, unpacked."""
    copy = official.Release(tmp_path / "raw", release.rig)
    copy.add_metadata()
    for name in ("Eating 1", "Eating"):
        copy.add("S1", name, 5)
    return copy


def refusal(release, cache):
    with pytest.raises(UserError) as refused:
        read(release, cache, subjects=["S1"], actions=["Eating"])
    assert "\n" not in str(refused.value) and "expected" in str(refused.value)
    return str(refused.value)


def test_a_clip_comes_before_the_next_files_are_opened(small, tmp_path):
    (small.root / "S1/MyPoseFeatures/D3_Positions/Eating.cdf").unlink()
    clips = human36m.read_clips(small.root, tmp_path, ["S1"], ["Eating"])
    assert next(clips).id == "S1_Eating_1"
    with pytest.raises(UserError, match=r"Eating\.cdf: is missing; expected the trials that metadata\.xml names"):
        next(clips)


def test_poses_that_are_no_poses(small, tmp_path):
    file = small.root / "S1/MyPoseFeatures/D3_Positions/Eating 1.cdf"
    good = file.read_bytes()
    pose = small.joints["S1", "Eating 1"].reshape(5, 96)
    cases = {
        r"Pose is \(1, 5, 64\); expected one record of \(F, 96\) floats": pose[:, :64],
        r"1 of 480 numbers are NaN or infinite; expected none": np.where(
            np.arange(480).reshape(5, 96) == 7, np.nan, pose
        ),
        r"has a coordinate that is NaN or beyond 100 m": pose * 1e4,
    }
    for message, content in cases.items():
        official.write_pose(file, content)
        assert re.search(rf"Eating 1\.cdf: {message}", refusal(small, tmp_path))
    file.write_bytes(good[: len(good) // 2])
    assert "Eating 1.cdf: cannot be read" in refusal(small, tmp_path)
    file.write_bytes(b"not a CDF")
    assert "Eating 1.cdf: cannot be read" in refusal(small, tmp_path)
    file.unlink()
    assert "Eating 1.cdf: is missing; expected the trials that metadata.xml names" in refusal(small, tmp_path)


def test_a_declared_size_that_is_absurd(small, tmp_path):
    file = small.root / "S1/MyPoseFeatures/D3_Positions/Eating 1.cdf"
    official.write_pose(file, small.joints["S1", "Eating 1"].reshape(5, 96), compress=0)
    content = file.read_bytes()
    sizes = (5).to_bytes(4, "big") + (96).to_bytes(4, "big")
    assert content.count(sizes) == 1
    file.write_bytes(content.replace(sizes, (2**31 - 1).to_bytes(4, "big") + (96).to_bytes(4, "big")))
    assert "Eating 1.cdf: " in refusal(small, tmp_path)


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


INSIDE = "S1/MyPoseFeatures/D3_Positions"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([(member("../out.cdf"), b"1")], "leads out of its folder"),
        ([(member(f"{INSIDE}/../../../../out.cdf"), b"1")], "leads out of its folder"),
        ([(member(f"{INSIDE}/Eating.cdf", tarfile.SYMTYPE, "/etc/passwd"), None)], "is a link or a device"),
        ([(member(f"{INSIDE}/Eating.cdf", tarfile.LNKTYPE, "../../x"), None)], "is a link or a device"),
        ([(member(f"{INSIDE}/Eating.cdf", tarfile.FIFOTYPE), None)], "is a link or a device"),
        ([(member(f"{INSIDE}/Eating 2.cdf"), b"1")], "is missing; expected the trials that metadata.xml names"),
    ],
)
def test_archives_that_lead_out_of_their_folder(release, tmp_path, members, message):
    root = tmp_path / "raw"
    root.mkdir()
    (root / "metadata.xml").write_bytes(official.metadata_xml(release.rig))
    (root / "Poses_D3_Positions_S1.tgz").write_bytes(official.tar_bytes(members))
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=message):
        next(human36m.read_clips(root, tmp_path / "cache", ["S1"], ["Eating"]))
    outside = {path for path in tmp_path.rglob("*") if (tmp_path / "cache") not in (path, *path.parents)}
    assert outside == set(before)


def test_archives_that_are_broken_or_swell(release, tmp_path, monkeypatch):
    copy = official.Release(tmp_path / "raw", release.rig)
    copy.add_metadata()
    for name in ("Eating 1", "Eating"):
        copy.add("S1", name, 5)
    copy.pack("S1")
    archive = copy.root / "Poses_D3_Positions_S1.tgz"
    good = archive.read_bytes()
    archive.write_bytes(good[:-200])
    assert "Poses_D3_Positions_S1.tgz: cannot be unpacked" in refusal(copy, tmp_path)
    archive.write_bytes(b"<html>login</html>")
    assert "Poses_D3_Positions_S1.tgz: cannot be unpacked" in refusal(copy, tmp_path)
    archive.write_bytes(good)
    monkeypatch.setattr("isopose.datasets.raw_files.MOST_BYTES", len(good) + 1)  # unpacked it is more
    assert "Poses_D3_Positions_S1.tgz: is refused, it unpacks to more than" in refusal(copy, tmp_path)
    archive.unlink()
    assert (
        "Poses_D3_Positions_S1.tgz: is missing; expected Poses_D3_Positions_S1.tgz as downloaded (or S1/MyPose"
        in refusal(copy, tmp_path)
    )


METADATA = [
    (rb"<w0>.*?</w0>", b"<w0>[1 2 3]</w0>", "w0 holds 3 numbers"),
    (rb"<w0>.*?</w0>", b"", "it has no element w0"),
    (rb"<w0>\[\S+", b"<w0>[nan", "w0 holds 300 numbers, or some that are not finite"),
    (rb"<w0>\[\S+", b"<w0>[x", "could not convert string to float"),
    (b"54138969", b"aft port", "index2id does not hold four cameras' numbers"),
    (b"<td>S11</td>", b"<td>S12</td>", "the first row of mapping does not name S1 to S11"),
    (b"<td>Eating 1</td>", b"<td>../../x</td>", "mapping has a file name '../../x'"),
    (b"<td>16</td><td>2</td>", b"<td>16</td><td>3</td>", "mapping has no row of action 16, subaction 2"),
    (rb"\[1000 1002;", b"[0 1002;", "mapping has image sizes"),
    (b"^<root>", b'<!DOCTYPE r [<!ENTITY a "aaaa">]><root>', "it defines entities"),
    (b"</root>$", b"", "no element found|unclosed"),
    (b"^<root>", b"\xff\xfe<root>", "codec can't decode"),
]


@pytest.mark.parametrize(("pattern", "replacement", "message"), METADATA)
def test_metadata_that_is_not_as_expected(release, tmp_path, pattern, replacement, message):
    good = official.metadata_xml(release.rig)
    bad = re.sub(pattern, lambda _: replacement, good, count=1, flags=re.DOTALL)
    assert bad != good
    (tmp_path / "metadata.xml").write_bytes(bad)
    with pytest.raises(UserError, match=rf"metadata\.xml: cannot be read \(.*({message})") as refused:
        human36m_metadata.read_metadata(tmp_path)
    assert "\n" not in str(refused.value)


def test_metadata_in_the_codes_archive_and_without_image_sizes(release, tmp_path):
    with zipfile.ZipFile(tmp_path / "code-v1.2.zip", "w") as archive:
        archive.writestr("Release-v1.2/H36M/H36MCamera.m", "classdef H36MCamera")
        archive.writestr("Release-v1.2/metadata.xml", official.metadata_xml(release.rig, sizes=None))
    found = human36m_metadata.read_metadata(tmp_path).cameras["S11"]
    assert [camera.size for camera in found.values()] == list(official.SIZES)
    sizes = ((640, 480), (641, 481), (642, 482), (643, 483))
    (tmp_path / "metadata.xml").write_bytes(official.metadata_xml(release.rig, sizes))
    found = human36m_metadata.read_metadata(tmp_path).cameras["S11"]
    assert tuple(camera.size for camera in found.values()) == sizes


def test_metadata_that_is_missing_or_huge(tmp_path):
    with pytest.raises(UserError, match=r"holds no metadata\.xml and no \.zip with one; expected that of Human3\.6M"):
        human36m_metadata.read_metadata(tmp_path)
    with zipfile.ZipFile(tmp_path / "code.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.xml", bytes(2 * human36m_metadata.MAX_BYTES))
    with pytest.raises(UserError, match=r"code\.zip: metadata\.xml has more than \d+ bytes"):
        human36m_metadata.read_metadata(tmp_path)


def test_names_that_it_does_not_have(release, tmp_path):
    with pytest.raises(UserError, match="human36m: has no subject 'S2'; expected one of S1"):
        read(release, tmp_path, subjects=["S2"])
    with pytest.raises(UserError, match="human36m: has no action 'TakingPhoto'; expected one of Directions"):
        read(release, tmp_path, subjects=["S9"], actions=["TakingPhoto"])


# ---- Mutations ------------------------------------------------------------------------------------------------------


def mutate(content, seed):
    return next(mutations(content, 1, seed))


def survives(read_one):
    """It is read, or refused in one line."""
    try:
        read_one()
    except UserError as error:
        assert "\n" not in str(error)


def test_mutated_cdf(small):
    file = small.root / "S1/MyPoseFeatures/D3_Positions/Eating 1.cdf"
    for compress in (0, 6):
        official.write_pose(file, small.joints["S1", "Eating 1"].reshape(5, 96), compress=compress)
        good = file.read_bytes()
        with Worker(seconds=2) as worker:  # cdflib follows broken offsets in circles
            for seed in range(COUNT // 2):
                file.write_bytes(mutate(good, seed))
                survives(lambda: worker.read(read_cdf, file, "a CDF file", 96))


def test_mutated_npz(tmp_path):
    file = tmp_path / "data.npz"
    content = pickle.dumps(np.array({"S9": {"Eating": [np.zeros((2, 17, 2), "f4")] * 4}}), protocol=4)
    write_object_npz(file, content)
    whole = file.read_bytes()
    with Worker() as worker:
        for seed in range(COUNT):
            if seed % 2:  # of the file, whose checksum then fails, and of the pickle in it, where that is right
                file.write_bytes(mutate(whole, seed // 2))
            else:
                write_object_npz(file, mutate(content, seed // 2))
            survives(lambda: worker.read(read_npz, file, "a .npz", "positions_2d", "S9"))


def test_mutated_metadata(release):
    good = official.metadata_xml(release.rig)
    for seed in range(COUNT):
        survives(lambda content=mutate(good, seed): human36m_metadata.parse(content, Path("metadata.xml")))


def test_mutated_archive(small, tmp_path):
    small.pack("S1")
    archive = small.root / "Poses_D3_Positions_S1.tgz"
    good = archive.read_bytes()
    before = snapshot(small.root)
    for seed in range(COUNT):
        archive.write_bytes(mutate(good, seed) if seed % 2 else repacked(good, seed // 2))
        survives(lambda: unpack(archive, INSIDE, tmp_path / "cache"))
    assert set(snapshot(small.root)) == set(before)
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "cache"}


def repacked(archive, seed):
    """The same archive with its tar mutated, and rightly compressed again."""
    return gzip.compress(mutate(gzip.decompress(archive), seed), 1)
