"""The demo's results that lie in this repository."""

import json
import subprocess
import sys

import pytest
import yaml

from isopose import instruction_set
from isopose.files import sha256
from tests.roundtrip.conftest import Clone
from tests.workflow.conftest import ROOT, Project

pytestmark = pytest.mark.workflow

# What ships, as dvc.yaml has it, and the SHA-256 that the ledger has of it and that it has here.
COMPARE = """
import json
from isopose.bridge import dvc_file, ledger
from isopose.files import sha256
shipped = dvc_file.shipped("demo")
print(json.dumps([[path, ledger.read("demo", path).sha256, sha256(path)] for path in shipped]))
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    if not (ROOT / "published").exists():
        pytest.skip("nothing is published of the demo")
    return Clone(Project.at(ROOT), tmp_path_factory.mktemp("demo") / "clone")


def test_it_has_15_megabytes_at_most():
    listed = subprocess.run(["git", "ls-files", "published"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert sum((ROOT / path).stat().st_size for path in listed.stdout.split()) <= 15_000_000


def test_it_is_restored_from_the_repository_alone(clone):
    clone.run(sys.executable, "-m", "isopose.bridge", "restore", "--no-mlflow")
    compared = json.loads(clone.run(sys.executable, "-c", COMPARE).stdout)
    assert len(compared) > 100
    assert [path for path, published, here in compared if published != here] == []


def test_its_lock_has_no_stage_that_is_no_more(clone):
    locked, stages = (yaml.safe_load((clone.folder / name).read_text())["stages"] for name in ("dvc.lock", "dvc.yaml"))
    assert not locked.keys() - stages.keys()


@pytest.mark.skipif(not instruction_set.has_avx2(), reason="the processor has no AVX2, by which the demo was made")
def test_what_did_not_ship_is_made_again_with_the_authors_bytes_whatever_the_processor(clone):
    path = "results/demo/labelled/synthetic.h5"
    clone.run(sys.executable, "-m", "isopose.bridge", "run", path)
    entry = json.loads((clone.folder / f"provenance/demo/{path}.json").read_text())
    assert sha256(clone.folder / path) == entry["sha256"]
