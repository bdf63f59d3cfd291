"""Every figure is a ratio: how many times faster the project's code is than a plain reference, in the same run."""

import sys
from pathlib import Path
from statistics import median
from time import perf_counter

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `from reference import ...`

RATIOS = []


@pytest.fixture
def compare(benchmark, request):
    """`compare(function, reference, wanted)` times both and returns their results, to be checked for equality.

    `wanted` is the ratio aimed at. It is reported beside the measured one and never asserted. `scale` is how many
    times smaller the reference's task is; its time is multiplied by it.
    """

    def run(function, reference, wanted, scale=1, rounds=3):
        result = benchmark.pedantic(function, rounds=5, warmup_rounds=1)
        seconds = []
        for _ in range(rounds):
            start = perf_counter()
            expected = reference()
            seconds.append(perf_counter() - start)
        ratio = scale * median(seconds) / benchmark.stats.stats.median
        benchmark.extra_info.update(ratio=ratio, wanted=wanted)
        RATIOS.append((request.node.name, ratio, wanted))
        return result, expected

    return run


def pytest_terminal_summary(terminalreporter):
    if RATIOS:
        terminalreporter.section("times faster than the reference")
    for name, ratio, wanted in RATIOS:
        terminalreporter.write_line(f"{name:<60} {ratio:8.1f}   (wanted: {wanted})")
