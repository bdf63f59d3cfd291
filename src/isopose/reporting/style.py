"""One look for every figure, and bytes that depend on the input alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cycler import cycler
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isopose.errors import UserError
from isopose.files import atomic_path

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, AMBER, GREY, INK = "#56B4E9", "#E69F00", "#8A8A8A", "#222222"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, GREY)
"""Okabe and Ito's colours, told apart with every common kind of colour vision."""

RIGHT, LEFT, MIDDLE = ORANGE, BLUE, INK
"""Colours of the person's right and left side and of the trunk in every skeleton."""

WIDTH = 8.0
"""Width of a figure, inches: legible when a README shows it at 800 pixels."""

_SETTINGS = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 150,
    "svg.fonttype": "path",
    "svg.hashsalt": "isopose",
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def figure(output: Path, note: str) -> Iterator[Figure]:
    """Yield an empty figure; write it as SVG to ``output`` and as PNG beside it, its data noted below."""
    if output.suffix != ".svg":
        raise UserError(f"--output: is '{output}'; expected a name ending in .svg; the PNG is written beside it")
    # Without dates and version numbers the files depend on what they show alone.
    metadata = {output: {"Date": None, "Creator": None}, output.with_suffix(".png"): {"Software": None}}
    with rc_context(_SETTINGS):
        chart = Figure(figsize=(WIDTH, 4.2))
        yield chart
        chart.supxlabel(note, fontsize=8, color=GREY, x=0.99, ha="right")
        for path, entries in metadata.items():
            with atomic_path(path) as temporary:
                chart.savefig(temporary, metadata=entries)


def label_lines(axes: Axes, entries: list[tuple[float, str, str]], gap: float = 0.055) -> None:
    """Write names at the right ends of lines: entries of (y, name, colour), ``gap`` of the axis apart."""
    low, high = axes.get_ylim()
    step, placed = gap * (high - low), []
    for y, name, colour in sorted(entries):
        y = max(y, placed[-1][0] + step) if placed else y
        placed.append((y, name, colour))
    excess = max(0.0, placed[-1][0] - high) if placed else 0.0
    for y, name, colour in placed:
        axes.annotate(
            name,
            (1.01, (y - excess - low) / (high - low)),
            xycoords="axes fraction",
            color=colour,
            va="center",
        )
