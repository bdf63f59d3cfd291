"""Stage: the run records behind a report, beside it: where every number of its tables comes from."""

from pathlib import Path

import typer

from isopose import stage, tracking
from isopose.files import write_text

app = typer.Typer(add_completion=False)


@app.command()
def main(
    record: list[Path] = typer.Option(..., help="Run record (JSON); repeat for each."),
    output: Path = typer.Option(..., help="Folder to write; a record's file is named by its run's key."),
) -> None:
    """Copy run records into one folder."""
    for path in record:
        key = tracking.read_record(path)["key"]
        write_text(output / f"{key.split('/', 1)[-1]}.json", path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    stage.run(app)
