"""DVC's own library on a real repository."""

import subprocess
from pathlib import Path

import pytest
import yaml

from isopose.bridge import dvc_file, dvc_repo
from isopose.errors import UserError


def test_files_stay_as_they_are_while_dvc_takes_them(published):
    """A publication that was stopped leaves no file whose time is not that of its job's end."""
    paths = [Path(output) for job in published.jobs for output in job.outputs]
    before = [(path.stat().st_mtime_ns, path.stat().st_ino) for path in paths]
    dvc_repo.commit("t")
    assert [(path.stat().st_mtime_ns, path.stat().st_ino) for path in paths] == before


@pytest.mark.parametrize("path", ["out/b.csv", "out/a.txt"])
def test_what_is_not_here_keeps_what_the_lock_has(published, path):
    """A last output, and one that another stage reads."""
    lock = dvc_file.lock_of("t").read_bytes()
    Path(path).unlink()
    dvc_repo.commit("t")
    assert yaml.safe_load(dvc_file.lock_of("t").read_bytes()) == yaml.safe_load(lock)


@pytest.mark.parametrize("content", [None, "[core"])
def test_a_folder_that_dvc_cannot_use_is_one_line(track, content):
    if content:
        subprocess.run(["git", "init", "--quiet"], check=True)
        track.make(".dvc/config", content)
    for act in (dvc_repo.commit, dvc_repo.push, lambda name: dvc_repo.in_cache(["src.txt"])):
        with pytest.raises(UserError, match="^dvc: cannot ") as error:
            act("t")
        assert "\n" not in str(error.value)
