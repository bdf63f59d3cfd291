"""``python -m isopose.datasets``: what is there of the datasets."""

import os
from pathlib import Path

import typer

from isopose import stage
from isopose.datasets.check import LICENSED, MIRRORED, check
from isopose.datasets.official import RAW_VARIABLE
from isopose.datasets.sources import MIRROR_VARIABLE, check_known
from isopose.errors import UserError

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Look at the files of the datasets; nothing is changed."""


@app.command("check")
def check_command(
    dataset: list[str] = typer.Argument(None, help="Names of readers; without any, all."),
    raw: Path | None = typer.Option(
        None, envvar=RAW_VARIABLE, help="Folder with a folder for every licensed dataset; default: data/raw."
    ),
    every: bool = typer.Option(False, "--every", help="Open every file of a folder or archive, not the first alone."),
) -> None:
    """Say of each dataset which files are found, missing or wrong; exit status 1 where something found is wrong."""
    check_known(dataset, (*LICENSED, *MIRRORED), "dataset", "check")
    mirror = Path(os.environ[MIRROR_VARIABLE]) if os.environ.get(MIRROR_VARIABLE) else None
    for variable, folder in {RAW_VARIABLE: raw, MIRROR_VARIABLE: mirror}.items():
        if folder is not None and not folder.is_dir():
            raise UserError(f"{folder}: no such folder; set {variable} to the folder that holds the datasets' files")
    wrong = False
    for name in dataset or (*LICENSED, *MIRRORED):
        report = check(name, (raw or Path("data/raw")) / name if name in LICENSED else mirror, every)
        print("\n".join(report.lines()), flush=True)
        wrong |= bool(report.wrong)
    raise typer.Exit(wrong)


if __name__ == "__main__":
    stage.run(app)
