"""The same bytes from any number of cores, after any kill, and one clear line for every broken input."""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import signal
import sqlite3
import sys
import tarfile
import time
import zipfile

import psutil
import pytest
import yaml

from isopose import config
from isopose.datasets import cmu_mocap
from isopose.datasets.sources import MIRROR_VARIABLE
from isopose.files import sha256
from tests.workflow.conftest import ROOT, Project

RUN = (sys.executable, "-m", "isopose.bridge", "run", "--track", "smoke", "--cores", "1")

pytestmark = pytest.mark.workflow

TIMED = {"logs", "benchmarks"}
"""Folders of results/<track> that may differ: when and how fast a job ran, and how much memory it took."""


def made(project, without=()):
    """Checksum and time of every file that a track's results and reports hold, but for those in TIMED and `without`."""
    files = {}
    for top in ("results/smoke", "reports/smoke"):
        for path in (project.folder / top).rglob("*"):
            name = path.relative_to(project.folder).as_posix()
            if path.is_file() and name.split("/")[2] not in TIMED and not name.startswith(tuple(without)):
                files[name] = (sha256(path), path.stat().st_mtime_ns)
    return files


def hidden(*folders):
    """What a killed or failed job might leave behind: temporary files have names with a dot."""
    return [path.name for folder in folders for path in folder.rglob(".*")]


def error_lines(printed):
    return [line for line in printed.splitlines() if line.startswith("error: ")]


def wait_until(condition, seconds=600):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


# ---- The same parameters, the same bytes -----------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def on_one_core(smoke, tmp_path_factory):
    """The smoke track in a fresh folder on one core, beside the other tests of this file, which use the other."""
    project = Project(tmp_path_factory.mktemp("one_core"))
    with project.running(*RUN) as process:
        yield project, process


# ---- Killed while it trains ------------------------------------------------------------------------------------------

LIFTER = "results/smoke/synthetic/lifters/base/seed1"
TRAIN = [*RUN, f"{LIFTER}/lifter.safetensors"]
"""One training; everything it needs is there. `trains_longer` makes it last seconds."""


def trains_longer(project):
    overlay = project.folder / "experiments/smoke/params.yaml"
    text = overlay.read_text()
    assert text.count("steps: 20\n") == 1
    overlay.write_text(text.replace("steps: 20\n", "steps: 1000\n"))
    return project


def outcome(project):
    return {name: (project.folder / LIFTER / name).read_bytes() for name in ("lifter.safetensors", "record.json")}


def query(project, text):
    with contextlib.closing(sqlite3.connect(f"file:{project.folder}/mlflow.db?mode=ro", uri=True, timeout=60)) as base:
        return [value for (value,) in base.execute(text)]


def kill_in_training(project, process, whole_group):
    """Kill the training, or everything, once it has logged its first steps; returns the command's exit status."""
    steps = "select step from metrics join runs using (run_uuid) where status = 'RUNNING' and key = 'loss_pose'"
    wait_until(lambda: process.poll() is not None or query(project, steps))
    assert process.poll() is None, f"it ended before it could be killed:\n{project.printed()[-6000:]}"
    family = psutil.Process(process.pid).children(recursive=True)
    (training,) = [child for child in family if "isopose.training.lifter" in child.cmdline()]
    if whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        training.kill()
    wait_until(lambda: not training.is_running() or training.status() == psutil.STATUS_ZOMBIE)
    return process.wait(timeout=600)


@pytest.fixture(scope="module")
def uninterrupted(smoke, tmp_path_factory):
    project = trains_longer(smoke.copy(tmp_path_factory.mktemp("uninterrupted")))
    project.run(*TRAIN)
    return outcome(project)


@pytest.mark.parametrize("whole_group", [False, True], ids=["the_training", "everything"])
def test_a_killed_training_loses_nothing_and_comes_out_the_same(smoke, uninterrupted, tmp_path, whole_group):
    project = trains_longer(smoke.copy(tmp_path))
    before = made(project, without=[LIFTER])
    with project.running(*TRAIN) as process:
        status = kill_in_training(project, process, whole_group)
    assert not [path for path in (project.folder / LIFTER).rglob("*") if path.is_file()]
    assert made(project, without=[LIFTER]) == before
    if whole_group:
        assert status == -signal.SIGKILL
    else:
        assert status == 1
        log = "results/smoke/logs/synthetic/train_lifter/base/seed1.log"
        assert error_lines(project.printed()) == [
            "error: train_lifter failed: ended without a message, killed or out of memory; "
            f"the same command goes on from the finished jobs (log: {log})"
        ]
        assert "Traceback" not in project.printed()
    project.run(*TRAIN)
    assert outcome(project) == uninterrupted
    assert made(project, without=[LIFTER]) == before
    assert hidden(project.folder / "results", project.folder / "reports") == []
    statuses = query(project, "select status from runs")
    assert statuses.count("KILLED") == 1 and set(statuses) == {"FINISHED", "KILLED"}


# ---- Broken inputs ---------------------------------------------------------------------------------------------------

BODY = {  # joint of CMU's skeleton: its parent, and its offset from it, cm
    "hip": (None, (0, 95, 0)),
    "abdomen": ("hip", (0, 10, 0)),
    "chest": ("abdomen", (0, 15, 0)),
    "head": ("chest", (0, 35, 0)),
    **{f"{side}Shldr": ("chest", (sign * 18, 20, 0)) for side, sign in (("l", 1), ("r", -1))},
    **{f"{side}ForeArm": (f"{side}Shldr", (sign * 28, 0, 0)) for side, sign in (("l", 1), ("r", -1))},
    **{f"{side}Hand": (f"{side}ForeArm", (sign * 25, 0, 0)) for side, sign in (("l", 1), ("r", -1))},
    **{f"{side}Thigh": ("hip", (sign * 9, -5, 0)) for side, sign in (("l", 1), ("r", -1))},
    **{f"{side}Shin": (f"{side}Thigh", (0, -42, 0)) for side in "lr"},
    **{f"{side}Foot": (f"{side}Shin", (0, -42, 0)) for side in "lr"},
}


def bvh_joint(name):
    channels = (
        "3 Zrotation Yrotation Xrotation"
        if BODY[name][0]
        else "6 Xposition Yposition Zposition " + ("Zrotation Yrotation Xrotation")
    )
    children = [child for child, (parent, _) in BODY.items() if parent == name]
    inside = "".join(map(bvh_joint, children)) or "End Site\n{\nOFFSET 0 5 0\n}\n"
    offset = " ".join(map(str, BODY[name][1]))
    return f"{'JOINT' if BODY[name][0] else 'ROOT'} {name}\n{{\nOFFSET {offset}\nCHANNELS {channels}\n{inside}}}\n"


def bvh_text(frames=60):
    """A person who stands and turns, in CMU's skeleton."""
    rows = "\n".join(f"0 95 0 0 {frame} 0" + " 0" * 3 * (len(BODY) - 1) for frame in range(frames))
    return f"HIERARCHY\n{bvh_joint('hip')}MOTION\nFrames: {frames}\nFrame Time: 0.0083333\n{rows}\n"


def write_archive(path, files):
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:xz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"cmu_mocap/{name}")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
    return path


def write_index(project, files):
    """An index of these files alone, {path: checksum}."""
    row = cmu_mocap.read_index()[0] | {"qc_ok": "1", "fps_true": "120"}
    with (project.folder / "src/isopose/datasets/cmu_mocap_index.csv").open("w", newline="") as file:
        index = csv.DictWriter(file, row)
        index.writeheader()
        for path, checksum in files.items():
            index.writerow(row | {"subject": path.split("/")[1], "path": path, "sha256": checksum})


def record_archive(project, archive):
    """Make this copy of the project expect this archive."""
    module = project.folder / "src/isopose/datasets/cmu_mocap.py"
    module.write_text(module.read_text().replace(cmu_mocap.ARCHIVE_SHA256, sha256(archive)))


SOURCE = {
    "fps": 50,
    "subjects": None,
    "actions": None,
    "speeds": [1.0],
    "clips_per_action": None,
    "seconds": None,
    "max_seconds": None,
    "cameras": ["cam1"],
    "occluded": False,
}


def preprocess(project, sources):
    """Read sources, {name: what differs from SOURCE}, through the workflow; returns what it printed."""
    smoke = yaml.safe_load((ROOT / "experiments/smoke/params.yaml").read_text())
    named = {"sources": {name: SOURCE | source for name, source in sources.items()}}
    (project.folder / "experiments/smoke/params.yaml").write_text(yaml.safe_dump(config.merge(smoke, named)))
    targets = [f"results/smoke/sequences/{name}.h5" for name in sources]
    (project.folder / "tmp").mkdir()
    project.variables["TMPDIR"] = str(project.folder / "tmp")
    done = project.run(*RUN, *targets, check=False)
    assert done.returncode == 1
    return done.stdout + done.stderr


def check_line(printed, source, reason):
    """One line says why a source failed; the stage's own line is shown too, and no traceback."""
    log = f"results/smoke/logs/preprocess/{source}.log"
    (line,) = [line for line in error_lines(printed) if line.endswith(f"(log: {log})")]
    said = re.fullmatch(rf"error: preprocess failed: ({reason}) \(log: {log}\)", line)
    assert said, line
    assert f"error: {said[1]}" in printed.splitlines()
    assert "Traceback" not in printed


def test_a_broken_file_of_an_archive_is_named_and_the_other_sources_are_read(tmp_path):
    project = Project(tmp_path)
    good = bvh_text().encode()
    files = {"subjects/02/02_01.bvh": good, "subjects/07/07_01.bvh": good[:700], "subjects/09/09_01.bvh": good + b"\n"}
    archive = write_archive(tmp_path / "mirror" / cmu_mocap.ARCHIVE, files)
    record_archive(project, archive)
    checksums = {path: hashlib.sha256(text).hexdigest() for path, text in files.items()}
    altered = {"subjects/09/09_01.bvh": hashlib.sha256(good).hexdigest()}
    write_index(project, checksums | altered | {"subjects/11/11_01.bvh": "0" * 64})
    project.variables[MIRROR_VARIABLE] = str(tmp_path / "mirror")
    names = {"good": "02", "broken": "07", "altered": "09", "lost": "11"}
    printed = preprocess(project, {name: {"reader": "cmu_mocap", "subjects": [s]} for name, s in names.items()})
    extracted = rf"\.cache/isopose/cmu_mocap-{sha256(archive)[:12]}"
    again = f"delete the folder {extracted} and run again: it is extracted anew"
    read = rf"{extracted}/cmu_mocap/subjects/07/07_01\.bvh: cannot be read \(.+\); expected a BVH motion file; fetch .+"
    check_line(printed, "broken", read)
    digest = (
        rf"SHA-256 is {checksums['subjects/09/09_01.bvh'][:16]}…; expected {altered['subjects/09/09_01.bvh'][:16]}…"
    )
    place = rf"{extracted}/cmu_mocap/subjects"
    check_line(printed, "altered", rf"{place}/09/09_01\.bvh: {digest}: truncated or altered; {again}")
    check_line(printed, "lost", rf"{place}/11/11_01\.bvh: is missing; expected a file of SHA-256 0{{16}}…; {again}")
    assert len(error_lines(printed)) == 6  # for each of three, the stage's line and the one at the end
    assert os.listdir(tmp_path / "results/smoke/sequences") == ["good.h5"]
    assert os.listdir(tmp_path / "tmp") == hidden(tmp_path / ".cache") == []


def test_a_truncated_archive_and_a_missing_one_are_named(tmp_path):
    project = Project(tmp_path)
    archive = write_archive(tmp_path / "mirror" / cmu_mocap.ARCHIVE, {"subjects/02/02_01.bvh": bvh_text().encode()})
    record_archive(project, archive)
    expected = sha256(archive)
    archive.write_bytes(archive.read_bytes()[:-100])
    project.variables[MIRROR_VARIABLE] = str(tmp_path / "mirror")
    sources = {"truncated": {"reader": "cmu_mocap"}, "missing": {"reader": "bandai_namco", "fps": 30}}
    printed = preprocess(project, sources)
    digest = f"SHA-256 is {sha256(archive)[:16]}…; expected {expected[:16]}…"
    again = "copy it to the mirror again"
    check_line(printed, "truncated", rf"{archive}: {digest}: truncated or altered; {again}")
    name = "bandai_namco/bandai_namco_1.tar.xz"
    there = f"expected {name} in the folder that {MIRROR_VARIABLE} names"
    advice = f"copy it there, or set {MIRROR_VARIABLE} to a folder that holds it"
    check_line(printed, "missing", rf"{tmp_path}/mirror/{name}: is missing; {there}; {advice}")
    assert os.listdir(tmp_path / "tmp") == hidden(tmp_path / ".cache") == []


def test_without_a_mirror_or_a_network_the_way_out_is_named(tmp_path):
    project = Project(tmp_path)
    write_index(project, {"subjects/02/02_01.bvh": "0" * 64})
    nowhere = dict.fromkeys(("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    project.variables |= {MIRROR_VARIABLE: None, "no_proxy": None, "NO_PROXY": None} | nowhere
    sources = {"offline": {"reader": "cmu_mocap"}, "unset": {"reader": "bandai_namco", "fps": 30}}
    printed = preprocess(project, sources)
    fetched = r"https://raw\.githubusercontent\.com/\S+\.bvh: cannot be fetched \(.+\); expected SHA-256 0{16}…"
    advice = rf"check the network, or set {MIRROR_VARIABLE} to a folder that holds {cmu_mocap.ARCHIVE}"
    check_line(printed, "offline", f"{fetched}; {advice}")
    there = rf"expected bandai_namco/\S+ in the folder that {MIRROR_VARIABLE} names; set {MIRROR_VARIABLE}"
    check_line(printed, "unset", f"bandai_namco: there is no mirror and no download; {there}")
    assert [path for path in (tmp_path / ".cache").rglob("*") if path.is_file()] == []


# ---- The report of Snakemake -----------------------------------------------------------------------------------------


def test_snakemakes_report_holds_every_table_and_figure_with_its_caption(smoke, tmp_path):
    smoke.snakemake("--report", str(tmp_path / "report.zip"))
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        page = archive.read("report/report.html").decode()
        files = {name.rsplit("/", 1)[-1] for name in archive.namelist()}
    shown = json.JSONDecoder().raw_decode(page.split("var results = ")[-1])[0]
    # tables of official protocols are those of licensed datasets: tests/workflow/test_paper.py
    captions = [
        path
        for path in sorted(smoke.folder.glob("workflow/report/[ft]*_*.rst"))
        if path.stem not in ("table_official", "table_dynamics")
    ]
    assert len(captions) == len(shown) == 18
    for path in captions:
        kind, name = path.stem.split("_", 1)
        (entry,) = [entry for entry in shown.values() if entry["labels"] == {kind: name}]
        title = re.match(r"\*\*(.+?)\*\*", path.read_text())[1]
        assert f"<strong>{title}</strong>" in entry["caption"]
        assert entry["name"] == f"{name}.{'svg' if kind == 'figure' else 'csv'}"
        assert entry["name"] in files


def test_an_edited_caption_makes_the_page_again_and_nothing_else(smoke, tmp_path):
    project = smoke.copy(tmp_path)
    caption = project.folder / "workflow/report/table_iso.rst"
    caption.write_text(caption.read_text() + "More.\n")
    assert set(project.planned()) == {"index", "all"}


# ---- The run on one core, which the other tests have given time ------------------------------------------------------


def test_one_core_and_two_cores_give_the_same_bytes(smoke, on_one_core):
    project, process = on_one_core
    assert process.wait(timeout=1800) == 0, project.printed()[-6000:]
    one, two = ({name: digest for name, (digest, _) in made(p).items()} for p in (project, smoke))
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
    kinds = {name.rsplit(".", 1)[-1] for name in one}
    assert kinds == {"csv", "h5", "html", "json", "md", "png", "ready", "safetensors", "svg", "tex", "yaml"}
    assert f"{os.cpu_count()} cores" in (project.folder / "reports/smoke/index.html").read_text()
