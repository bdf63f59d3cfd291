import json

import pytest
from typer.testing import CliRunner

from isopose.iso.select import app

ERRORS = {"constant": [63, 62, 62.2], "hard_0.7": [63, 60.8, 61.5], "soft_1.0": [63, 61, 60.9]}
OPTIONS = {name: {"weighting": {"kind": name.split("_")[0]}} for name in [*ERRORS, "smoothness_only"]}


@pytest.fixture
def choose(tmp_path):
    """Run the stage on errors by iteration, and read what it wrote."""

    def run(errors, *arguments):
        output = tmp_path / "selection.json"
        command = ["--output", str(output), "--params", json.dumps({"weightings": OPTIONS}), *arguments]
        for name, values in errors.items():
            path = tmp_path / f"{name}.csv"
            lines = ["iteration,total,mpjpe", *(f"{step},{1000 - step},{v}" for step, v in enumerate(values))]
            path.write_text("\n".join(lines))
            command += ["--trace", f"{name}={path}"]
        result = CliRunner().invoke(app, command)
        if result.exception:
            raise result.exception
        return json.loads(output.read_text())

    return run


def test_the_weighting_and_iteration_with_the_lowest_validation_error_are_chosen(choose):
    selection = choose(ERRORS)
    assert (selection["selected"], selection["iterations"]) == ("hard_0.7", 1)
    assert selection["options"] == {"weighting": {"kind": "hard"}}
    assert selection["validation"]["soft_1.0"] == {"last": 60.9, "lowest": 60.9, "iterations": 2}
    assert selection["validation"]["constant"] == {"last": 62.2, "lowest": 62.0, "iterations": 1}


def test_other_files_are_refused_by_name(choose, tmp_path):
    path = tmp_path / "wrong.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(Exception, match=r"wrong\.csv: not the trace of a refinement"):
        choose(ERRORS, "--trace", f"soft_2.0={path}")


def test_a_control_is_never_chosen(choose):
    errors = {"smoothness_only": [63, 50]} | ERRORS
    assert choose(errors, "--control", "smoothness_only")["selected"] == "hard_0.7"
    with pytest.raises(Exception, match="every weighting is a control"):
        choose({"smoothness_only": [63, 50]}, "--control", "smoothness_only")
