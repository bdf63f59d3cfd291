"""Arithmetic that gives the same bits on every x86-64 processor, where torch's own does not."""

import numpy as np

from isopose.camera import ArrayT


def square_root(x: ArrayT) -> ArrayT:
    """Square root, of a tensor within two units in the last place; its gradient at zero is NaN.

    torch's own is MKL's, which on processors that are not Intel's starts from their approximate instructions.
    """
    return np.sqrt(x) if isinstance(x, np.ndarray) else x.rsqrt().reciprocal()
