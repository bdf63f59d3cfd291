import errno
from pathlib import Path

import pytest
from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord
from snakemake.persistence.file import FilePersistence

from isopose.bridge import graph, records
from isopose.bridge.records import Record

PACKAGE = Path(graph.__file__).parents[1]
MODULE = "src/isopose/bridge/graph.py"
OUTPUTS = ["out/a.txt", "out/ä b.txt", "/".join(["long" * 50] * 3)]


@pytest.fixture
def snakemake(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return FilePersistence(path=tmp_path / ".snakemake")


@pytest.fixture
def record():
    return Record(
        rule="first",
        inputs={"b.txt": "12ab", "a.txt": "34cd", "folder": None},
        params=["'x'", "1"],
        code="cp {input} {output}",
        log=["out/log"],
        software_stack_hash="d41d8",
        record_format_version=RECORD_FORMAT_VERSION,
    )


@pytest.mark.parametrize("output", OUTPUTS)
def test_snakemake_reads_what_is_written(snakemake, record, output):
    records.write(output, record, 12.5)
    found = snakemake._read_record(output)
    assert found == MetadataRecord(
        rule="first",
        input=["a.txt", "b.txt", "folder"],
        input_checksums={"b.txt": "sha256:12ab", "a.txt": "sha256:34cd"},
        params=["'x'", "1"],
        code="cp {input} {output}",
        log=["out/log"],
        software_stack_hash="d41d8",
        record_format_version=6,
        incomplete=False,
        starttime=12.5,
        endtime=12.5,
    )
    assert {path.name for path in Path(".snakemake").iterdir() if path.is_file()} == set()


@pytest.mark.parametrize("output", OUTPUTS)
def test_what_snakemake_writes_is_read(snakemake, record, output):
    snakemake._write_record(
        output,
        MetadataRecord(
            rule="first",
            input=["a.txt", "b.txt", "folder"],
            input_checksums={"a.txt": "sha256:34cd", "b.txt": "sha256:12ab"},
            params=["'x'", "1"],
            code="cp {input} {output}",
            shellcmd="cp a.txt b.txt /home/x",
            log=["out/log"],
            software_stack_hash="d41d8",
            record_format_version=6,
            conda_env="eA==",
            job_hash=77,
            starttime=1.5,
            endtime=2.5,
        ),
    )
    assert records.read(output) == record
    assert records.ended(output) == 2.5


def test_a_module_is_recorded_where_it_is_imported_from_and_read_as_in_the_repository(snakemake, record):
    records.write("out", Record(**vars(record) | {"inputs": {MODULE: "12ab"}}), 0.0)
    (path,) = snakemake._read_record("out").input
    assert Path(path).resolve() == PACKAGE / "bridge/graph.py"
    assert records.read("out").inputs == {MODULE: "12ab"}


def test_a_record_that_was_cut_short_is_none_as_for_snakemake(snakemake, record):
    records.write("out", record, 0.0)
    path = records.path_of("out")
    path.write_text(path.read_text()[:-9])
    assert snakemake._read_record("out") is None
    assert records.read("out") is None and records.read("other") is None
    assert records.ended("out") is None


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_job_that_has_not_ended_is_seen(snakemake, output):
    assert not records.is_incomplete(output)
    snakemake._mark_incomplete(output, None)
    assert records.is_incomplete(output)
    snakemake._unmark_incomplete(output)
    assert not records.is_incomplete(output)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b"null", b""])
def test_what_is_no_record_is_none(snakemake, record, content):
    records.write("out", record, 0.0)
    records.path_of("out").write_bytes(content)
    assert records.read("out") is None and records.ended("out") is None


def test_a_record_that_cannot_be_written_leaves_nothing(track, monkeypatch):
    before = sorted(Path(".snakemake").rglob("*"))

    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        track.record(track.first, "out/a.txt")
    assert sorted(Path(".snakemake").rglob("*")) == before
