import hashlib
import json
import os
import re
import shutil
import sys
from base64 import urlsafe_b64decode
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.workflow

INSTALL = "from isopose.bridge import ledger; print(json.dumps(ledger.install('smoke')))"
LIFTERS = "results/smoke/synthetic/lifters"
UNSHIPPED = ("results/smoke/sequences/synthetic.h5", "results/smoke/synthetic/poses/validation/full/seed1.h5")


@pytest.fixture(scope="module")
def track(author, tmp_path_factory):
    """The smoke track as published, and Snakemake's records as restored from its ledger."""
    project = author.copy(tmp_path_factory.mktemp("ledger"))
    shutil.rmtree(project.folder / ".snakemake")
    assert install(project) == []
    return project


def install(project):
    return json.loads(project.run(sys.executable, "-c", f"import json; {INSTALL}").stdout)


def bridge(project, command, *arguments, status=0):
    done = project.run(sys.executable, "-m", "isopose.bridge", command, "--track", "smoke", *arguments, check=False)
    assert (done.returncode, done.stderr) == (status, "")
    return done.stdout.splitlines()


@contextmanager
def other_bytes(project, path, content):
    """A file with other bytes and the same time, for a while: older than what was made from it."""
    file = project.folder / path
    before, times = file.read_bytes(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(content)
    os.utime(file, ns=times)
    yield f"sha256 {short(before)} -> {short(content)}"
    file.write_bytes(before)
    os.utime(file, ns=times)


def short(content):
    return hashlib.sha256(content).hexdigest()[:8]


def test_restored_records_are_those_of_the_run_and_nothing_is_to_be_done(smoke, track):
    made = sorted(path.relative_to(smoke.folder) for path in (smoke.folder / ".snakemake/metadata").iterdir())
    assert sorted(path.relative_to(track.folder) for path in (track.folder / ".snakemake/metadata").iterdir()) == made
    compared = ("rule", "input", "input_checksums", "params", "code", "log", "software_stack_hash")
    compared += ("record_format_version",)
    for path in made:
        old, new = (json.loads((folder / path).read_text()) for folder in (smoke.folder, track.folder))
        assert [old[key] for key in compared] == [new[key] for key in compared]
        output = track.folder / urlsafe_b64decode(path.name).decode()
        assert new["endtime"] == output.stat().st_mtime  # what Snakemake compares; DVC may have written it anew
    printed = track.snakemake("--dry-run")
    assert "Nothing to be done" in printed and "missing provenance" not in printed
    assert bridge(track, "verify") == [f"{len(made)} outputs agree"]
    assert bridge(track, "explain") == ["nothing would run"]


def test_the_ledger_has_nothing_of_this_machine(smoke, track):
    entries = sorted((track.folder / "provenance/smoke").rglob("*.json"))
    text = "".join(path.read_text() for path in entries)
    assert len(entries) > 100
    for absent in (str(smoke.folder), str(track.folder), os.sep + os.path.join("home", ""), "time", "job_hash"):
        assert f'"{absent}' not in text
    assert not re.search(r'"[./]+/', text)


def test_intermediates_that_did_not_ship_are_not_missed(smoke, track):
    for path in UNSHIPPED:
        (track.folder / path).unlink()
    assert install(track) == []
    assert "Nothing to be done" in track.snakemake("--dry-run")
    (line,) = bridge(track, "verify")
    assert line.endswith(f" outputs agree, {len(UNSHIPPED)} of them not here: {', '.join(UNSHIPPED)}")
    for path in UNSHIPPED:
        shutil.copy2(smoke.folder / path, track.folder / path)


def test_an_edited_table_is_found_and_made_again_once_records_are_restored(track):
    path = "reports/smoke/synthetic/tables/iso.md"
    with other_bytes(track, path, b"edited"):
        assert "Nothing to be done" in track.snakemake("--dry-run")
        (line,) = bridge(track, "verify", status=1)
        assert line.startswith(f"{path}: has sha256 {short(b'edited')}; the ledger has ")
        assert install(track) == [path]
        assert set(track.planned()) == {"table", "index", "all"}
    assert install(track) == []
    assert track.planned() == {}


def test_a_swapped_checkpoint_is_found_by_its_own_bytes_and_by_what_was_made_from_it(track):
    path = f"{LIFTERS}/full/seed1/lifter.safetensors"
    other = (track.folder / f"{LIFTERS}/base/seed1/lifter.safetensors").read_bytes()
    with other_bytes(track, path, other) as change:
        own, used = bridge(track, "verify", status=1)
    assert own.startswith(f"{path}: has sha256 {short(other)}; the ledger has ")
    assert used.startswith(f"input {path}: {change} since ")


def test_a_source_that_changed_is_found_although_it_is_older(track):
    path = "src/isopose/iso/refine.py"
    module = (track.folder / path).read_bytes()
    with other_bytes(track, path, module + b"# changed\n") as change:
        os.utime(track.folder / path, (9, 9))
        assert "Nothing to be done" in track.snakemake("--dry-run")
        (line,) = bridge(track, "verify", status=1)
        assert line.startswith(f"module {path}: {change} since results/smoke/synthetic/")
        os.utime(track.folder / path)
        assert f"    module {path}: {change}" in bridge(track, "explain")


def test_a_changed_parameter_is_named_with_both_values_and_every_job_is_counted(track):
    overlay = track.folder / "experiments/smoke/params.yaml"
    text = overlay.read_text()
    overlay.write_text(text.replace("iterations: 5\n", "iterations: 6\n"))
    lines, planned = bridge(track, "explain"), track.planned()
    target = bridge(track, "explain", f"{LIFTERS}/full/seed1/record.json")
    overlay.write_text(text)
    jobs = [line for line in lines[:-1] if not line.startswith(" ")]
    assert {line for line in lines if line.startswith(" ")} == {"    parameter iso.iterations: 5 -> 6"}
    assert "refine evaluation=synthetic role=test weighting=constant" in jobs
    assert {line.split()[0] for line in jobs} == {"refine", "parameters"}
    more = re.fullmatch(r"(\d+) more because of these: .*\bevaluate 4\b.*", lines[-1])
    assert len(jobs) + int(more[1]) == sum(planned.values()) - planned["all"]
    assert target == ["nothing would run"]
