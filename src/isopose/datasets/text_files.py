"""Short text files of numbers, as calibrations are: text within limits, numbers, rotations."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isopose.errors import UserError

MAX_TEXT_BYTES = 2**20
"""Calibration and the like is a few kB."""

ROTATION_TOLERANCE = 1e-3
"""How far a written rotation may be from a rotation: files round to six digits."""


def read_text(path: Path, expected: str) -> str:
    """A short text file; expected: what it should be, for the UserError."""
    if not path.is_file():
        raise UserError(f"{path}: is missing; expected {expected}; copy it from the source")
    size = path.stat().st_size
    if size > MAX_TEXT_BYTES:
        raise UserError(f"{path}: has {size} bytes; expected {expected}, at most {MAX_TEXT_BYTES}")
    return path.read_text(encoding="latin-1")


def numbers(words: Sequence[str], count: int, what: str) -> np.ndarray:
    """Exactly `count` finite numbers (count,) from words; what: file and field, for the UserError."""
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        values = np.zeros(0)
    if len(values) != count or not np.isfinite(values).all():
        shown = " ".join(" ".join(words)[:60].split())
        raise UserError(f"{what}: is '{shown}'; expected {count} finite numbers; copy the file from the source again")
    return values


def rotation(matrix: np.ndarray, what: str) -> np.ndarray:
    """The rotation (3, 3) nearest to a written one; UserError where that is none."""
    u, singular, vt = np.linalg.svd(matrix)
    if np.abs(singular - 1).max() > ROTATION_TOLERANCE or np.linalg.det(u @ vt) < 0:
        raise UserError(f"{what}: is no rotation; expected an orthogonal matrix of determinant 1")
    return u @ vt
