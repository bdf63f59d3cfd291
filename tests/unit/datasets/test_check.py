import gzip
import hashlib
import os
import pickle
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from scipy.io import savemat
from tests.unit.conftest import swinging_skeleton
from tests.unit.datasets.generators import coco, human36m, humaneva, mpi_inf_3dhp, mpii, penn_action, three_dpw
from tests.unit.datasets.generators.mutations import mutations
from typer.testing import CliRunner

from isopose.datasets import bandai_namco, cmu_mocap
from isopose.datasets import penn_action as penn_action_reader
from isopose.datasets.__main__ import app
from isopose.datasets.check import LICENSED, MIRRORED, check
from isopose.datasets.mpi_inf_3dhp import SEQUENCES, TEST_SEQUENCES, TEST_ZIP
from isopose.datasets.official import RAW_VARIABLE
from isopose.datasets.sources import MIRROR_VARIABLE
from isopose.errors import UserError

VIDEOS = 20
"""Of Penn Action, in place of 2,326."""


def write_human36m(root):
    """One trial of the official layout, copied to all names: what a trial holds is the readers' tests' business."""
    release = human36m.Release(root)
    release.add_metadata()
    release.add("S1", "Directions", 5)
    poses = root / "S1/MyPoseFeatures"
    for subject in ("S1", "S5", "S6", "S7", "S8", "S9", "S11"):
        for action in human36m.ACTIONS[1:]:
            for name in (human36m.file_name(subject, action, number) for number in (1, 2)):
                for kind, views in {"D3_Positions": [""], "D3_Angles": [""], "D2_Positions": human36m.CAMERAS}.items():
                    for view in views:
                        ending = f".{view}.cdf" if view else ".cdf"
                        copy(
                            poses / kind / f"Directions{ending}",
                            root / subject / "MyPoseFeatures" / kind,
                            name + ending,
                        )


def copy(path, folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    if path != folder / name:
        shutil.copyfile(path, folder / name)


def write_humaneva(root):
    for subject in ("S1", "S2", "S3"):
        humaneva.write_subject(root, subject, ["Walking", "Jog", "Box"], 12)


def write_mpi_inf_3dhp(root):
    motion = swinging_skeleton(4, 0.4)
    mpi_inf_3dhp.write_train(root, "S1/Seq1", motion)
    for name in SEQUENCES:
        for file in ("annot.mat", "camera.calibration"):
            copy(root / "S1/Seq1" / file, root / name, file)
    for name in TEST_SEQUENCES:
        mpi_inf_3dhp.write_test(root / "mpi_inf_3dhp_test_set", name, motion, [1] * 4, [1] * 4)


def write_three_dpw(root):
    three_dpw.write(root, {("train", "a_00"): three_dpw.sequence("a_00", 1, 4)})
    for number in range(59):
        copy(root / "sequenceFiles/train/a_00.pkl", root / "sequenceFiles/test", f"b_{number:02d}.pkl")


def write_penn_action(root):
    penn_action.write(root, {1: penn_action.annotation(4)[0]})
    labels = root / "Penn_Action/labels"
    for number in range(2, VIDEOS + 1):
        copy(labels / "0001.mat", labels, f"{number:04d}.mat")
    frames = root / "Penn_Action/frames/0001"
    frames.mkdir(parents=True)
    (frames / "000001.jpg").write_bytes(b"a frame")


def write_mpii(root):
    crowd = mpii.people(4)
    mpii.write(root, mpii.release(crowd))
    mpii.write_json(root, crowd)


def write_coco(root):
    for split in ("train", "val"):
        coco.write(root, coco.annotations(), split)


WRITE = {name: globals()[f"write_{name}"] for name in LICENSED}

BINARY = {
    "human36m": "S1/MyPoseFeatures/D3_Positions/Directions 1.cdf",
    "humaneva": "S2/Mocap_Data/Jog_1.mat",
    "mpi_inf_3dhp": "S4/Seq2/annot.mat",
    "three_dpw": "sequenceFiles/test/b_00.pkl",
    "penn_action": "Penn_Action/labels/0001.mat",
    "mpii": "mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat",
    "coco": "annotations/person_keypoints_val2017.json",
}
"""A file of each that the check opens: of a folder, the first."""

ARCHIVES = {
    "human36m": {"Poses_D3_Positions_S9.tgz": "S9/MyPoseFeatures/D3_Positions", "code.zip": "metadata.xml"},
    "mpi_inf_3dhp": {TEST_ZIP: "mpi_inf_3dhp_test_set"},
    "three_dpw": {"sequenceFiles.zip": "sequenceFiles"},
    "penn_action": {"Penn_Action.tar.gz": "Penn_Action"},
    "mpii": {"mpii_human_pose_v1_u12_2.zip": "mpii_human_pose_v1_u12_2"},
    "coco": {"annotations_trainval2017.zip": "annotations"},
}
"""What is packed as downloaded, of which folder or file."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All seven, complete."""
    raw = tmp_path_factory.mktemp("whole")
    for name, write in WRITE.items():
        write(raw / name)
    return raw


@pytest.fixture(autouse=True)
def one_worker(kept, monkeypatch):
    monkeypatch.setattr("isopose.datasets.check.Worker", lambda: kept)


@pytest.fixture(autouse=True)
def fewer_videos(monkeypatch):
    labels, frames = penn_action_reader.FILES
    assert labels.count == 2326
    monkeypatch.setattr(penn_action_reader, "FILES", (labels._replace(count=VIDEOS), frames))


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory, monkeypatch):
    """Where temporary files go; none stays."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert not list(folder.iterdir())


@pytest.fixture
def dataset(request, whole, tmp_path):
    """A copy of the dataset that a test is about."""
    name = request.node.callspec.params["name"]
    return shutil.copytree(whole / name, tmp_path / name)


@pytest.fixture
def packed(dataset):
    """The copy, as downloaded."""
    for archive, inner in ARCHIVES[dataset.name].items():
        pack(dataset, archive, inner)
    return dataset


def pack(root, archive, inner):
    files = sorted(path for path in (root / inner, *(root / inner).rglob("*")) if path.is_file())
    if archive.endswith(".zip"):
        with zipfile.ZipFile(root / archive, "w", zipfile.ZIP_DEFLATED) as file:
            for path in files:
                file.write(path, path.relative_to(root))
    else:
        with tarfile.open(root / archive, "w:gz") as file:
            for path in files:
                file.add(path, path.relative_to(root))
    for path in files:
        path.unlink()
    if (root / inner).is_dir():
        shutil.rmtree(root / inner)


def tree(folder):
    return {path: (path.lstat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


def checked(root, every=False):
    """The report; the dataset's folder is as before, and every fault is a line."""
    before = tree(root)
    report = check(root.name, root, every)
    assert tree(root) == before
    assert not any("\n" in line for line in report.lines())
    return report


def command(*arguments, raw, mirror=None):
    return CliRunner().invoke(app, ["check", *arguments, "--raw", str(raw)], env={MIRROR_VARIABLE: str(mirror or "")})


ALL = pytest.mark.parametrize("name", LICENSED)
PACKED = pytest.mark.parametrize("name", ARCHIVES)


@ALL
def test_a_complete_dataset_is_found(name, whole):
    report = checked(whole / name)
    assert (report.status, report.missing, report.wrong) == ("found", [], [])
    assert report.there == report.needed > 0


@PACKED
def test_archives_as_downloaded_are_found(name, packed):
    report = checked(packed)
    assert (report.status, report.missing, report.wrong) == ("found", [], [])


@ALL
def test_a_missing_file_is_named_and_no_failure(name, dataset, tmp_path):
    path = dataset / BINARY[name]
    if name in ("human36m", "penn_action"):  # the folder is what is needed
        shutil.rmtree(path.parent)
    elif name == "three_dpw":
        shutil.rmtree(path.parents[1])
        picture = dataset / "imageFiles/b_00/image_00000.jpg"
        picture.parent.mkdir(parents=True)
        picture.write_bytes(b"a frame")
    else:
        path.unlink()
    report = checked(dataset)
    assert (report.status, report.wrong, report.there) == ("partly", [], report.needed - 1)
    (line,) = report.missing
    assert line.startswith(str(dataset)) and line.endswith("; copy it there")
    assert path.name in line or path.parent.name in line or name == "three_dpw"
    done = command(name, raw=tmp_path)
    assert done.exit_code == 0 and f"  missing  {dataset}" in done.output


@ALL
def test_a_truncated_file_is_wrong(name, dataset, tmp_path):
    path = dataset / BINARY[name]
    content = path.read_bytes()
    last = 100 if name == "human36m" else 1  # nothing is read of the last bytes of a CDF file
    for keep in (len(content) // 2, len(content) - last, 0):
        path.write_bytes(content[:keep])
        report = checked(dataset)
        assert report.status == "partly" and len(report.wrong) == 1, keep
        assert report.wrong[0].startswith(str(path)) and "expected" in report.wrong[0]
    done = command(name, raw=tmp_path)
    assert done.exit_code == 1 and f"  wrong    {path}" in done.output


@ALL
def test_a_file_of_another_layout_is_wrong(name, dataset):
    path = dataset / BINARY[name]
    if path.suffix == ".mat":
        savemat(path, {"other": [1.0]})
    elif path.suffix == ".cdf":
        shutil.copyfile(dataset / "S1/MyPoseFeatures/D3_Angles" / path.name, path)
    elif path.suffix == ".pkl":
        path.write_bytes(pickle.dumps({"sequence": "b_00"}, 2))
    else:
        path.write_text('{"images": [], "annotations": [{"id": 1}]}')
    report = checked(dataset)
    assert len(report.wrong) == 1 and report.wrong[0].startswith(str(path))


@ALL
def test_a_login_page_in_the_place_of_a_file_is_wrong(name, dataset):
    (dataset / BINARY[name]).write_text("<html>Please log in</html>")
    assert len(checked(dataset).wrong) == 1


@ALL
def test_mutated_files_are_right_or_wrong(name, dataset):
    path = dataset / BINARY[name]
    for content in mutations(path.read_bytes(), 4):
        path.write_bytes(content)
        assert len(checked(dataset).wrong) <= 1


@PACKED
def test_a_truncated_archive_is_wrong(name, packed):
    path = packed / next(iter(ARCHIVES[name]))
    content = path.read_bytes()
    for keep in (len(content) // 2, len(content) - 100):
        path.write_bytes(content[:keep])
        report = checked(packed)
        assert report.wrong and all(line.startswith(str(path)) for line in report.wrong), keep


@PACKED
def test_an_archive_of_other_files_is_wrong(name, packed):
    path = packed / next(iter(ARCHIVES[name]))
    path.unlink()
    (packed / "readme.txt").write_text("read me")
    pack(packed, path.name, "readme.txt")
    report = checked(packed)
    assert report.wrong and all(line.startswith(f"{path}: has ") for line in report.wrong)


@PACKED
def test_a_member_that_leads_out_is_wrong_and_not_unpacked(name, packed):
    path = packed / next(iter(ARCHIVES[name]))
    path.unlink()
    inner = Path(BINARY[name])
    (packed / "x").write_bytes(b"x")
    with tarfile.open(path, "w:gz") if "t" in path.name.split(".", 1)[1] else zipfile.ZipFile(path, "w") as file:
        (file.add if isinstance(file, tarfile.TarFile) else file.write)(
            packed / "x", f"{inner.parent}/../../../../../out"
        )
    report = checked(packed)
    assert report.wrong and "leads out of its folder" in report.wrong[0]
    assert not list(packed.parent.rglob("out"))


class Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("name", ["three_dpw"])
def test_a_pickle_that_would_run_code_is_wrong_and_does_not_run(name, dataset, tmp_path):
    (dataset / BINARY[name]).write_bytes(pickle.dumps(Attack(tmp_path / "attacked")))
    (line,) = checked(dataset).wrong
    assert "mkdir, which is no numpy array" in line
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("name", ["three_dpw"])
def test_too_few_files_are_wrong(name, dataset):
    (dataset / "sequenceFiles/train/a_00.pkl").unlink()
    assert "holds 59 files */*.pkl; expected 60" in checked(dataset).wrong[0]
    pack(dataset, "sequenceFiles.zip", "sequenceFiles")
    assert "has 59 files sequenceFiles/*/*.pkl; expected 60" in checked(dataset).wrong[0]


@pytest.mark.parametrize("name", ["three_dpw", "penn_action"])
def test_a_file_that_is_not_the_first_is_opened_where_every_one_is(name, dataset, tmp_path):
    first = dataset / BINARY[name]
    last = sorted(first.parent.parent.rglob(f"*{first.suffix}"))[-1]
    assert checked(dataset, every=True).status == "found"
    last.write_bytes(b"broken")
    assert last != first and checked(dataset).status == "found"
    (line,) = checked(dataset, every=True).wrong
    assert line.startswith(str(last))
    done = command(name, "--every", raw=tmp_path)
    assert done.exit_code == 1 and f"  wrong    {last}" in done.output
    ((archive, inner),) = ARCHIVES[name].items()
    pack(dataset, archive, inner)
    (line,) = checked(dataset, every=True).wrong
    assert line.startswith(f"{dataset / archive}, {last.name}")


@pytest.mark.parametrize("name", ["human36m"])
def test_what_the_labels_do_without_is_told_by_its_use(name, dataset):
    report = checked(dataset)
    assert list(report.without) == ["images"] and len(report.without["images"]) == 7
    assert f"  without  {', '.join(report.without['images'])} (for images alone)" in report.lines()
    shutil.rmtree(dataset / "S11/MyPoseFeatures/D3_Angles")
    assert checked(dataset).without["reading from Python"] == ["Poses_D3_Angles_S11.tgz"]


FOOTAGE = {
    "humaneva": {"S1/Image_Data/Walking_1_(C1).avi": 3},
    "mpi_inf_3dhp": {
        "S1/Seq1/imageSequence/video_0.avi": 22,
        "mpi_inf_3dhp_test_set/TS1/imageSequence/img_000001.jpg": 21,
    },
    "three_dpw": {"imageFiles/a_00/image_00000.jpg": 1},
}
"""Files that only images are read from, and how many of their folders are missing before each is put there."""


@pytest.mark.parametrize("name", FOOTAGE)
def test_folders_of_images_and_videos_are_useful_and_not_needed(name, dataset):
    for file, missing in FOOTAGE[name].items():
        report = checked(dataset)
        assert report.status == "found" and len(report.without["images"]) == missing
        place = dataset / file
        place.parent.mkdir(parents=True)
        assert f"holds 0 files {'*/*.jpg' if name == 'three_dpw' else ''}" in checked(dataset).wrong[0]
        place.write_bytes(b"pixels")
    assert len(checked(dataset).without.get("images", [])) == missing - 1


@pytest.mark.parametrize("name", ["human36m"])
def test_a_zip_beside_the_one_with_the_cameras_is_passed_over(name, packed):
    (packed / "a.zip").write_bytes(b"another")
    (packed / "b.zip").symlink_to("nowhere")
    assert checked(packed).status == "found"
    (packed / "code.zip").write_bytes(b"broken")
    assert checked(packed).wrong[0].startswith(f"{packed}/a.zip: cannot be read")


@pytest.mark.parametrize("name", ["humaneva"])
def test_a_c3d_takes_the_place_of_a_mat(name, dataset):
    humaneva.write_subject(dataset, "S1", ["Walking", "Jog", "Box"], 12, humaneva.save_c3d, ".c3d")
    for path in (dataset / "S1/Mocap_Data").glob("*.mat"):
        path.unlink()
    assert checked(dataset).status == "found"
    path = dataset / "S1/Mocap_Data/Box_1.c3d"
    path.write_bytes(path.read_bytes()[:2000])
    assert len(checked(dataset).wrong) == 1


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    for module in (cmu_mocap, bandai_namco):
        path = tmp_path / "mirror" / module.ARCHIVE
        path.parent.mkdir(parents=True)
        path.write_bytes(module.ARCHIVE.encode())
        (part,) = module.FILES
        assert part.checksum == module.ARCHIVE_SHA256
        known = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setattr(module, "FILES", (part._replace(checksum=known),))
    return tmp_path / "mirror"


def test_archives_of_the_mirror_have_a_checksum(mirror, tmp_path):
    done = command(*MIRRORED, raw=tmp_path, mirror=mirror)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "cmu_mocap     found: 1 of 1 needed files",
        "bandai_namco  found: 1 of 1 needed files",
    ]
    path = mirror / cmu_mocap.ARCHIVE
    path.write_bytes(gzip.compress(b"altered"))
    done = command(*MIRRORED, raw=tmp_path, mirror=mirror)
    assert done.exit_code == 1
    assert f"  wrong    {path}: SHA-256 is " in done.stdout and "bandai_namco  found" in done.stdout


def test_without_any_data_every_dataset_has_a_line_with_its_card(tmp_path):
    done = command(raw=tmp_path)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [*LICENSED, *MIRRORED]
    for line in lines:
        card = line.rpartition(" ")[2]
        assert ("not available" in line or line.startswith("cmu_mocap     not in a mirror: ")) and (
            Path(__file__).parents[3] / card
        ).is_file()


def test_unknown_names_and_folders_are_refused(tmp_path):
    done = command("kinect", raw=tmp_path)
    assert isinstance(done.exception, UserError) and "no dataset 'kinect'; expected one of" in str(done.exception)
    done = command(raw=tmp_path / "nowhere")
    assert f"nowhere: no such folder; set {RAW_VARIABLE}" in str(done.exception)


def test_the_communitys_poses_do_in_the_place_of_the_official_ones(tmp_path):
    root = tmp_path / "human36m"
    human36m.Release(root).add_metadata()
    (root / "data_3d_h36m.npz").write_bytes(b"poses")
    report = checked(root)
    assert report.status == "found" and report.there == report.needed == 8
