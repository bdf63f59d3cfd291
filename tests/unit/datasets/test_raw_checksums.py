import hashlib
import json
import os
import shutil

import pytest
from tests.unit.datasets.generators import penn_action

from isopose.datasets.raw_checksums import refresh
from isopose.errors import UserError


@pytest.fixture
def raw(tmp_path):
    penn_action.write(tmp_path / "raw/penn_action", {n: penn_action.annotation()[0] for n in (1, 2)})
    return tmp_path / "raw"


def expected(root, *files):
    return {file: hashlib.sha256((root / file).read_bytes()).hexdigest() for file in files}


LABELS = [f"Penn_Action/labels/{name}.mat" for name in ("0001", "0002")]


def test_every_label_file_is_there_by_its_path_and_no_image(raw, tmp_path):
    image = raw / "penn_action/Penn_Action/frames/0001/000001.jpg"
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_bytes(b"image")
    path = refresh("penn_action", raw, tmp_path / "cache")
    assert json.loads(path.read_text()) == expected(raw / "penn_action", *LABELS)


def test_an_archive_is_one_file(tmp_path):
    root = tmp_path / "raw/three_dpw"
    root.mkdir(parents=True)
    (root / "sequenceFiles.zip").write_bytes(b"an archive")
    path = refresh("three_dpw", tmp_path / "raw", tmp_path / "cache")
    assert json.loads(path.read_text()) == expected(root, "sequenceFiles.zip")


def test_to_touch_or_to_move_the_files_changes_nothing(raw, tmp_path):
    path = refresh("penn_action", raw, tmp_path / "cache")
    os.utime(path, (9, 9))
    before = path.read_bytes()
    os.utime(raw / "penn_action" / LABELS[0])
    refresh("penn_action", raw, tmp_path / "cache")
    shutil.move(raw, tmp_path / "elsewhere")
    assert refresh("penn_action", tmp_path / "elsewhere", tmp_path / "cache") == path
    assert path.read_bytes() == before and path.stat().st_mtime == 9


@pytest.mark.parametrize("change", ["edit", "add", "remove"])
def test_another_content_is_told(raw, tmp_path, change):
    path = refresh("penn_action", raw, tmp_path / "cache")
    root, files = raw / "penn_action", [*LABELS]
    if change == "edit":
        (root / LABELS[1]).write_bytes(b"other")
    elif change == "add":
        files.append("Penn_Action/labels/0003.mat")
        shutil.copy(root / LABELS[0], root / files[-1])
    else:
        (root / files.pop()).unlink()
    refresh("penn_action", raw, tmp_path / "cache")
    assert json.loads(path.read_text()) == expected(root, *files)


def test_nothing_is_read_twice(raw, tmp_path, monkeypatch):
    refresh("penn_action", raw, tmp_path / "cache")
    monkeypatch.setattr("isopose.datasets.raw_checksums.sha256", lambda path: pytest.fail(f"read again: {path}"))
    refresh("penn_action", raw, tmp_path / "cache")


def test_a_lost_cache_is_made_again(raw, tmp_path):
    path = refresh("penn_action", raw, tmp_path / "cache")
    before = path.read_bytes()
    for file in path.parent.iterdir():
        file.write_text("{")
    assert refresh("penn_action", raw, tmp_path / "cache").read_bytes() == before


def test_a_file_that_cannot_be_read_is_named(raw, tmp_path, monkeypatch):
    def fails(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("isopose.datasets.raw_checksums.sha256", fails)
    with pytest.raises(UserError, match=r"0001.mat: cannot be read \(Permission denied\); expected what the"):
        refresh("penn_action", raw, tmp_path / "cache")


def test_a_linked_folder_counts_and_what_the_system_leaves_does_not(tmp_path):
    root, elsewhere = tmp_path / "raw/three_dpw/sequenceFiles", tmp_path / "elsewhere"
    for folder in (root / "train", elsewhere):
        folder.mkdir(parents=True)
        (folder / "a.pkl").write_bytes(folder.name.encode())
    (root / "test").symlink_to(elsewhere)
    for left in (".DS_Store", "train/._a.pkl", "train/notes.txt"):
        (root / left).write_bytes(b"left")
    path = refresh("three_dpw", tmp_path / "raw", tmp_path / "cache")
    assert sorted(json.loads(path.read_text())) == ["sequenceFiles/test/a.pkl", "sequenceFiles/train/a.pkl"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(raw, tmp_path):
    labels = raw / "penn_action/Penn_Action/labels"
    labels.chmod(0)
    try:
        with pytest.raises(UserError, match="labels: cannot be read"):
            refresh("penn_action", raw, tmp_path / "cache")
    finally:
        labels.chmod(0o755)


def test_files_that_no_source_of_the_track_reads_do_not_count(tmp_path):
    """Training files of MPI-INF-3DHP where the test set alone is read, and Human3.6M's angles, which no rule reads."""
    raw, cache = tmp_path / "raw", tmp_path / "cache"
    names = ("mpi_inf_3dhp/S1/Seq1/annot.mat", "mpi_inf_3dhp/mpi_inf_3dhp_test_set/TS1/annot_data.mat")
    for name in (*names, "human36m/Poses_D3_Positions_S1.tgz", "human36m/Poses_D3_Angles_S1.tgz"):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).touch()

    def listed(reader, sections=()):
        return [*json.loads(refresh(reader, raw, cache, sections).read_text())]

    assert listed("mpi_inf_3dhp", {"test"}) == ["mpi_inf_3dhp_test_set/TS1/annot_data.mat"]
    assert len(listed("mpi_inf_3dhp", {"test", "train"})) == 2
    assert listed("human36m", {""}) == ["Poses_D3_Positions_S1.tgz"]
    (raw / "human36m/data_3d_h36m.npz").touch()  # in the place of the others'
    assert listed("human36m", {""}) == ["Poses_D3_Positions_S1.tgz", "data_3d_h36m.npz"]
