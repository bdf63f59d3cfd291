"""Looks at MATLAB files (version 5 to 7) without reading their arrays, in a worker."""

import struct
from collections.abc import Sequence
from pathlib import Path

from isopose.errors import UserError

_HEADER = 128
_ORDERS = {b"IM": "<", b"MI": ">"}


def check_variables(path: Path, names: Sequence[str]) -> None:
    """Refuse a file that is cut short or lacks one of the variables."""
    from scipy.io import whosmat

    expected = f"expected a whole MATLAB file of version 5 to 7 with {', '.join(names)}; copy it from the source again"
    end = _end_of_elements(path)
    if end != path.stat().st_size:
        raise UserError(f"{path}: {'is of another format' if end is None else 'is cut short'}; {expected}")
    there = {name for name, *_ in whosmat(path, appendmat=False)}
    lacking = [name for name in names if name not in there]
    if lacking:
        raise UserError(f"{path}: has no {', '.join(lacking)}; {expected}")


def _end_of_elements(path: Path) -> int | None:
    """Where the last element says it ends, which is the file's size; None of another format."""
    with path.open("rb") as file:
        order = _ORDERS.get(file.read(_HEADER)[_HEADER - 2 :])
        if order is None:
            return None
        end = _HEADER
        while len(tag := file.read(8)) == 8:
            end += 8 + struct.unpack(f"{order}II", tag)[1]
            file.seek(end)
        return end
