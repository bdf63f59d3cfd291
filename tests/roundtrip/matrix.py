"""The matrix of restored clones: whatever is pulled, however it is linked, and whenever something changes, exactly the
jobs that depend on the change run, and what comes out is what a run from scratch makes.

``python -m tests.roundtrip.matrix`` runs all of it with real git, DVC and Snakemake, on the smoke track with one lifter
and one weighting, which takes hours; ``--links copy hardlink``, ``--pulls all``, ``--changes none`` and
``--times after`` take a part.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from tests.roundtrip.conftest import FILE, TABLE, Clone, author_of, bridge
from tests.workflow.conftest import Project

OVERLAY = "experiments/smoke/params.yaml"
STAGE = f"{FILE}:evaluate-synthetic-test-iso-soft_1_0"
SCORES = "results/smoke/synthetic/scores/test/iso/soft_1.0.json"
LINKS = ("copy", "hardlink", "symlink")
# What is brought into the clone, and what is then asked for.
PULLS = {"all": "reports/smoke/index.html", "one table": TABLE, "one stage": SCORES}
TIMES = ("before", "after")  # the change comes before or after what is brought
GRAPH = """
import json
from isopose.bridge import graph
keys = ("rule", "inputs", "outputs", "parameters", "log", "params", "code")
print(json.dumps([{key: getattr(job, key) for key in keys} for job in graph.jobs("smoke", target=TARGET)]))
"""


@dataclass(frozen=True)
class Change:
    """An edit of a clone's folder, and whether it concerns a job itself."""

    edit: Callable[[Path], None]
    concerns: Callable[[dict], bool]


def _replaced(path: str, *pairs: tuple[str, str]) -> Callable[[Path], None]:
    """An edit that puts each text, which is in a file once, in the place of another, all at once."""

    def edit(folder: Path) -> None:
        new = dict(pairs)
        text, count = re.subn("|".join(map(re.escape, new)), lambda found: new[found[0]], (folder / path).read_text())
        assert count == len(pairs)
        (folder / path).write_text(text)

    return edit


def _appended(path: str, line: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / path).write_text((folder / path).read_text() + line)

    return edit


def _given(*names: str) -> Callable[[dict], bool]:
    """Whether a job is given one of the parameters, or a section that has one."""
    return lambda job: any(f"{name}.".startswith(f"{given}.") for name in names for given in job["parameters"])


def _reads(path: str) -> Callable[[dict], bool]:
    return lambda job: path in job["inputs"]


FEWER = _replaced(
    OVERLAY, ("variants: [base, full]\n", "variants: [full]\n"), ("[constant, hard_0.5, soft_1.0]", "[soft_1.0]")
)
MODULE, CAPTION = "src/isopose/iso/select.py", "workflow/report/table_iso.rst"
CHANGES = {
    "none": Change(lambda folder: None, lambda job: False),
    "ISO parameter": Change(_replaced(OVERLAY, ("iterations: 5\n", "iterations: 4\n")), _given("iso.iterations")),
    "two parameters swapped": Change(
        _replaced("params.yaml", ("\n  smoothness: 0.05", "\n  smoothness: 0.1"), ("l: 0.1\n", "l: 0.05\n")),
        _given("iso.smoothness", "iso.adversarial"),
    ),
    "lifter parameter": Change(_replaced(OVERLAY, ("steps: 20\n", "steps: 10\n")), _given("lifter.steps")),
    "source module": Change(_appended(MODULE, "# changed\n"), _reads(MODULE)),
    "raw input": Change(_appended(CAPTION, "\nChanged.\n"), _reads(CAPTION)),
}


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix; fields are keys of LINKS, PULLS, CHANGES and TIMES."""

    link: str
    pull: str
    change: str
    time: str


def run_cell(cell: Cell, author: Project, from_scratch: Project, folder: Path) -> tuple[int, int]:
    """Run a cell in a new folder; returns how many jobs ran that depend on the change, and how many intermediates were
    made again.

    from_scratch: a folder where the same change was made and everything run. Errors: AssertionError where other jobs
    ran, or other bytes came out.
    """
    clone = Clone(author, folder)
    clone.run("dvc", "config", "--local", "cache.type", cell.link)
    change, target = CHANGES[cell.change], PULLS[cell.pull]
    if cell.time == "before":
        change.edit(clone.folder)
    _bring(clone, cell.pull)
    if cell.time == "after":
        change.edit(clone.folder)
    jobs = graph_of(clone, target)
    expected = _dependants(jobs, change)
    absent = {_name(job) for job in jobs if any(not (clone.folder / output).exists() for output in job["outputs"])}
    started = time.time()
    bridge(clone, "run", "--cores", "2", target)
    ran = {_name(job) for job in jobs if any(_is_newer(clone.folder / log, started) for log in job["log"])}
    assert expected <= ran, f"{cell}: {sorted(expected - ran)} did not run"
    assert ran - expected <= (absent if expected else set()), f"{cell}: {sorted(ran - expected - absent)} ran too"
    for path in _results(from_scratch, target):
        assert (clone.folder / path).read_bytes() == (from_scratch.folder / path).read_bytes(), f"{cell}: {path}"
    return len(expected), len(ran - expected)


def graph_of(project: Project, target: str | None = None) -> list[dict]:
    """The jobs of a target, or of the whole track, as JSON has them."""
    return json.loads(project.run(sys.executable, "-c", GRAPH.replace("TARGET", repr(target))).stdout)


def _bring(clone: Project, pull: str) -> None:
    if pull == "all":
        bridge(clone, "restore")
    elif pull == "one table":
        bridge(clone, "restore", TABLE)
    else:
        clone.run("dvc", "pull", STAGE)


def _dependants(jobs: list[dict], change: Change) -> set[str]:
    """Jobs that a change concerns, and those that read what these make, to the end: by brute force."""
    found = {_name(job) for job in jobs if job["outputs"] and change.concerns(job)}
    made = {output for job in jobs if _name(job) in found for output in job["outputs"]}
    while True:
        more = [job for job in jobs if job["outputs"] and _name(job) not in found and made & {*job["inputs"]}]
        if not more:
            return found
        found |= {_name(job) for job in more}
        made |= {output for job in more for output in job["outputs"]}


def _name(job: dict) -> str:
    return " ".join([job["rule"], *job["outputs"][:1]])


def _is_newer(path: Path, started: float) -> bool:
    return path.exists() and path.stat().st_mtime >= started


def _results(project: Project, target: str) -> Iterable[str]:
    """What is compared: the target, and all tables where that is the whole report."""
    if target == PULLS["all"]:
        tables = project.folder.glob("reports/smoke/*/tables/*")
        return [path.relative_to(project.folder).as_posix() for path in tables]
    return [target]


def scratch(author: Project, change: str, folder: Path) -> Project:
    """A run from scratch in a clone that has a change; without one, the author's own."""
    if change == "none":
        return author
    clone = Clone(author, folder)
    CHANGES[change].edit(clone.folder)
    clone.snakemake()
    return clone


def main() -> None:
    """Run the cells asked for, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, choices in (("links", LINKS), ("pulls", PULLS), ("changes", CHANGES), ("times", TIMES)):
        parser.add_argument(f"--{name}", nargs="+", choices=list(choices), default=list(choices))
    asked = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as top:
        (Path(top) / "first").mkdir()
        first = Project(Path(top) / "first")
        FEWER(first.folder)
        first.snakemake()
        author = author_of(first, Path(top) / "published")
        print(
            "| link | pull | change | when | jobs that depend on it | intermediates | |\n|---|---|---|---|--:|--:|---|"
        )
        for number, change in enumerate(asked.changes):
            reference = scratch(author, change, Path(top) / f"scratch{number}")
            for link, pull, when in product(asked.links, asked.pulls, asked.times):
                with tempfile.TemporaryDirectory(dir=top) as folder:
                    try:
                        counts = run_cell(Cell(link, pull, change, when), author, reference, Path(folder) / "clone")
                        ending = "{} | {} | as it should".format(*counts)
                    except AssertionError as error:
                        failed += 1
                        ending = f"| | {str(error)[:200]}"
                print(f"| {link} | {pull} | {change} | {when} | {ending} |", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
