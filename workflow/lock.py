"""Renew requirements.lock and environment.yml from the direct dependencies in pyproject.toml."""

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONDA_HEAD = """\
# The same versions as pyproject.toml, for conda users; `make lock` writes this file.
name: isopose
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - make
  - pip:
      - -c requirements.lock
"""


def direct() -> list[str]:
    """Return the pinned direct dependencies, development ones last."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["dependencies"] + project["optional-dependencies"]["dev"]


def conda_environment() -> str:
    """Return the text of environment.yml."""
    return CONDA_HEAD + "".join(f"      - {pin}\n" for pin in [*direct(), "-e ."])


def resolved() -> str:
    """Install the direct dependencies in a fresh environment and return everything it then holds, pinned."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = f"{folder}/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *direct()], check=True)
        frozen = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    # A local build's suffix (torch's "+cpu") is not a version that other machines can find.
    return re.sub(r"\+\w+$", "", frozen, flags=re.MULTILINE)


if __name__ == "__main__":
    (ROOT / "environment.yml").write_text(conda_environment())
    if "--environment-only" not in sys.argv:
        (ROOT / "requirements.lock").write_text("# Everything, pinned; `make lock` writes this file.\n" + resolved())
