"""A copy of the project in an empty folder, and snakemake as a user types it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Project:
    """A working copy of the project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("Snakefile", "params.yaml", "environment.yml"):
            shutil.copy(ROOT / name, folder / name)
        for name in ("workflow", "profiles", "experiments", "src"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))

    def environment(self) -> dict[str, str]:
        """The environment in which this copy's own modules run."""
        return os.environ | {"PYTHONPATH": str(self.folder / "src"), "OMP_NUM_THREADS": "1"}

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run a command in the project's folder."""
        done = subprocess.run(command, cwd=self.folder, env=self.environment(), capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
        return done

    def snakemake(self, *arguments: str, track: str = "smoke", check: bool = True) -> str:
        """Run the workflow on a track; returns what it printed."""
        command = ["snakemake", "--cores", "2", "--configfile", f"experiments/{track}/params.yaml", *arguments]
        done = self.run(*command, check=check)
        return done.stdout + done.stderr

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs of each rule that would run: the dry run's table of job counts."""
        lines = self.snakemake("--dry-run", *arguments).splitlines()
        if "job" not in " ".join(lines[:400]) or not any(line.startswith("total ") for line in lines):
            return {}
        table = lines[next(i for i, line in enumerate(lines) if line.startswith("---")) + 1 :]
        rows = (line.split() for line in table[: next(i for i, line in enumerate(table) if line.startswith("total "))])
        return {name: int(count) for name, count in rows}


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The smoke track, run once for all tests of a session."""
    project = Project(tmp_path_factory.mktemp("smoke"))
    project.snakemake()
    return project
