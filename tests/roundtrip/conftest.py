"""The smoke track as a git repository with its generated dvc.yaml, beside results that are there only as fakes."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import ROOT, Project

FILE = Path("experiments/smoke/dvc.yaml")
GENERATE = (sys.executable, "-m", "isopose.bridge", "generate", "--track", "smoke")
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


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project in git with the smoke track's dvc.yaml and no other's, and a fake of each of its results."""
    project = Project(tmp_path_factory.mktemp("repository"))
    shutil.copy(ROOT / ".gitignore", project.folder)
    (project.folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, project.folder / ".dvc" / name)
    for path in project.folder.glob("experiments/*/dvc.yaml"):
        path.unlink()
    project.run("git", "init", "--quiet")
    project.run(*GENERATE)
    project.run("git", "add", ".")
    project.run("git", *IDENTITY, "commit", "--quiet", "--message", "first")
    for stage in stages(project.folder).values():
        for path in entries(stage):
            (project.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (project.folder / path).write_text(f"{path}\n")
    return project
