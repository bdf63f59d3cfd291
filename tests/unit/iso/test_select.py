import json

from typer.testing import CliRunner

from isopose.iso.select import app


def test_the_lowest_validation_error_is_chosen(tmp_path):
    arguments = ["--output", str(tmp_path / "selection.json")]
    for name, error in {"constant": 62.2, "hard_0.7": 60.8, "soft_1.0": 60.9}.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"mpjpe": {"actions": error, "frames": -error}}))
        arguments += ["--metrics", f"{name}={path}"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    selection = json.loads((tmp_path / "selection.json").read_text())
    assert selection["selected"] == "hard_0.7"
    assert selection["mpjpe"]["soft_1.0"] == 60.9


def test_other_files_are_refused_by_name(tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text("{}")
    result = CliRunner().invoke(app, ["--metrics", f"a={path}", "--output", str(tmp_path / "selection.json")])
    assert "wrong.json: not the metrics" in str(result.exception)


def test_a_control_is_never_chosen(tmp_path):
    arguments = ["--output", str(tmp_path / "selection.json"), "--control", "smoothness_only"]
    for name, error in {"smoothness_only": 50.0, "constant": 62.2}.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"mpjpe": {"actions": error}}))
        arguments += ["--metrics", f"{name}={path}"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert json.loads((tmp_path / "selection.json").read_text())["selected"] == "constant"
    refused = CliRunner().invoke(app, [*arguments, "--control", "constant"])
    assert "every weighting is a control" in str(refused.exception)
