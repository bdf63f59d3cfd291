"""Stage: choose ISO's weighting and number of iterations by the validation error; nothing is chosen on test."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import typer

from isopose import stage
from isopose.errors import UserError
from isopose.files import write_text

app = typer.Typer(add_completion=False)


@app.command()
def main(
    trace: list[str] = typer.Option(
        ..., help="Trace (CSV) of a weighting on the validation role as name=path; repeat for each."
    ),
    control: list[str] = typer.Option([], help="A weighting that is a control and never chosen; repeat for each."),
    output: Path = typer.Option(..., help="The choice, and the errors of each weighting (JSON)."),
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Choose the weighting and the iteration with the lowest MPJPE, over frames, on the validation role."""
    options = stage.parse_params(params, {"weightings": dict})["weightings"]
    errors = {name: _errors(Path(path)) for name, path in stage.parse_named(trace, "--trace").items()}
    selection = select(errors, [name for name in errors if name not in control])
    write_text(output, json.dumps(selection | {"options": options[selection["selected"]]}, indent=1) + "\n")


def select(errors: Mapping[str, pd.Series], candidates: list[str]) -> dict[str, Any]:
    """The choice among candidates and, of every weighting, the last and the lowest error, mm, and its iteration.

    errors: of each weighting, MPJPE by iteration. The first of equals is taken.
    """
    if not candidates:
        raise UserError("--trace: every weighting is a control; expected one to choose; add one to params.yaml")
    found = {
        name: {"last": float(error.iloc[-1]), "lowest": float(error.min()), "iterations": int(error.idxmin())}
        for name, error in errors.items()
    }
    selected = min(candidates, key=lambda name: found[name]["lowest"])
    return {"selected": selected, "iterations": found[selected]["iterations"], "validation": found}


def _errors(path: Path) -> pd.Series:
    try:
        return pd.read_csv(path, index_col="iteration")["mpjpe"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not the trace of a refinement ({error!r}); delete it and run again") from error


if __name__ == "__main__":
    stage.run(app)
