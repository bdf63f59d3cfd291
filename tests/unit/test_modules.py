from pathlib import Path

import pytest
import yaml

from isopose import modules
from isopose.datasets.official import OFFICIAL
from isopose.datasets.preprocess import READERS
from isopose.errors import UserError
from isopose.modules import source_files

ROOT = Path(__file__).parents[2]


def names(module):
    return {path.as_posix().split("isopose/", 1)[1] for path in source_files(module)}


def test_the_module_itself_and_what_it_imports_at_any_depth():
    found = names("isopose.evaluation.evaluate")
    assert {"evaluation/evaluate.py", "evaluation/metrics.py", "datasets/store.py", "camera.py", "files.py"} <= found


def test_imports_inside_functions_count():
    assert "reporting/pictures.py" in names("isopose.reporting.figures")


def test_data_files_that_a_module_names_count():
    assert "reporting/page.html.j2" in names("isopose.reporting.html")
    assert "datasets/cmu_mocap_index.csv" in names("isopose.datasets.cmu_mocap")
    assert "reporting/page.html.j2" not in names("isopose.reporting.tables")


def test_every_data_file_of_the_package_is_an_input_of_a_track():
    """Else an edit of it would change numbers that both engines go on to call up to date."""
    package = ROOT / "src/isopose"
    found = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc", ".md")}
    read = set()
    for track in ("dvc.yaml", "experiments/open/dvc.yaml", "experiments/smoke/dvc.yaml"):
        stages = yaml.safe_load((ROOT / track).read_text())["stages"].values()
        read |= {ROOT / path for stage in stages for path in stage.get("deps", [])}
    # No rule reads Table 1. Tables 4, 5, 6 and 9 are the paper track's: tests/workflow/test_paper.py edits them.
    assert found - read == {package / f"reporting/published/table{number}.csv" for number in (1, 4, 5, 6, 9)}


def test_nothing_that_is_not_imported():
    assert names("isopose.skeleton") == {"skeleton.py"}
    assert "training/lifter.py" not in names("isopose.iso.refine")


def test_preprocess_does_not_depend_on_the_readers_that_it_imports_by_name():
    found = names("isopose.datasets.preprocess")
    assert "datasets/store.py" in found
    assert not found & {f"datasets/{reader}.py" for reader in (*READERS, *OFFICIAL)}


@pytest.mark.parametrize("content", [b"def f(:", b"\x00", b"\xff"])
def test_a_file_that_is_no_python_is_named(tmp_path, monkeypatch, content):
    (tmp_path / "isopose").mkdir()
    (tmp_path / "isopose/broken.py").write_bytes(content)
    monkeypatch.setattr(modules, "PACKAGE", tmp_path / "isopose")
    with pytest.raises(UserError, match=r"isopose/broken.py: is no Python \(.*; mend it, or take it from git again$"):
        source_files("isopose.broken")
