"""The smoke track as a git repository with its generated dvc.yaml, beside results that are there only as fakes."""

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import ROOT, Project

FILE = Path("experiments/smoke/dvc.yaml")
GENERATE = (sys.executable, "-m", "isopose.bridge", "generate", "--track", "smoke")
TABLE = "reports/smoke/synthetic/tables/iso.csv"
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org")


class Clone(Project):
    """A clone of a project in git: nothing but what git has."""

    def __init__(self, source: Project, folder: Path) -> None:
        self.folder = folder
        self.variables = {}
        source.run("git", "clone", "--quiet", str(source.folder), str(folder))


def entries(stage: dict) -> dict[str, dict]:
    """The outputs of a stage of dvc.yaml with their flags."""
    found = {}
    for kind in ("outs", "metrics", "plots"):
        for entry in stage.get(kind, []):
            found |= entry if isinstance(entry, dict) else {entry: {}}
    return found


def stages(folder: Path) -> dict[str, dict]:
    """The stages of the smoke track's dvc.yaml."""
    return yaml.safe_load((folder / FILE).read_text())["stages"]


def under_git(project: Project) -> None:
    """Make a project's folder a repository with what git and DVC need, and the smoke track's dvc.yaml alone."""
    shutil.copy(ROOT / ".gitignore", project.folder)
    (project.folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, project.folder / ".dvc" / name)
    for path in project.folder.glob("experiments/*/dvc.yaml"):
        path.unlink()
    project.run("git", "init", "--quiet")
    project.run(*GENERATE)


def commit(project: Project, message: str) -> None:
    """Commit all that git does not ignore."""
    project.run("git", "add", ".")
    project.run("git", *IDENTITY, "commit", "--quiet", "--message", message)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project in git with the smoke track's dvc.yaml and no other's, and a fake of each of its results."""
    project = Project(tmp_path_factory.mktemp("repository"))
    under_git(project)
    commit(project, "first")
    fake(project, (path for path in outputs(project) if not path.startswith("provenance/")))
    return project


def outputs(project: Project) -> list[str]:
    """What the stages of the smoke track's dvc.yaml make, the ledger's entries among them."""
    return [path for stage in stages(project.folder).values() for path in entries(stage)]


def fake(project: Project, paths: Iterable[str]) -> None:
    """Write something in the place of each output."""
    for path in paths:
        (project.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / path).write_text(f"{path}\n")


@pytest.fixture(scope="session")
def author(smoke: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The smoke track as its author published it, committed to git, with its remote beside it."""
    return author_of(smoke, tmp_path_factory.mktemp("published"))


def author_of(smoke: Project, top: Path) -> Project:
    """A finished smoke track, published in a new folder ``top/author`` with the remote beside it."""
    (top / "author").mkdir(parents=True)
    project = smoke.copy(top / "author")
    under_git(project)
    project.run("dvc", "remote", "add", "--default", "here", str(top / "remote"))
    refuses_what_was_edited(project, smoke)
    assert bridge(project, "publish").stdout.endswith("commit experiments/smoke/dvc.lock and provenance/smoke\n")
    commit(project, "published")
    return project


def refuses_what_was_edited(project: Project, smoke: Project) -> None:
    """Nothing is published, nor left behind, as long as a table is edited, which is then undone."""
    edited = project.folder / TABLE
    edited.write_bytes(edited.read_bytes() + b"edited\n")
    done = bridge(project, "publish", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: nothing is published:\ninput {TABLE}: sha256 ")
    assert not (project.folder / "provenance").exists() and not (project.folder.parent / "remote").exists()
    shutil.copy2(smoke.folder / TABLE, edited)


def bridge(project: Project, command: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    """Run a command of the bridge on the smoke track."""
    return project.run(sys.executable, "-m", "isopose.bridge", command, *arguments, "--track", "smoke", check=check)
