"""Damages files as discs, networks and attackers do, by a seed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from isopose.datasets.worker import Worker
from isopose.errors import UserError

MUTATIONS = int(os.environ.get("ISOPOSE_MUTATIONS", "50"))
"""Of each format; thousands take minutes."""


class KeptWorker(Worker):
    """A worker that stays for a whole file of tests: a process of its own takes a second to start."""

    def __exit__(self, *_):
        pass

    @contextmanager
    def kept(self) -> Iterator[Worker]:
        yield self
        super().__exit__()


def mutated(content, rng):
    """The bytes with a few flipped, a stretch zeroed, moved or missing, or the end cut off."""
    data = np.frombuffer(content, np.uint8).copy()
    kind, where = rng.integers(5), rng.integers(len(data))
    length = int(rng.integers(1, 65))
    if kind == 0:
        places = rng.integers(len(data), size=length)
        data[places] ^= 1 << rng.integers(8, size=length).astype(np.uint8)
    elif kind == 1:
        data[where : where + length] = rng.choice([0, 255])
    elif kind == 2:
        return data[:where].tobytes()
    elif kind == 3:
        return np.delete(data, np.s_[where : where + length]).tobytes()
    else:
        head = rng.integers(min(len(data), 512), size=4)  # where formats keep their sizes
        data[head] = rng.integers(256, size=4)
    return data.tobytes()


def survives(path, read, mutations=MUTATIONS, seed=0):
    """Read mutations of a file; returns how many were refused. Each is refused in one line, or read."""
    rng, content, refused = np.random.default_rng(seed), path.read_bytes(), 0
    for _ in range(mutations):
        path.write_bytes(mutated(content, rng))
        try:
            for clip in read():
                assert np.isfinite(clip.joints3d).all()
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    path.write_bytes(content)
    return refused
