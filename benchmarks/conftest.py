"""Every figure is a ratio: the project's code against a plain reference in the same run, of time or of size."""

import sys
from pathlib import Path
from statistics import median
from time import perf_counter

import pytest

from isopose import config

sys.path.insert(0, str(Path(__file__).parent))  # for `from reference import ...`

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "demo"
FIGURES = []


@pytest.fixture(scope="session")
def params():
    """The demo track's parameters."""
    return config.load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def demo():
    """`demo(name)` is the path of one of the demo track's results; the benchmark is skipped where it is missing."""

    def path(name):
        if not (RESULTS / name).exists():
            pytest.skip(f"results/demo/{name} is missing: run `make reproduce` first")
        return RESULTS / name

    return path


@pytest.fixture
def figure(benchmark, request):
    """`figure(ratio, meaning, wanted)` keeps a ratio for the summary, with a `note` if there is more to say.

    `wanted` is the bound aimed at, with its direction. It is reported beside the ratio and never asserted.
    """

    def keep(ratio, meaning, wanted, note=""):
        benchmark.extra_info.update(ratio=ratio, meaning=meaning, wanted=wanted, note=note)
        FIGURES.append((request.node.name, ratio, meaning, wanted, note))

    return keep


@pytest.fixture
def compare(benchmark, figure):
    """`compare(function, reference, wanted)` times both and returns their results, to be checked for equality.

    The figure is how many times faster the function is, at least `wanted`; with `cost`, how many times the
    reference's time it takes, at most `wanted`. `scale` is how many times smaller the reference's task is; its time
    is multiplied by it.
    """

    def run(function, reference, wanted, scale=1, rounds=3, cost=False):
        result = benchmark.pedantic(function, rounds=5, warmup_rounds=1)
        seconds = []
        for _ in range(rounds):
            start = perf_counter()
            expected = reference()
            seconds.append(perf_counter() - start)
        faster = scale * median(seconds) / benchmark.stats.stats.median
        if cost:
            figure(1 / faster, "times the time", f"at most {wanted}")
        else:
            figure(faster, "times faster", f"at least {wanted}")
        return result, expected

    return run


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section("against the reference")
    for name, ratio, meaning, wanted, note in FIGURES:
        terminalreporter.write_line(f"{name:<50} {ratio:8.2f} {meaning:<14} (wanted: {wanted})  {note}".rstrip())
