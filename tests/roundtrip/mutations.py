"""Random changes of a published and restored clone, and what ``verify`` says of each.

``python -m tests.roundtrip.mutations 200`` makes that many, one at a time, of any file that git has or the track made:
edited, swapped with another, deleted, cut short, touched. ``verify`` must name the file, or nothing may depend on it.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.roundtrip.conftest import Clone, author_of, bridge
from tests.roundtrip.matrix import graph_of
from tests.workflow.conftest import Project

KINDS = ("edited", "swapped", "deleted", "cut short", "touched")
# What says what results are, beside the files that jobs read and make.
RECORDS = ("experiments/smoke/dvc.", "provenance/smoke/")


def files_of(project: Project) -> list[str]:
    """What git has, and what the track made and is here."""
    tracked = project.run("git", "ls-files").stdout.split("\n")
    made = [output for job in graph_of(project) for output in job["outputs"]]
    return sorted({path for path in [*tracked, *made] if path and (project.folder / path).is_file()})


@contextmanager
def mutated(folder: Path, path: str, kind: str, others: list[str], dice: random.Random) -> Iterator[set[str]]:
    """Change a file for a while; yields the paths whose bytes are other ones."""
    partner = dice.choice([other for other in others if other != path])
    paths = [path, partner] if kind == "swapped" else [path]
    kept = {name: ((folder / name).read_bytes(), (folder / name).stat()) for name in paths}
    _apply(folder, path, partner, kind, dice)
    now = {name: (folder / name).read_bytes() if (folder / name).exists() else None for name in paths}
    try:
        yield {name for name in paths if now[name] != kept[name][0]}
    finally:
        for name, (content, status) in kept.items():
            _write(folder / name, content)
            os.utime(folder / name, ns=(status.st_atime_ns, status.st_mtime_ns))


def _apply(folder: Path, path: str, partner: str, kind: str, dice: random.Random) -> None:
    content = (folder / path).read_bytes()
    if kind == "edited":
        place = dice.randrange(len(content) + 1)
        _write(folder / path, content[:place] + bytes([dice.randrange(32, 127)]) + content[place + 1 :])
    elif kind == "swapped":
        _write(folder / path, (folder / partner).read_bytes())
        _write(folder / partner, content)
    elif kind == "deleted":
        (folder / path).unlink()
    elif kind == "cut short":
        _write(folder / path, content[: dice.randrange(len(content) + 1)])
    else:
        os.utime(folder / path)


def _write(path: Path, content: bytes) -> None:
    """Anew, not into a file that a link may lead to."""
    mode = path.stat().st_mode if path.exists() else 0o644
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(mode | 0o200)


def verdict(project: Project, changed: set[str], jobs: list[dict]) -> str:
    """What ``verify`` made of a change: that it told it, or that nothing depends on it. Errors: AssertionError.

    jobs: the job graph without the change.
    """
    done = bridge(project, "verify", check=False)
    printed = done.stdout + done.stderr
    if done.returncode:
        assert changed, f"nothing has changed, and yet:\n{printed}"
        # Python itself says which of the modules that verify is made of cannot be read.
        named = "Traceback" not in printed or any(_is_named(path, printed) for path in changed)
        assert named, f"{sorted(changed)} not told of, but\n{printed}"
        return "told"
    missing = {path for path in changed if not (project.folder / path).exists()}
    needed = {path for job in jobs for path in [*job["inputs"], *job["outputs"]]}
    needed |= {path for path in changed if path.startswith(RECORDS)}
    assert not changed & needed - missing, f"{sorted(changed & needed)} went unnoticed"
    for path in missing & needed:
        assert path in printed, f"{path} is not here, which went unnoticed"
    assert graph_of(project) == jobs, f"{sorted(changed)}: the job graph is another one, which went unnoticed"
    return "told as not here" if missing & needed else "nothing depends on it"


def _is_named(path: str, printed: str) -> bool:
    """Whether a module of src stands in what is printed: as a file, as Python names it, or where its import fails."""
    module = path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    package, _, name = module.rpartition(".")
    named = (path, f"'{module}'", f"'{name}' from '{package}'")
    failing = f"from {module} import" in "".join(printed.splitlines()[-2:])  # null bytes: Python names no file
    return path.startswith("src/") and (failing or any(text in printed for text in named))


def main() -> None:
    """Make random changes, and count what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as top:
        (Path(top) / "first").mkdir()
        first = Project(Path(top) / "first")
        first.snakemake()
        author = author_of(first, Path(top) / "published")
        clone = Clone(author, Path(top) / "clone")
        bridge(clone, "restore")
        for kind, verdict_ in run(clone, asked.count, asked.seed):
            counts[kind, verdict_] += 1
            print(f"\r{counts.total()} of {asked.count}", end="", file=sys.stderr, flush=True)
    print("\n| change | what verify says | |\n|---|---|--:|")
    for (kind, verdict_), count in sorted(counts.items()):
        print(f"| {kind} | {verdict_} | {count} |")
    sys.exit(any(verdict_.startswith("missed") for _, verdict_ in counts))


def run(clone: Project, count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Make random changes of a restored clone, one at a time; yields the kind of each and what became of it."""
    dice = random.Random(seed)
    files, jobs = files_of(clone), graph_of(clone)
    records = Path(clone.folder / ".snakemake/metadata")
    kept = clone.folder.with_name("records")
    shutil.copytree(records, kept)
    for _ in range(count):
        kind, path = dice.choice(KINDS), dice.choice(files)
        with mutated(clone.folder, path, kind, files, dice) as changed:
            try:
                found = verdict(clone, changed, jobs)
            except AssertionError as error:
                found = f"missed: {error}"
        yield kind, found
        shutil.rmtree(records)  # Snakemake's records follow a file that changes
        shutil.copytree(kept, records)


if __name__ == "__main__":
    main()
