"""One place for versions: pyproject.toml. The lock and the conda environment agree with it."""

import importlib.util
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("lock", ROOT / "workflow/lock.py")
lock = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(lock)


def test_environment_yml_is_what_the_lock_script_writes():
    assert (ROOT / "environment.yml").read_text() == lock.conda_environment()
    pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    assert set(lock.direct()) < set(pip)


def test_the_lock_holds_every_direct_dependency_at_its_version():
    text = (ROOT / "requirements.lock").read_text().lower().replace("_", "-")
    locked = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)$", text, re.MULTILINE))
    for pin in lock.direct():
        name, version = pin.lower().replace("_", "-").split("==")
        assert locked[name] == version


def test_the_lock_names_no_local_build_and_no_address():
    text = (ROOT / "requirements.lock").read_text()
    assert "+" not in text and "://" not in text and " @ " not in text
