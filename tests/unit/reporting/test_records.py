from typer.testing import CliRunner

from isopose import tracking
from isopose.reporting import records


def test_records_are_copied_under_their_keys(tmp_path):
    keys = ["demo/synthetic/lifter/full/seed1", "demo/synthetic/iso/test/soft_1.0"]
    arguments = ["--output", str(tmp_path / "records")]
    for index, key in enumerate(keys):
        path = tmp_path / f"{index}.json"
        with tracking.run(key, path, {"seed": index}) as log:
            log(0, {"loss": 1.0})
        arguments += ["--record", str(path)]
    result = CliRunner().invoke(records.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = sorted(path.relative_to(tmp_path / "records").as_posix() for path in tmp_path.glob("records/**/*.json"))
    assert found == ["synthetic/iso/test/soft_1.0.json", "synthetic/lifter/full/seed1.json"]
    copy = tmp_path / "records" / found[1]
    assert copy.read_bytes() == (tmp_path / "0.json").read_bytes()
