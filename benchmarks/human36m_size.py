"""Preprocessing and labelling of Human3.6M at its real size: seconds, peak memory, and speed beside the disk's own.

`python benchmarks/human36m_size.py` writes a copy of the official layout with as many subjects, trials, views and
frames (7, 210, 4, 527,100: 2.1 million views of a frame) into a temporary folder, D3_Positions and D2_Positions, of
made-up motion; a subject's trials are hard links of one. It needs no results, and 2 GB of disk. Peak memory is
that of a stage and its processes together.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import perf_counter

import psutil
import typer
from tabulate import tabulate

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.unit.datasets.generators import human36m as generator  # noqa: E402

from isopose.datasets.human36m import SUBJECTS  # noqa: E402

FRAMES = 2510
"""Of a trial: 2.1 million views of a frame are 7 x 30 x 4 x 2510."""

OPTIONS = {"reader": "human36m", "fps": 50.0, "subjects": None, "actions": None, "occluded": False, "seed": 1}
OCCLUDER = {"per_second": 0.6, "seconds": [0.06, 2.0], "pillar_share": 0.4, "width": [0.15, 0.5], "height": [0.2, 0.55]}
PROBE = 1 << 30
"""Bytes that are written to learn the disk's speed."""


def write_copy(root: Path, frames: int) -> None:
    """The official layout, extracted: one trial of each subject is written, the others are links to its files."""
    release = generator.Release(root)
    release.add_metadata()
    for subject in SUBJECTS:
        first = generator.file_name(subject, generator.ACTIONS[1], 1)
        release.add(subject, first, frames)
        names = [generator.file_name(subject, action, part) for action in generator.ACTIONS[1:] for part in (1, 2)]
        for path in sorted((root / subject).rglob(f"{first}.*")):
            for name in names:
                other = path.with_name(name + path.name.removeprefix(first))
                if not other.exists():
                    os.link(path, other)


def disk_speed(folder: Path) -> float:
    """Bytes a second of a sequential write that reaches the disk."""
    block, path = os.urandom(1 << 24), folder / "probe"
    start = perf_counter()
    with path.open("wb") as file:
        for _ in range(PROBE // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    seconds = perf_counter() - start
    path.unlink()
    return PROBE / seconds


def measured(*command: str) -> tuple[float, float]:
    """Seconds and peak memory, GB, of a command with its child processes."""
    start, peak = perf_counter(), 0
    process = psutil.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.1):
            try:
                family = [process, *process.children(recursive=True)]
                peak = max(peak, sum(member.memory_info().rss for member in family))
            except psutil.NoSuchProcess:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    done.set()
    watcher.join()
    if code:
        raise SystemExit(f"error: {' '.join(command)}: exit status {code}")
    return perf_counter() - start, peak / 1e9


def main(frames: int = typer.Option(FRAMES, help="Frames of a trial; fewer for a quick look.")) -> None:
    """Print a table of the two stages."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = perf_counter()
        write_copy(folder / "raw/human36m", frames)
        speed = disk_speed(folder)
        print(f"copy written in {perf_counter() - start:.0f} s; the disk writes {speed / 1e6:.0f} MB/s")
        sequences, labelled = folder / "human36m.h5", folder / "labelled.h5"
        params = json.dumps(OPTIONS | {"occluder": OCCLUDER})
        stages = {
            sequences: (
                "isopose.datasets.preprocess",
                "--params",
                params,
                "--raw",
                f"{folder}/raw",
                "--cache",
                f"{folder}/c",
            ),
            labelled: (
                *("isopose.occlusion.label", "--sequences", str(sequences)),
                *("--params", json.dumps({"projection": "perspective"})),
            ),
        }
        rows = []
        for output, command in stages.items():
            seconds, peak = measured(*command, "--output", str(output))
            size = output.stat().st_size
            rows.append([command[0], seconds, peak, size / 1e9, size / seconds / 1e6, size / seconds / speed])
        heads = ["stage", "s", "peak GB", "output GB", "MB/s", "of the disk's speed"]
        print(tabulate(rows, heads, floatfmt=("", ".0f", ".2f", ".2f", ".1f", ".4f")))


if __name__ == "__main__":
    typer.run(main)
