import json
import re
from collections import Counter
from hashlib import md5

import pytest

from tests.roundtrip.conftest import FILE, GENERATE, Clone, fake, outputs
from tests.workflow.conftest import Project

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def clone(repository, tmp_path_factory):
    return Clone(repository, tmp_path_factory.mktemp("clone"))


def test_the_text_is_the_same_in_an_empty_clone_and_beside_results(repository, clone):
    text = (repository.folder / FILE).read_bytes()
    repository.run(*GENERATE)
    assert (repository.folder / FILE).read_bytes() == text
    assert repository.run("git", "status", "--porcelain").stdout == ""
    (clone.folder / FILE).unlink()
    # The package of the other folder, as where it is installed and not imported from the clone.
    clone.variables["PYTHONPATH"] = str(repository.folder / "src")
    done = clone.run(*GENERATE)
    assert (clone.folder / FILE).read_bytes() == text
    assert done.stdout + done.stderr == ""
    assert clone.run("git", "status", "--porcelain").stdout == ""


def test_a_stale_file_is_told_in_one_line_and_left(clone):
    text = (clone.folder / FILE).read_text()
    assert clone.run(*GENERATE[:-2], "--check", check=False).returncode == 0
    stale = text.replace("iso.iterations", "iso.iteration")
    (clone.folder / FILE).write_text(stale)
    done = clone.run(*GENERATE[:-2], "--check", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: {FILE}: is not what Snakemake's job graph says;"
        " type `python -m isopose.bridge generate --track smoke` and commit the file"
    ]
    assert (clone.folder / FILE).read_text() == stale
    (clone.folder / FILE).write_text(text)


def test_an_unknown_track_is_told(clone):
    done = clone.run(*GENERATE[:-1], "smok", check=False)
    assert done.returncode == 1
    assert done.stderr == "error: --track: no track 'smok'; the tracks here are demo, open, paper, smoke\n"


def rule_of(stage):
    return stage.rpartition(":")[2].split("-")[0]


def test_dvc_has_a_stage_for_each_of_snakemakes_jobs(clone):
    names = clone.run("dvc", "stage", "list", "--name-only", str(FILE)).stdout.split()
    assert Counter(map(rule_of, names)) + Counter(all=1) == clone.planned()


def test_dvc_and_snakemake_draw_the_same_graph(clone):
    """Edges between jobs, told by their rules: Snakemake draws jobs without all their wildcards."""
    drawn = clone.run("dvc", "dag", "--dot", "--full").stdout
    edges = re.findall(r'^\s*"([^"]+)" -> "([^"]+)"', drawn, re.MULTILINE)
    dvc = Counter((rule_of(a), rule_of(b)) for a, b in edges)
    drawn = clone.run("snakemake", "--dag", "--configfile", "experiments/smoke/params.yaml").stdout
    rules = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)', drawn, re.MULTILINE))
    edges = [(rules[a], rules[b]) for a, b in re.findall(r"^\s*(\d+) -> (\d+)", drawn, re.MULTILINE)]
    snakemake = Counter(edge for edge in edges if edge[1] != "all")
    assert len(edges) > 100
    assert dvc == snakemake


@pytest.fixture(scope="module")
def committed(repository):
    """The fakes as DVC's: what it says afterwards is due to later changes alone."""
    fake(repository, (path for path in outputs(repository) if path.startswith("provenance/")))
    repository.run("dvc", "commit", "--force")
    assert json.loads(repository.run("dvc", "status", "--json").stdout) == {}
    return repository


def changed(project: Project, path: str, old: str, new: str) -> set[str]:
    """Stages whose parameters DVC sees changed after an edit of a file, which is then undone."""
    file = project.folder / path
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    try:
        status = json.loads(project.run("dvc", "status", "--json").stdout)
    finally:
        file.write_text(text)
    return {stage.rpartition(":")[2] for stage in status}


def test_dvc_sees_a_changed_parameter_whose_name_has_a_dot(committed):
    old = "hard_0.5: {label: Hard th = 0.5, published: th = 0.5, weighting: {kind: hard, threshold: 0.5}}"
    assert changed(committed, "params.yaml", old, old.replace("threshold: 0.5", "threshold: 0.6")) == {
        "refine-synthetic-test-hard_0_5",
        "refine-synthetic-validation-hard_0_5",
        "select_weighting-synthetic",
        "parameters",
    }


def test_dvc_looks_at_the_overlay_where_that_sets_the_value(committed):
    weightings = ("constant", "hard_0_5", "soft_1_0")
    iso = {f"refine-synthetic-{role}-{name}" for role in ("test", "validation") for name in weightings}
    iso |= {"refine-synthetic-test-selected", "parameters"}
    assert changed(committed, "experiments/smoke/params.yaml", "iterations: 5\n", "iterations: 6\n") == iso
    assert changed(committed, "params.yaml", "iterations: 150\n", "iterations: 151\n") == {"parameters"}


def test_what_is_pushed_is_what_ships(committed, tmp_path):
    committed.run("dvc", "remote", "add", "--local", "--default", "here", str(tmp_path / "remote"))
    committed.run("dvc", "push")
    objects = {path.parent.name + path.name for path in (tmp_path / "remote").rglob("*") if path.is_file()}
    made = [path for path in outputs(committed) if not path.startswith("provenance/")]
    pushed = {path for path in made if md5((committed.folder / path).read_bytes()).hexdigest() in objects}
    assert len(pushed) == len(objects)
    kept = [path.removeprefix("results/smoke/") for path in made if path not in pushed]
    assert sorted(kept) == sorted(
        ["mlflow.ready", "sequences/synthetic.h5", "labelled/synthetic.h5"]
        + [f"synthetic/images/{split}.h5" for split in ("train", "validation")]
        + [f"synthetic/detections/{role}.h5" for role in ("train3d", "train2d", "validation", "calibration")]
        + [f"synthetic/poses/test/{lifter}/seed1.h5" for lifter in ("base", "full", "mean_pose")]
        + ["synthetic/poses/validation/full/seed1.h5"]
        + [f"synthetic/poses/validation/iso/{name}.h5" for name in ("constant", "hard_0.5", "soft_1.0")]
    )
