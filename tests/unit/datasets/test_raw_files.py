import gzip
import io
import stat
import tarfile
import zipfile

import pytest
from tests.unit.datasets.generators.mutations import mutations

from isopose.datasets import raw_files
from isopose.datasets.raw_files import Part, listed, locate, places, unpack
from isopose.errors import UserError


def make_tar(path, members):
    """members: (name, content), content bytes or the target of a symbolic link."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            if isinstance(content, str):
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, content)


MAKE = pytest.mark.parametrize("make", [make_tar, make_zip])
GOOD = [("top/labels/a.mat", b"a" * 5000), ("top/labels/deep/b.mat", b"b"), ("top/frames/1.jpg", b"c"), ("top/x", b"d")]


@MAKE
def test_what_lies_under_a_folder_is_unpacked_once(tmp_path, make):
    archive = tmp_path / "archive"
    make(archive, GOOD)
    folder = unpack(archive, "top/labels", tmp_path / "cache")
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files == {"top/labels/a.mat": b"a" * 5000, "top/labels/deep/b.mat": b"b"}
    (folder / "top/labels/a.mat").unlink()
    assert unpack(archive, "top/labels", tmp_path / "cache") == folder
    assert not (folder / "top/labels/a.mat").exists()  # not unpacked again


@MAKE
@pytest.mark.parametrize(
    ("member", "message"),
    [
        (("../out", b"x"), r"'\.\./out' leads out of its folder"),
        (("top/labels/../../../out", b"x"), "leads out of its folder"),
        (("/tmp/isopose_out", b"x"), "leads out of its folder"),
        (("top/labels/link", "../../../out"), "'top/labels/link' is a link or a device"),
    ],
)
def test_a_member_that_leads_out_is_refused(tmp_path, make, member, message):
    archive = tmp_path / "in/archive"
    archive.parent.mkdir()
    make(archive, [*GOOD, member])
    with pytest.raises(UserError, match=message) as refused:
        unpack(archive, "top/labels", tmp_path / "in/cache")
    assert str(refused.value).startswith(f"{archive}: is refused") and "download it again" in str(refused.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["archive", "cache", "in"]


@MAKE
def test_an_archive_that_is_too_large_is_refused(tmp_path, make, monkeypatch):
    archive = tmp_path / "archive"
    make(archive, GOOD)
    monkeypatch.setattr(raw_files, "MOST_BYTES", 5000)
    with pytest.raises(UserError, match="it unpacks to more than 0 GiB"):
        unpack(archive, "top/labels", tmp_path / "cache")
    monkeypatch.undo()
    monkeypatch.setattr(raw_files, "MOST_MEMBERS", 3)
    with pytest.raises(UserError, match="it has more than 3 members"):
        unpack(archive, "top/x", tmp_path / "cache")


def test_a_declared_size_of_8_exabytes_is_refused(tmp_path):
    member = tarfile.TarInfo("top/labels/a.mat")
    member.size = 2**63 - 1
    archive = tmp_path / "archive"
    archive.write_bytes(gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + b"a" * 512))
    with pytest.raises(UserError, match="it unpacks to more than 8 GiB"):
        unpack(archive, "top/labels", tmp_path / "cache")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + b"\0" * 100])
def test_what_is_no_archive_is_one_line(tmp_path, content):
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    with pytest.raises(UserError, match=r"archive: cannot be unpacked \(.*\); expected a whole zip or tar") as refused:
        unpack(archive, "top", tmp_path / "cache")
    assert "\n" not in str(refused.value)


@MAKE
def test_mutations_are_unpacked_or_refused_in_one_line(tmp_path, make):
    make(tmp_path / "whole", GOOD)
    for number, content in enumerate(mutations((tmp_path / "whole").read_bytes())):
        archive = tmp_path / f"{number}"
        archive.write_bytes(content)
        try:
            unpack(archive, "top/labels", tmp_path / "cache")
        except UserError as error:
            assert str(error).startswith(f"{archive}: ") and "\n" not in str(error)
        archive.unlink()
    assert {path.name for path in tmp_path.iterdir()} <= {"whole", "cache"}


def test_parts_are_found_as_archives_or_unpacked(tmp_path):
    parts = [Part("labels", "a.zip"), Part("frames", "b.zip", use="images"), Part("top/x", "c.zip")]
    (tmp_path / "labels").mkdir()
    make_zip(tmp_path / "c.zip", GOOD)
    assert [places(tmp_path, part) for part in parts] == [[tmp_path / "labels"], [], [tmp_path / "c.zip"]]
    cache = tmp_path / "cache"
    assert locate(tmp_path, parts[0], cache) == tmp_path / "labels"
    assert locate(tmp_path, parts[2], cache).read_bytes() == b"d"
    with pytest.raises(UserError, match=r"b\.zip: is missing; expected b\.zip as downloaded \(or frames unpacked\)"):
        locate(tmp_path, parts[1], cache)
    with pytest.raises(UserError, match=r"c\.zip: has no top/y; expected c\.zip as downloaded; download it again"):
        locate(tmp_path, Part("top/y", "c.zip"), cache)


def test_what_systems_leave_in_a_folder_is_no_data(tmp_path):
    for name in ("b.pkl", "a.pkl", "._a.pkl", ".DS_Store", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in listed(tmp_path, "*.pkl")] == ["a.pkl", "b.pkl"]
    assert [path.name for path in listed(tmp_path, "*")] == ["a.pkl", "b.pkl", "notes.txt"]


def test_a_folder_that_may_not_be_read_is_one_line(tmp_path, monkeypatch):
    def refuses(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.exists", refuses)
    with pytest.raises(UserError, match=r"labels: may not be read \(Permission denied\); expected the dataset's files"):
        places(tmp_path, Part("labels"))
