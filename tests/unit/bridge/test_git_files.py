import subprocess
from pathlib import Path

import pytest

from isopose.bridge import git_files
from isopose.errors import UserError


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("kept.txt").write_text("kept")
    Path("other.txt").write_text("other")
    subprocess.run("git init --quiet; git add .", shell=True, check=True)
    for name in ("kept.txt", "other.txt", "own.txt"):
        Path(name).write_text("mine")


def text():
    return {path.name: path.read_text() for path in Path().glob("*.txt")}


def test_what_git_keeps_comes_back_and_nothing_else_changes(repository):
    git_files.take_back(["kept.txt", "own.txt", "nowhere.txt"])
    assert text() == {"kept.txt": "kept", "other.txt": "mine", "own.txt": "mine"}
    git_files.take_back([])
    assert text()["other.txt"] == "mine"


def test_outside_a_repository_there_is_nothing_to_bring(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.txt").write_text("mine")
    git_files.take_back(["own.txt"])
    assert text() == {"own.txt": "mine"}


def test_git_at_work_elsewhere_is_told(repository):
    Path(".git/index.lock").touch()
    with pytest.raises(UserError, match=r"^git: .*index.lock.*; expected to take kept.txt from git; try again$"):
        git_files.take_back(["kept.txt"])
