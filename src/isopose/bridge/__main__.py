"""The bridge between Snakemake, which decides what runs, and DVC, which keeps what ran."""

from collections import Counter
from pathlib import Path

import typer

from isopose import stage
from isopose.bridge import changes, dvc_file, graph, ledger, publication, running, trace, trace_text, verification
from isopose.errors import UserError
from isopose.files import write_text

app = typer.Typer(add_completion=False, help=__doc__)
_SHOWN = 20  # outputs that are named
_TRACK = typer.Option("demo", help="The track.")


@app.command()
def generate(
    track: str = typer.Option(None, help="The track; without it, every track that has a dvc.yaml."),
    check: bool = typer.Option(False, "--check", help="Write nothing; fail where a file is not what would be written."),
) -> None:
    """Write a track's dvc.yaml from Snakemake's job graph."""
    for name in [track] if track else _tracks():
        path = dvc_file.path_of(name)
        text = dvc_file.generated(name, graph.jobs(name))
        if not check:
            write_text(path, text)
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            raise UserError(
                f"{path}: is not what Snakemake's job graph says; type"
                f" `python -m isopose.bridge generate --track {name}` and commit the file"
            )


@app.command()
def run(
    target: list[str] = typer.Argument(None, help="Outputs; without any, the whole track."),
    track: str = _TRACK,
    cores: str = typer.Option("all", help="Cores of Snakemake."),
    enter: bool = typer.Option(False, help="Enter the outputs of one job into the ledger, as stages of DVC do."),
    dry_run: bool = typer.Option(False, "--dry-run", "-n", help="Print the jobs that would run, and run none."),
) -> None:
    """Run the workflow; where results were restored, first what did not ship and is read, so that no more runs."""
    if cores != "all" and not (cores.isdecimal() and int(cores)):
        raise UserError(f"--cores: is '{cores}'; expected a number, or all")
    if dry_run:
        print(_plan(running.planned(graph.jobs_of(track, target or []))))
    elif enter:
        running.run_and_enter(track, target or [], cores)
    else:
        running.run(track, target or [], cores)


@app.command()
def publish(
    track: str = _TRACK,
    push: bool = typer.Option(True, help="Send the bytes to DVC's remote as well as to its cache."),
) -> None:
    """Publish a track: bytes to DVC's cache and remote, records to the ledger; refused where anything would rerun."""
    running.hold_lock(track)
    jobs = graph.jobs(track)
    publication.publish(track, jobs, push)
    outputs = sum(len(job.outputs) for job in jobs)
    print(f"{outputs} outputs published; commit {dvc_file.lock_of(track)} and {ledger.folder(track)}")


@app.command()
def restore(
    target: list[str] = typer.Argument(None, help="Outputs or rules, with all they need; without any, the track."),
    track: str = _TRACK,
    mlflow: bool = typer.Option(True, help="Make the runs of the restored run records in MLflow."),
) -> None:
    """Restore what was published: Snakemake's records, the bytes that the targets need and that ship, MLflow's runs."""
    running.hold_lock(track)
    jobs = graph.jobs_of(track, target or [])
    kept, refused = publication.restore(track, jobs)
    if kept:
        print(f"{len(kept)} are results of your own and stay: {_some(kept)}")
    if refused:
        print(f"{len(refused)} are not as published and will be made again: {_some(refused)}")
        print("to have the published ones in their place, delete these and restore again")
    if mlflow:
        publication.fill_mlflow(track, jobs, refused)
    print(_what_is_here(track, {output for job in jobs for output in job.outputs}))


@app.command()
def explain(
    target: str = typer.Argument(None, help="An output or a rule; without it, the whole track."), track: str = _TRACK
) -> None:
    """Say why jobs would run: parameters with both values, files, modules, what is missing."""
    print(changes.explanation(graph.jobs(track, target=target)))


@app.command()
def verify(track: str = _TRACK) -> None:
    """Compare every output with Snakemake's records and with the ledger; exit status 1 where they do not agree."""
    jobs = graph.jobs(track)
    found = verification.problems(track, jobs)
    print("\n".join(found) or _agreement([output for job in jobs for output in job.outputs]))
    raise typer.Exit(bool(found))


@app.command("trace")
def trace_command(
    table: str = typer.Argument(None, help="A table: the CSV under reports."),
    row: str = typer.Argument(None, help="Its row: a number from 1, a name or a label."),
    source: str = typer.Option(None, "--from", help="In their place: a file, to list what rests on it."),
    track: str = typer.Option(None, help="The track; without it, that of the table or file, or the demo."),
) -> None:
    """Print where a row of a table comes from, down to raw data; or the cells of tables that rest on a file."""
    if (row is None) == (source is None) or (table is None) != (row is None):
        raise UserError("trace: expected a table and a row, or --from and a file; see --help")
    path = trace.relative(table if source is None else source)
    name = trace.track_of(path, track)
    found = trace.Track(name, graph.jobs(name))
    if source is not None:
        print(trace_text.of_resting(trace.resting(found, path), name))
    else:
        print(trace_text.of_rows(found, path, trace.table_rows(found, path, row)))


def _what_is_here(track: str, outputs: set[str]) -> str:
    absent = {output for output in outputs if not Path(output).exists()}
    new = absent - set(ledger.outputs(track))
    told = [f"{len(absent - new)} did not ship"] if absent - new else []
    told += [f"{len(new)} were not published: {_some(sorted(new))}"] if new else []
    return "; ".join([f"{len(outputs) - len(absent)} of {len(outputs)} outputs are here", *told])


def _agreement(outputs: list[str]) -> str:
    absent = [output for output in outputs if not Path(output).exists()]
    if not absent:
        return f"{len(outputs)} outputs agree"
    return f"{len(outputs)} outputs agree, {len(absent)} of them not here: {_some(absent)}"


def _plan(jobs: list[graph.Job]) -> str:
    """Jobs that would run, by rule."""
    if not jobs:
        return "nothing would run"
    rules = Counter(job.rule for job in jobs)
    counts = ", ".join(f"{rule} {count}" for rule, count in rules.items())
    return f"{len(jobs)} jobs would run, or fewer where bytes come out the same: {counts}"


def _some(outputs: list[str]) -> str:
    """The first outputs of a list, and how many more there are."""
    more = f" and {len(outputs) - _SHOWN} more" if outputs[_SHOWN:] else ""
    return ", ".join(outputs[:_SHOWN]) + more


def _tracks() -> list[str]:
    """Tracks whose file is there."""
    others = sorted(path.parent.name for path in Path("experiments").glob("*/dvc.yaml"))
    return [name for name in ("demo", *others) if dvc_file.path_of(name).exists()]


if __name__ == "__main__":
    stage.run(app)
