"""What it costs to learn that nothing is to be done: `snakemake -n`, `dvc status` and `verify` on finished tracks.

`python benchmarks/no_op_costs.py measure` prints a table: time (median of three) and peak memory, with ratios to the
bare tool on a workflow of as many trivial jobs, which have as many inputs as ours on average. Ratios of time are those
of CPU seconds, which other work on the machine disturbs little. It needs no results and writes into a temporary folder
alone. Tracks grow by seeds of one lifter, three jobs each; results are small fakes with true records, published by
`publish --no-push`.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from time import perf_counter

import typer
import yaml
from snakemake.persistence import RECORD_FORMAT_VERSION
from tabulate import tabulate

from isopose import config
from isopose.bridge import graph, ledger, records
from isopose.bridge.records import Record
from isopose.files import sha256, write_text

ROOT = Path(__file__).parents[1]
TRACK = "costs"
FILE = f"experiments/{TRACK}/params.yaml"
DVC_ONCE = 300  # jobs above which DVC is measured once: it takes minutes
SMALLEST = 46  # jobs of a track of one lifter and one weighting
BRIDGE = (sys.executable, "-m", "isopose.bridge")
BARE = """
rule all:
    input: [f"out/{{i}}" for i in range({jobs})]
rule job:
    input: [f"in/{{i}}" for i in range({inputs})]
    output: "out/{{i}}"
    shell: "touch {{output}}"
"""

HEADERS = ("jobs", "command", "s", "CPU s", "bare CPU s", "ratio", "MiB", "bare MiB", "ratio")

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Cost:
    """Times of a command (medians) and its peak memory; CPU seconds are those of processes that it starts too."""

    seconds: float
    cpu_seconds: float
    mebibytes: float


@app.command()
def measure(sizes: list[int] = typer.Argument(None, help="Numbers of jobs."), rounds: int = 3) -> None:
    """Print the table, a block for each number of jobs."""
    rows = []
    with tempfile.TemporaryDirectory() as top:
        for size in sizes or (SMALLEST, 300, 3000):
            ours, bare = Path(top, f"ours{size}"), Path(top, f"bare{size}")
            jobs, inputs = make_track(ours, size)
            make_bare(bare, jobs, inputs)
            rows += [[jobs, *row] for row in compared(ours, bare, rounds, 1 if size > DVC_ONCE else rounds)]
            print(tabulate(rows, HEADERS, floatfmt=".1f", tablefmt="github"), flush=True)
            shutil.rmtree(ours)
            shutil.rmtree(bare)


def compared(ours: Path, bare: Path, rounds: int, dvc_rounds: int) -> Iterator[list]:
    """A row for each command; `verify` beside what it builds on, Snakemake's dry run."""
    publish, commit = (*BRIDGE, "publish", "--no-push", "--track", TRACK), ("dvc", "commit", "--force")
    yield row("publish --no-push", cost(ours, publish, "published"), cost(bare, commit, ""))
    status = (("dvc", "status"), "up to date", dvc_rounds)
    yield row("dvc status", cost(ours, *status), cost(bare, *status))
    dry_run, nothing = ("snakemake", "--dry-run"), "Nothing to be done"
    snakemake = cost(bare, dry_run, nothing, rounds)
    of_track = (*dry_run, "--configfile", FILE)
    yield row("snakemake -n", cost(ours, of_track, nothing, rounds), snakemake)
    verify = (*BRIDGE, "verify", "--track", TRACK)
    yield row("verify", cost(ours, verify, "outputs agree", rounds), snakemake)


def row(name: str, ours: Cost, bare: Cost) -> list:
    """A row of the table, without the number of jobs."""
    times = [ours.seconds, ours.cpu_seconds, bare.cpu_seconds, ours.cpu_seconds / bare.cpu_seconds]
    return [name, *times, ours.mebibytes, bare.mebibytes, ours.mebibytes / bare.mebibytes]


def cost(folder: Path, command: tuple[str, ...], expected: str, rounds: int = 1) -> Cost:
    """Run a command some times; it must print what is expected."""
    seconds, cpu_seconds, peaks = [], [], []
    for _ in range(rounds):
        start = perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        printed = process.stdout.read()
        used = os.wait4(process.pid, 0)[2]
        seconds.append(perf_counter() - start)
        cpu_seconds.append(used.ru_utime + used.ru_stime)
        peaks.append(used.ru_maxrss / 1024)
        if expected not in printed:
            raise SystemExit(f"{' '.join(command)}: expected '{expected}' of it, which printed\n{printed[-2000:]}")
    return Cost(median(seconds), median(cpu_seconds), max(peaks))


def environment(folder: Path) -> dict[str, str]:
    """The environment in which a track's own modules run."""
    source = folder / "src" if (folder / "src").exists() else ROOT / "src"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}


def run(folder: Path, *command: str) -> str:
    """What a command prints."""
    done = subprocess.run(command, cwd=folder, env=environment(folder), check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def make_track(folder: Path, size: int) -> tuple[int, int]:
    """A copy of the project with a finished track of about so many jobs; see :func:`finished`."""
    for name in ("src", "workflow", "profiles", ".dvc"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "tmp", "cache"))
    for name in ("Snakefile", "params.yaml", "environment.yml", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    overlay = config.load(ROOT / "experiments/smoke/params.yaml")
    overlay["track"] = TRACK
    overlay["evaluations"]["synthetic"] |= {"variants": ["full"], "weightings": ["constant"]}
    overlay["variants"] = {"full": {"seeds": list(range(1, 2 + (size - SMALLEST) // 3))}}
    write_text(folder / FILE, yaml.safe_dump(overlay))
    run(folder, "git", "init", "--quiet")
    run(folder, *BRIDGE, "generate", "--track", TRACK)
    return finished(folder, TRACK)


def make_bare(folder: Path, jobs: int, inputs: int) -> None:
    """A finished workflow of trivial jobs with as many inputs each, for Snakemake and as DVC's stages."""
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    read = [f"in/{number}" for number in range(inputs)]
    for path in read:
        write_text(folder / path, path)
    write_text(folder / "params.yaml", "{}\n")
    write_text(folder / "Snakefile", BARE.format(jobs=jobs - 1, inputs=inputs))
    stages = {f"job{i}": {"cmd": f"touch out/{i}", "deps": [*read], "outs": [f"out/{i}"]} for i in range(jobs - 1)}
    write_text(folder / "dvc.yaml", yaml.safe_dump({"stages": stages}))
    finished(folder, "demo")
    run(folder, "git", "init", "--quiet")
    run(folder, "dvc", "init", "--quiet")


def finished(folder: Path, track: str) -> tuple[int, int]:
    """Make small outputs of all jobs, true records and the ledger; returns the number of jobs and of inputs a job."""
    jobs, inputs = map(int, run(folder, sys.executable, __file__, "finish", track).split())
    return jobs, inputs


@app.command(hidden=True)
def finish(track: str) -> None:
    """What `finished` does, in the folder and with the modules of the track."""
    jobs = graph.jobs(track)
    digest = functools.cache(sha256)
    for job in graph.in_order(jobs):
        for output in job.outputs:
            write_text(output, output)
            inputs = {path: digest(graph.on_this_machine(path)) for path in job.inputs}
            record = Record(
                rule=job.rule,
                inputs=inputs,
                params=list(job.params),
                code=job.code,
                log=list(job.log),
                software_stack_hash=job.software_stack_hash,
                record_format_version=RECORD_FORMAT_VERSION,
            )
            records.write(output, record, Path(output).stat().st_mtime)
    ledger.write(track, ledger.current(track, jobs))
    print(len(jobs), round(mean(len(job.inputs) for job in jobs if job.outputs)))


if __name__ == "__main__":
    app()
