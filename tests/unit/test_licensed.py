import av
import numpy as np
import pytest
from PIL import Image
from tests import licensed

from isopose.datasets import coco, human36m, humaneva, mpi_inf_3dhp, mpii, penn_action, three_dpw
from isopose.datasets.check import LICENSED, check
from isopose.datasets.preprocess import run
from isopose.datasets.store import SequenceStore
from isopose.skeleton import JOINTS

FAR = 40
"""Difference of a pixel from the background, of 3 times 255, by which it is of a person."""


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    licensed.write_all(folder)
    return folder


@pytest.fixture(autouse=True)
def one_worker(kept, monkeypatch):
    """Processes that read files take seconds to start."""
    for module in ("check", "human36m", "humaneva", "mpi_inf_3dhp", "mpii", "penn_action", "three_dpw"):
        monkeypatch.setattr(f"isopose.datasets.{module}.Worker", lambda **_: kept)


@pytest.fixture
def store(raw, tmp_path, request):
    """Clips by id of a source of licensed.SOURCES."""

    def read(name, **fewer):
        options = {"occluder": {}, "seed": 0} | licensed.SOURCES[name] | fewer
        run(tmp_path / "store.h5", options, None, tmp_path / "cache", raw)
        with SequenceStore(tmp_path / "store.h5") as found:
            clips = {clip: found.read(clip) for clip in found.clips()}
        assert all(knees_bend_forward(clip.joints3d) for clip in clips.values())
        return clips

    return read


def knees_bend_forward(joints):
    """Whether left is left in joints (F, 17, 3), m, of a right-handed frame: a mirrored person's knees bend back."""
    at = dict(zip(JOINTS, np.moveaxis(joints, 1, 0), strict=True))
    forward = np.cross(at["l_hip"] - at["r_hip"], at["thorax"] - at["pelvis"])
    bend = [at[f"{side}_knee"] - (at[f"{side}_hip"] + at[f"{side}_ankle"]) / 2 for side in "lr"]
    return (np.mean(bend, axis=0) * forward).sum(-1).mean() > 0


def picture(path):
    return np.asarray(Image.open(path).convert("RGB"))


def frames(path):
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def assert_there(image, *people):
    """People's joints (J, 2), px, are all in the picture, on or beside what differs from its background, and so is
    all that differs: its extent is the joints' but for hands, feet and hair."""
    joints = np.concatenate(people)
    differs = np.abs(image.astype(int) - image[0, 0]).sum(-1) > FAR
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    low, high = np.array([columns[0], rows[0]]), np.array([columns[-1], rows[-1]])
    height = max(np.ptp(person[:, 1]) for person in people)
    assert (low >= joints.min(0) - 0.25 * height).all()
    assert (high <= joints.max(0) + 0.25 * height).all()
    assert (low <= joints.min(0) + 0.05 * height).all()
    assert (high >= joints.max(0) - 0.05 * height).all()
    x, y = np.rint(joints).astype(int).T
    assert ((x >= 0) & (y >= 0) & (x < image.shape[1]) & (y < image.shape[0])).all()
    assert differs[y, x].mean() > 0.85


@pytest.mark.parametrize("name", LICENSED)
def test_every_file_that_a_dataset_needs_is_found(raw, name):
    report = check(name, raw / name)
    assert report.status == "found", report.lines()
    assert "images" not in report.without


def test_the_whole_is_small(raw):
    files = {path.stat().st_ino: path.stat().st_size for path in raw.rglob("*") if path.is_file()}
    assert sum(files.values()) < 60e6


def test_the_same_seed_writes_the_same_files(raw, tmp_path):
    licensed.write("coco", tmp_path)
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.*")]
    assert len(files) > 40
    for path in files:
        assert (tmp_path / path).read_bytes() == (raw / path).read_bytes()


def test_human36m_videos_show_the_joints(raw, store):
    clips = store("human36m", subjects=["S1", "S5", "S11"])
    assert len(clips) == 12  # two actions, twice each
    assert {clip.action for clip in clips.values()} == {"Walking", "Eating"}
    assert clips["S1_Walking"].attributes["projection_error"] < 0.01  # px, of D2_Positions
    for name in ("S1_Walking_1", "S11_Eating"):
        clip = clips[name]
        assert len(clip.joints3d) == 32
        for view in clip.views:
            shown = frames(raw / f"human36m/{clip.subject}/Videos/{clip.attributes['trial']}.{view}.mp4")
            assert len(shown) == 32
            assert (shown[0].shape[1], shown[0].shape[0]) == clip.cameras[view].size
            for frame in (0, 20, 31):
                assert_there(shown[frame], clip.views[view].joints2d[frame])


def test_the_trials_of_human_dynamics_are_long_enough(raw, tmp_path):
    """Of the files, every second frame: more than 16 and the 150 of the protocol."""
    for angles in human36m.read_angles(raw / "human36m", tmp_path, ["S5"], ["Walking"]):
        assert len(angles.rotations) // 2 > 166
        assert len(frames(raw / "human36m/S5/Videos" / "Walking.54138969.mp4")) == len(angles.rotations)


@pytest.mark.parametrize("part", humaneva.PARTS)
def test_humaneva_videos_show_the_joints(raw, store, part):
    name = "humaneva_train" if part == "train" else "humaneva"
    clips = store(name, subjects=["S2"])
    assert [len(clip.joints3d) for clip in clips.values()] == 3 * [licensed.WINDOW]
    clip = clips["S2_Jog_0399" if part == "train" else "S2_Jog_0006"]
    assert clip.joint_valid[-1]
    for view, first in zip(humaneva.CAMERAS, clip.attributes["first_image"], strict=True):
        shown = frames(raw / f"humaneva/S2/Image_Data/Jog_1_({view}).avi")
        assert shown[0].shape == (480, 640, 3)
        for frame in (0, 7, licensed.WINDOW - 1):
            assert_there(shown[first - 1 + frame], clip.views[view].joints2d[frame])
        assert best_shift(shown, first - 1, clip.views[view].joints2d) == 0


def best_shift(shown, first, joints):
    """By how many frames pictures shown[first:] are late: where the person's middle moves as the joints' (F, J, 2)."""
    middles = joints[:20].mean(1)
    misfit = {}
    for shift in (-2, -1, 0, 1, 2):
        seen = np.array([middle(image) for image in shown[first + shift : first + shift + 20]])
        misfit[shift] = np.abs(seen - seen.mean(0) - middles + middles.mean(0)).mean()
    return min(misfit, key=misfit.get)


def middle(image):
    """x, y of the middle of what differs from the background."""
    return np.argwhere(np.abs(image.astype(int) - image[0, 0]).sum(-1) > FAR).mean(0)[::-1]


def test_mpi_inf_3dhp_videos_show_the_joints(raw, store):
    clips = store("mpi_inf_3dhp_train", fps=25)
    assert set(clips) == {"S1_Seq1", "S1_Seq2"}
    clip = clips["S1_Seq1"]
    for view in ("cam0", "cam8"):
        shown = frames(raw / f"mpi_inf_3dhp/S1/Seq1/imageSequence/video_{view[3:]}.avi")
        assert len(shown) == len(clip.joints3d) == 32
        assert shown[0].shape == (2048, 2048, 3)
        for frame in (0, 11, 31):
            assert_there(shown[frame], clip.views[view].joints2d[frame])


@pytest.mark.parametrize("name", mpi_inf_3dhp.TEST_SEQUENCES)
def test_mpi_inf_3dhp_test_stills_show_the_joints(raw, store, name):
    (clip,) = store("mpi_inf_3dhp", subjects=[name]).values()
    assert len(clip.joints3d) == mpi_inf_3dhp.TEST_SEQUENCES[name].valid
    folder = raw / "mpi_inf_3dhp/mpi_inf_3dhp_test_set" / name / "imageSequence"
    for frame in (0, len(clip.joints3d) - 1):
        image = picture(folder / f"img_{clip.attributes['first_image'] + frame:06d}.jpg")
        assert (image.shape[1], image.shape[0]) == clip.cameras["cam0"].size
        assert_there(image, clip.views["cam0"].joints2d[frame])


def test_three_dpw_stills_show_the_joints(raw, store):
    clips = store("three_dpw")
    assert len(clips) == 6  # two sequences a split, one of them of two people
    assert {clip.attributes["split"] for clip in clips.values()} == {"validation", "test"}
    for first in (name for name in clips if name.endswith("_0")):
        people = [clip for name, clip in clips.items() if name[:-1] == first[:-1]]
        (folder,) = {clip.attributes["image_folder"] for clip in people}
        for frame in (0, 23):
            image = picture(raw / "three_dpw" / folder / f"image_{frame:05d}.jpg")
            joints = [clip.views["camera"].joints2d[frame][clip.joint_valid] for clip in people]
            assert_there(image, *joints)


def test_penn_action_frames_show_the_visible_joints(raw):
    clips = list(penn_action.read_clips(raw / "penn_action"))
    assert len(clips) == licensed.PENN_VIDEOS
    assert {clip.split for clip in clips} == {"train", "test"}
    for clip in (clips[0], clips[1], clips[-1]):
        for frame, name in enumerate(clip.images):
            image = picture(raw / "penn_action" / name)
            assert (image.shape[1], image.shape[0]) == clip.size
            assert_within(image, clip.points[frame][clip.visible[frame]], clip.boxes[frame])


def assert_within(image, joints, box):
    """Joints (J, 2), px, lie on what differs from the background, and in the box x0, y0, x1, y1."""
    x, y = np.rint(joints).astype(int).T
    differs = np.abs(image.astype(int) - image[0, 0]).sum(-1) > FAR
    assert differs[y, x].mean() > 0.8
    assert (joints >= box[:2]).all()
    assert (joints <= box[2:]).all()


def test_people_in_images_are_no_mirror_images():
    for person in licensed.crowd((640, 480), 3, 1, "any") + licensed.crowd((640, 480), 3, 9, "other"):
        assert knees_bend_forward(person.joints)


def test_the_same_pose_is_where_a_repeated_video_shows_it(raw):
    """A video's packets come again after a cycle: the pictures are the first's, and their times go on."""
    path = raw / "human36m/S5/Videos/Eating.60457274.mp4"
    cycle = len(licensed.there_and_back(licensed.DISTINCT))
    shown = frames(path)
    for number in (3, cycle - 1):
        np.testing.assert_array_equal(shown[number], shown[number + 5 * cycle])
    assert not np.array_equal(shown[0], shown[cycle // 2])
    with av.open(path) as video:
        rate = video.streams.video[0].average_rate
        times = [frame.time * rate for frame in video.decode(video=0)]
    assert rate == 50
    np.testing.assert_allclose(times, np.arange(len(shown)), atol=1e-6)


@pytest.mark.parametrize(("module", "split", "least"), [(mpii, "train", 60), (coco, "train", 60), (coco, "val", 20)])
def test_people_in_images_are_where_they_are_labelled(raw, module, split, least):
    root = raw / module.SOURCE
    people = module.read_people(root, split)
    assert len(people) > least
    assert people.counted.sum() > least / 3
    for person in range(0, len(people), 9):
        image = picture(root / people.images[person])
        points, labelled, _ = people.skeleton()
        assert labelled[person].all()
        assert_within(image, points[person], people.boxes[person])


def test_mpii_test_images_have_people_without_joints(raw):
    people = mpii.read_people(raw / "mpii", "test")
    assert len({str(name) for name in people.images}) == licensed.MPII_TEST
    assert not people.labelled.any()
    assert len(mpii.read_json(raw / "mpii", "valid")) == len(mpii.read_people(raw / "mpii", "train"))


def test_sources_name_what_the_readers_take():
    readers = {"human36m", "humaneva", "mpi_inf_3dhp", "three_dpw"}
    assert {source["reader"] for source in licensed.SOURCES.values()} == readers
    for source in licensed.SOURCES.values():
        module = {"human36m": human36m, "humaneva": humaneva, "mpi_inf_3dhp": mpi_inf_3dhp, "three_dpw": three_dpw}
        expected = {"reader", "fps", "occluded", *module[source["reader"]].PARAMETERS}
        assert set(source) == expected
