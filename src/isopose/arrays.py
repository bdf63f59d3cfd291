"""What takes numpy arrays and torch tensors alike shares: which library to call, and checks of arguments."""

from types import EllipsisType, ModuleType
from typing import Any

import numpy as np

Shape = tuple[int | str | EllipsisType, ...]
"""Expected sizes: a name stands for an axis of any size, a leading ``...`` for any number of axes."""


def library(array: Any) -> ModuleType:
    """numpy for numpy arrays, torch for tensors."""
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


def check_array(name: str, array: Any, expected: Shape, finite: bool = False) -> None:
    """Refuse (ValueError) an array of another shape or, if ``finite``, one that holds NaN or infinity."""
    sizes = tuple(size for size in expected if size is not ...)
    shape = tuple(array.shape)
    enough = len(shape) >= len(sizes) if ... in expected else len(shape) == len(sizes)
    pairs = zip(sizes, shape[len(shape) - len(sizes) :], strict=True) if enough else ()
    if not enough or any(isinstance(size, int) and size != found for size, found in pairs):
        raise ValueError(f"{name}: shape {_written(shape)}; expected {_written(expected)}")
    if finite:
        bad = int((~library(array).isfinite(array)).sum())
        if bad:
            total = int(np.prod(shape))
            message = f"{name}: {bad} of {total} numbers are NaN or infinite; expected finite {_written(expected)}"
            raise ValueError(message)


def _written(shape: Shape) -> str:
    """A shape as docstrings have it, (F, 17, 3)."""
    sizes = ["..." if size is ... else str(size) for size in shape]
    return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
