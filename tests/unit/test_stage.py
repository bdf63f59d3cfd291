import os
import subprocess
import sys

import pytest

from isopose import stage
from isopose.errors import UserError

EXPECTED = {"steps": int, "rate": float, "mask": (dict, type(None))}


def test_params_come_back_as_given():
    params = stage.parse_params('{"steps": 3, "rate": 1, "mask": null}', EXPECTED)
    assert params == {"steps": 3, "rate": 1, "mask": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "expected an object"),
        ('{"stepps": 3, "rate": 1, "mask": null}', "unknown parameter 'stepps'; did you mean 'steps'?"),
        ('{"rate": 1, "mask": null}', "'steps' is missing"),
        ('{"steps": 1.5, "rate": 1, "mask": null}', "'steps' is 1.5; expected int"),
    ],
)
def test_wrong_params_are_refused_by_name(text, message):
    with pytest.raises(UserError) as error:
        stage.parse_params(text, EXPECTED)
    assert message in str(error.value)


def test_named_options():
    assert stage.parse_named(["a=b/c", "d=e=f"]) == {"a": "b/c", "d": "e=f"}
    with pytest.raises(UserError, match="name=path"):
        stage.parse_named(["nothing"])


def test_a_user_error_is_one_line_and_exit_status_1(tmp_path):
    command = [sys.executable, "-m", "isopose.iso.select", "--trace", f"x={tmp_path}/none.csv", "--output", "o.json"]
    command += ["--params", '{"weightings": {}}']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "none.csv" in done.stderr


def test_a_full_disk_is_one_line_and_a_fault_of_the_program_is_not():
    code = "import sys, typer; from isopose import stage; app = typer.Typer()\n"
    code += "@app.command()\ndef main(path: str):\n    with open(path, 'a') as file:\n        file.write('text')\n"
    command = [sys.executable, "-c", f"{code}stage.run(app)"]
    done = subprocess.run([*command, "/dev/full"], capture_output=True, text=True)
    expected = "error: a file: No space left on device; expected free space and the right to read and write; mend that"
    assert done.returncode == 1 and done.stderr.startswith(expected) and done.stderr.count("\n") == 1
    done = subprocess.run([*command, "/nowhere/at/all"], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_the_number_of_threads_is_the_parameters_whatever_snakemake_grants():
    program = "import torch; from isopose import stage; stage.set_threads(2); print(torch.get_num_threads())"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == "2\n", done.stderr


STAGES = [
    "datasets.preprocess",
    "occlusion.label",
    "rendering",
    "training.estimator",
    "detection",
    "calibrate",
    "training.lifter",
    "lifting",
    "iso.refine",
    "iso.select",
    "evaluation.evaluate",
    "reporting.tables",
    "reporting.figures",
    "reporting.html",
    "tracking",
    "config",
]


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_runs_alone_with_help(name):
    done = subprocess.run([sys.executable, "-m", f"isopose.{name}", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
