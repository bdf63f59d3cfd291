"""Revisions and branches: results follow `git checkout`; what a merge puts together that never ran so is made again."""

import pytest

from tests.roundtrip.conftest import IDENTITY, TABLE, Clone, bridge, commit

pytestmark = pytest.mark.workflow

CALIBRATION = "results/smoke/synthetic/calibration/calibration.json"


def change(project, old, new):
    path = project.folder / "params.yaml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def publish_branch(project, name, old, new):
    """Change a number on a branch of its own, and publish what comes of it."""
    project.run("git", "checkout", "--quiet", "-b", name)
    change(project, old, new)
    bridge(project, "run")
    bridge(project, "publish")
    commit(project, name)


@pytest.fixture(scope="module")
def branches(author, tmp_path_factory):
    """The author's folder with two branches: one averages tables otherwise, the other calibrates with fewer bins."""
    project = author.copy(tmp_path_factory.mktemp("branches"))
    project.run("git", "branch", "first")
    publish_branch(project, "averages", "average: actions\n", "average: frames\n")
    project.averaged = (project.folder / TABLE).read_bytes()
    project.run("git", "checkout", "--quiet", "first")
    bridge(project, "restore")
    project.back = (project.folder / TABLE).read_bytes(), project.planned(), bridge(project, "verify").stdout
    publish_branch(project, "bins", "bins: 15\n", "bins: 10\n")
    return project


def test_the_results_of_another_revision_come_back(branches, author):
    table, planned, verified = branches.back
    assert table == (author.folder / TABLE).read_bytes() != branches.averaged
    assert planned == {} and verified.endswith(" outputs agree\n")


@pytest.fixture
def merged(branches, tmp_path):
    """A clone of the merge of both branches, with one's entries where both have changed them."""
    merging = Clone(branches, tmp_path / "merging")
    merging.run("git", *IDENTITY, "merge", "--quiet", "-X", "ours", "-m", "both", "origin/averages")
    return Clone(merging, tmp_path / "clone")


def test_only_what_never_ran_together_runs_after_a_merge(merged, branches):
    """The page rests on both numbers. All else rests on one, and is brought back or averaged again."""
    bridge(merged, "restore")
    assert bridge(merged, "verify", check=False).returncode == 1
    assert (merged.folder / CALIBRATION).read_bytes() == (branches.folder / CALIBRATION).read_bytes()
    planned = merged.planned()
    assert "index" in planned and not planned.keys() & {"calibrate", "refine", "evaluate", "lift", "train_lifter"}
    bridge(merged, "run")
    assert (merged.folder / TABLE).read_bytes() == branches.averaged
    assert (merged.folder / CALIBRATION).read_bytes() == (branches.folder / CALIBRATION).read_bytes()
    bridge(merged, "publish", "--no-push")
    assert " outputs agree" in bridge(merged, "verify").stdout
