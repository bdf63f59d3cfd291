import re
from pathlib import Path
from pkgutil import resolve_name

import yaml

from isopose import config

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/method.md").read_text(encoding="utf-8")
PARAMS = config.load(ROOT / "params.yaml")


def exists(name):
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def parameter(name):
    found = PARAMS
    for key in name.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def test_the_code_that_the_method_page_names_exists():
    names = set(re.findall(r"`(isopose\.[\w.]+)`", TEXT))
    assert len(names) > 50
    assert [name for name in sorted(names) if not exists(name)] == []


def test_the_tests_that_the_method_page_names_exist():
    named = set(re.findall(r"`(tests/[\w/]+\.py)(?:`\s+`)?::(\w+)`", TEXT))
    assert len(named) == len(set(re.findall(r"\btest_\w+\b(?!\.py)", TEXT))) > 50  # each with its file
    assert [name for path, name in sorted(named) if f"\ndef {name}(" not in (ROOT / path).read_text("utf-8")] == []


def test_the_parameters_that_the_method_page_names_exist():
    names = set(re.findall(rf"`((?:{'|'.join(PARAMS)})\.[\w.]+)[`:]", TEXT))
    assert len(names) > 50
    assert [name for name in sorted(names) if parameter(name) is None] == []


def test_the_demos_values_on_the_method_page_are_those_of_params():
    rows = re.findall(r"^\|[^|]+\|[^|]+\| `(?!isopose)([\w.]+)` \| ([^|]+) \|", TEXT, re.MULTILINE)
    assert len(rows) > 40
    assert {name: yaml.safe_load(value) for name, value in rows} == {name: parameter(name) for name, _ in rows}
