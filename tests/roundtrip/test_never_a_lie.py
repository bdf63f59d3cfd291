"""Ways to make a restored clone inconsistent: `verify` names each. Some are looked for by nobody but it.

`python -m tests.roundtrip.mutations 200` makes random ones.
"""

import json
import os

import pytest
import yaml

from isopose.bridge import records
from tests.roundtrip.conftest import FILE, TABLE, Clone, bridge
from tests.roundtrip.mutations import run

pytestmark = pytest.mark.workflow

LIFTERS = "results/smoke/synthetic/lifters"
WEIGHTS = f"{LIFTERS}/full/seed1/lifter.safetensors"
MODULE = "src/isopose/iso/refine.py"
PRINTED = "src/isopose/reporting/published/table3.csv"
TEMPLATE = "src/isopose/reporting/page.html.j2"
UNSHIPPED = "results/smoke/labelled/synthetic.h5"
LOCK = FILE.with_suffix(".lock").as_posix()


@pytest.fixture(scope="module")
def restored(author, tmp_path_factory):
    clone = Clone(author, tmp_path_factory.mktemp("restored") / "clone")
    bridge(clone, "restore", "--no-mlflow")
    return clone


def unnoticed(path, content):
    """Write a file as if it had never changed: with the time that it had."""
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=times)


def table_edited_by_hand(folder):
    unnoticed(folder / TABLE, (folder / TABLE).read_bytes().replace(b"1", b"2"))
    return TABLE


def checkpoint_of_another_lifter(folder):
    unnoticed(folder / WEIGHTS, (folder / f"{LIFTERS}/base/seed1/lifter.safetensors").read_bytes())
    return WEIGHTS


def weights_cut_short(folder):
    unnoticed(folder / WEIGHTS, (folder / WEIGHTS).read_bytes()[:-1])
    return WEIGHTS


def module_with_an_old_time(folder):
    unnoticed(folder / MODULE, (folder / MODULE).read_bytes() + b"# changed\n")
    return MODULE


def template_with_an_old_time(folder):
    unnoticed(folder / TEMPLATE, (folder / TEMPLATE).read_bytes() + b"<!-- changed -->\n")
    return TEMPLATE


def paper_of_another_number(folder):
    unnoticed(folder / PRINTED, (folder / PRINTED).read_bytes().replace(b"Base,51.7", b"Base,57.1"))
    return PRINTED


def parameter_with_an_old_time(folder):
    path = folder / "experiments/smoke/params.yaml"
    unnoticed(path, path.read_bytes().replace(b"segment_frames: 16", b"segment_frames: 17"))
    return "iso.segment_frames: 16 -> 17"


def intermediate_of_another_run(folder):
    (folder / UNSHIPPED).parent.mkdir(parents=True)
    (folder / UNSHIPPED).write_bytes(b"of another run")
    return UNSHIPPED


def records_of_snakemake_lost(folder):
    (folder / records.path_of(TABLE)).unlink()
    unnoticed(folder / TABLE, b"of who knows what")
    return TABLE


def job_that_was_killed(folder):
    started = folder / ".snakemake/incomplete" / records.path_of(TABLE).name
    started.parent.mkdir(exist_ok=True)
    started.write_text("{}")
    return f"{TABLE}: may be incomplete"


def entry_of_another_branch(folder):
    entry = folder / f"provenance/smoke/{TABLE}.json"
    content = json.loads(entry.read_text())
    content["params"] = [text.replace('"resamples": 50', '"resamples": 60') for text in content["params"]]
    entry.write_text(json.dumps(content))
    return TABLE


def lock_of_before(folder):
    lock = yaml.safe_load((folder / LOCK).read_text())
    for stage in lock["stages"].values():
        for entry in [*stage.get("deps", []), *stage["outs"]]:
            entry["md5"] = "0" * 32 if entry["path"] == WEIGHTS else entry["md5"]
    (folder / LOCK).write_text(yaml.safe_dump(lock))
    return f"{WEIGHTS}: has md5"


def dvc_file_edited_by_hand(folder):
    path = folder / FILE
    path.write_text(path.read_text().replace("- seed\n", "", 1))
    return FILE.as_posix()


def entry_deleted(folder):
    (folder / f"provenance/smoke/{WEIGHTS}.json").unlink()
    return f"{WEIGHTS}: is not in the ledger"


WAYS = [
    table_edited_by_hand,
    checkpoint_of_another_lifter,
    weights_cut_short,
    module_with_an_old_time,
    template_with_an_old_time,
    paper_of_another_number,
    parameter_with_an_old_time,
    intermediate_of_another_run,
    records_of_snakemake_lost,
    job_that_was_killed,
    entry_of_another_branch,
    lock_of_before,
    dvc_file_edited_by_hand,
    entry_deleted,
]


def test_a_restored_clone_agrees(restored):
    assert " outputs agree, " in bridge(restored, "verify").stdout


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_verify_names_what_does_not_agree(restored, tmp_path, way):
    clone = restored.copy(tmp_path / "clone")
    name = way(clone.folder)
    done = bridge(clone, "verify", check=False)
    assert done.returncode == 1 and name in done.stdout
    assert "Traceback" not in done.stderr


def test_random_changes_are_told_or_concern_nothing(restored, tmp_path):
    clone = restored.copy(tmp_path / "clone")
    found = list(run(clone, 5, seed=7))
    assert len(found) == 5
    assert not [verdict for _, verdict in found if verdict.startswith("missed")]
