"""A publication that is stopped on its way is never taken for a whole one, and goes on when it is typed again."""

import time

import pytest

from tests.roundtrip.conftest import FILE, TABLE, Clone, bridge, commit

pytestmark = pytest.mark.workflow

PUBLISH = ("python", "-m", "isopose.bridge", "publish", "--track", "smoke")
ENTRY = f"provenance/smoke/{TABLE}.json"
LOCK = FILE.with_suffix(".lock").as_posix()


@pytest.fixture(scope="module")
def changed(author, tmp_path_factory):
    """The author's folder with tables of another average that are not published."""
    project = author.copy(tmp_path_factory.mktemp("interrupted"))
    parameters = project.folder / "params.yaml"
    parameters.write_text(parameters.read_text().replace("average: actions\n", "average: frames\n"))
    bridge(project, "run")
    return project


def kill_once_changed(project, path):
    """Publish, and kill it as soon as a file changes."""
    before = (project.folder / path).read_bytes()
    with project.running(*PUBLISH) as process:
        while (project.folder / path).read_bytes() == before:
            assert process.poll() is None, project.printed()
            time.sleep(0.002)


@pytest.mark.parametrize("path", [ENTRY, LOCK])
def test_killed_while_it_writes_the_ledger_or_the_lock(changed, tmp_path, path):
    project = changed.copy(tmp_path / "author")
    kill_once_changed(project, path)
    told = bridge(project, "verify", check=False)
    assert told.returncode == 1 and "Traceback" not in told.stderr
    commit(project, "half published")
    clone = Clone(project, tmp_path / "clone")
    restored = bridge(clone, "restore", check=False)
    assert restored.returncode or "will be made again" in restored.stdout
    assert bridge(clone, "verify", check=False).returncode == 1
    assert "Traceback" not in restored.stderr
    bridge(project, "publish")
    assert " outputs agree" in bridge(project, "verify").stdout
    commit(project, "published")
    whole = Clone(project, tmp_path / "whole")
    bridge(whole, "restore")
    assert (whole.folder / TABLE).read_bytes() == (changed.folder / TABLE).read_bytes()
    assert whole.planned() == {} and " outputs agree" in bridge(whole, "verify").stdout


def test_stopped_before_it_sends_the_bytes(changed, tmp_path):
    project = changed.copy(tmp_path / "author")
    project.run("dvc", "remote", "add", "--default", "new", str(tmp_path / "remote"))
    bridge(project, "publish", "--no-push")
    commit(project, "published and not sent")
    clone = Clone(project, tmp_path / "clone")
    restored = bridge(clone, "restore", check=False)
    assert restored.returncode == 1 and " outputs are not in DVC's remote, " in restored.stderr
    bridge(project, "publish")
    bridge(clone, "restore")
    assert clone.planned() == {}
