"""A copy of the project in an empty folder, and snakemake as a user types it."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Project:
    """A working copy of the project. variables: of the environment, added to or (None) taken from those here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables: dict[str, str | None] = {}
        for name in ("Snakefile", "params.yaml", "environment.yml"):
            shutil.copy(ROOT / name, folder / name)
        for name in ("workflow", "profiles", "experiments", "src"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))

    def environment(self) -> dict[str, str]:
        """The environment in which this copy's own modules run."""
        variables = os.environ | {"PYTHONPATH": str(self.folder / "src"), "OMP_NUM_THREADS": "1"} | self.variables
        return {name: value for name, value in variables.items() if value is not None}

    @classmethod
    def at(cls, folder: Path) -> "Project":
        """A working copy that is there."""
        project = cls.__new__(cls)
        project.folder, project.variables = folder, {}
        return project

    def copy(self, folder: Path) -> "Project":
        """This project once more, with all that was computed in it."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        copy = Project.at(folder)
        copy.variables |= self.variables
        return copy

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run a command in the project's folder."""
        done = subprocess.run(command, cwd=self.folder, env=self.environment(), capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
        return done

    @contextmanager
    def running(self, *command: str) -> Iterator[subprocess.Popen]:
        """Run a command in a process group of its own, to be killed; what it prints goes to printed.txt."""
        with (self.folder / "printed.txt").open("w") as printed:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment(),
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def printed(self) -> str:
        """What the command of `running` has printed so far."""
        return (self.folder / "printed.txt").read_text()

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
