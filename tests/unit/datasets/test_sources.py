import hashlib
import tarfile

import pytest

from isopose.datasets.sources import (
    Request,
    check_extracted,
    check_known,
    clip_id,
    derive_seed,
    extract_archive,
    generator,
    middle,
    read_checksums,
)
from isopose.errors import UserError


@pytest.fixture
def archive(tmp_path):
    mirror = tmp_path / "mirror"
    (mirror / "some").mkdir(parents=True)
    file = tmp_path / "note.txt"
    file.write_text("motion " * 5000)
    path = mirror / "some/data.tar.xz"
    with tarfile.open(path, "w:xz") as tar:
        tar.add(file, "data/note.txt")
    return mirror, path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_archive_is_extracted_once(archive, tmp_path):
    mirror, path, checksum = archive
    folder = extract_archive(mirror, "some/data.tar.xz", checksum, tmp_path / "cache")
    assert (folder / "data/note.txt").read_text().startswith("motion motion")
    path.unlink()
    assert extract_archive(mirror, "some/data.tar.xz", checksum, tmp_path / "cache") == folder
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [folder.name]


def test_missing_truncated_and_altered_archives_are_one_line(archive, tmp_path):
    mirror, path, checksum = archive
    with pytest.raises(UserError, match=r"other\.tar\.xz: is missing; expected .*; copy it there, or set ISOPOSE"):
        extract_archive(mirror, "some/other.tar.xz", checksum, tmp_path / "cache")
    whole = path.read_bytes()
    for broken in (whole[:-100], whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"data\.tar\.xz: SHA-256 is .*expected .*truncated or altered"):
            extract_archive(mirror, "some/data.tar.xz", checksum, tmp_path / "cache")
    path.write_bytes(whole[:-100])  # even if the checksum recorded were that of a truncated file
    with pytest.raises(UserError, match=r"data\.tar\.xz: cannot be unpacked"):
        extract_archive(mirror, "some/data.tar.xz", hashlib.sha256(whole[:-100]).hexdigest(), tmp_path / "cache")
    path.write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])  # or that of a damaged one
    with pytest.raises(UserError, match=r"data\.tar\.xz: cannot be unpacked"):
        extract_archive(mirror, "some/data.tar.xz", hashlib.sha256(path.read_bytes()).hexdigest(), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    (tmp_path / "m").mkdir()
    path = tmp_path / "m/evil.tar.xz"
    with tarfile.open(path, "w:xz") as tar:
        tar.add(__file__, "../../evil.py")
    with pytest.raises(UserError, match="cannot be unpacked"):
        extract_archive(tmp_path / "m", "evil.tar.xz", hashlib.sha256(path.read_bytes()).hexdigest(), tmp_path / "c")
    assert not (tmp_path / "evil.py").exists()


def test_checksums(tmp_path):
    sums = tmp_path / "SHA256SUMS"
    sums.write_text(f"{'a' * 64}  ./data/x y.bvh\n{'b' * 64}  README.md\n")
    assert read_checksums(sums) == {"data/x y.bvh": "a" * 64, "README.md": "b" * 64}
    with pytest.raises(UserError, match="none: is missing; expected the archive's checksums"):
        read_checksums(tmp_path / "none")


def test_extracted_files_are_checked_one_by_one(tmp_path):
    good, bad = tmp_path / "good.bvh", tmp_path / "bad.bvh"
    good.write_text("motion")
    checksum = hashlib.sha256(b"motion").hexdigest()
    check_extracted({good: checksum}, tmp_path)
    advice = f"delete the folder {tmp_path} and run again"
    with pytest.raises(UserError, match=rf"bad\.bvh: is missing; expected .*; {advice}"):
        check_extracted({good: checksum, bad: checksum}, tmp_path)
    bad.write_text("motiom")
    with pytest.raises(UserError, match=rf"bad\.bvh: SHA-256 is .*; expected .*; {advice}"):
        check_extracted({good: checksum, bad: checksum}, tmp_path)


def test_seeds_are_stable_and_differ():
    assert derive_seed("camera", 1, "S1") == 101946373
    assert derive_seed("a", "b") != derive_seed("ab")
    assert generator(1).random() == generator(1).random() != generator(2).random()


def test_names_and_middles():
    assert clip_id("13_18", 1.0) == "13_18"
    assert clip_id("13_18", 2) == "13_18@2.0"
    assert middle(100, 50, None) == slice(0, 100)
    assert middle(100, 50, 1.0) == slice(25, 75)
    assert middle(10, 50, 1.0) == slice(0, 10)
    with pytest.raises(UserError, match="no subject 'X'"):
        check_known(["X"], ["S1"], "subject", "synthetic")
    assert Request(50, None, None, [1.0], None, 0).mirror is None
