"""Stage: choose the ISO weighting with the lowest validation error. Nothing is ever chosen on the test role."""

import json
from pathlib import Path

import typer

from isopose import stage
from isopose.errors import UserError

app = typer.Typer(add_completion=False)


@app.command()
def main(
    metrics: list[str] = typer.Option(
        ..., help="Metrics of a weighting on the validation role as name=path; repeat for each."
    ),
    control: list[str] = typer.Option([], help="A weighting that is a control and never chosen; repeat for each."),
    output: Path = typer.Option(..., help="The chosen weighting and the error of each (JSON)."),
) -> None:
    """Choose the ISO weighting with the lowest MPJPE, over actions, on the validation role."""
    errors = {name: _mpjpe(Path(path)) for name, path in stage.parse_named(metrics, "--metrics").items()}
    candidates = [name for name in errors if name not in control]
    if not candidates:
        raise UserError("--metrics: every weighting is a control; expected one to choose; add one to params.yaml")
    selection = {"selected": min(candidates, key=lambda name: errors[name]), "mpjpe": errors}
    stage.write_text(output, json.dumps(selection, indent=1) + "\n")


def _mpjpe(path: Path) -> float:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["mpjpe"]["actions"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not the metrics of an evaluation ({error!r}); delete it and run again") from error


if __name__ == "__main__":
    stage.run(app)
