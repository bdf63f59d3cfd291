"""Broken copies of files, as discs, networks and attackers make them, from a seed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from isopose.datasets.worker import Worker
from isopose.errors import UserError

COUNT = int(os.environ.get("ISOPOSE_MUTATIONS", "50"))
"""How many a test tries; thousands take minutes."""

HEAD = 512
"""Bytes at the start, where formats keep their sizes."""

KINDS = {"flip": 0.4, "overwrite": 0.15, "fill": 0.1, "head": 0.1, "double": 0.05, "remove": 0.1, "truncate": 0.1}
"""What is done to a copy, with its chance."""


def mutations(content, count=COUNT, seed=0):
    """Yield copies with one to three faults: flipped bits, overwritten, constant, doubled or missing stretches, other
    numbers at the start, no end."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        broken = bytearray(content)
        for kind in rng.choice(list(KINDS), rng.integers(1, 4), p=list(KINDS.values())):
            _break(broken, kind, rng)
        yield bytes(broken)


def _break(data, kind, rng):
    place, length = int(rng.integers(len(data))), int(rng.integers(1, 65))
    stretch = slice(place, min(place + length, len(data)))
    if kind == "flip":
        for each in rng.integers(len(data), size=rng.choice([1, length])):
            data[each] ^= 1 << int(rng.integers(8))
    elif kind == "overwrite":
        data[stretch] = rng.bytes(stretch.stop - place)
    elif kind == "fill":
        data[stretch] = bytes([rng.choice([0, 255])]) * (stretch.stop - place)
    elif kind == "head":
        for each in rng.integers(min(len(data), HEAD), size=4):
            data[each] = int(rng.integers(256))
    elif kind == "double":
        data[place:place] = data[stretch]
    elif kind == "remove" and length < len(data):
        del data[stretch]
    else:
        del data[max(place, 1) :]


def survives(path, read, count=COUNT, seed=0):
    """Read mutations of a file; returns how many were refused. Each is refused in one line, or read."""
    content, refused = path.read_bytes(), 0
    for broken in mutations(content, count, seed):
        path.write_bytes(broken)
        try:
            for clip in read():
                assert np.isfinite(clip.joints3d).all()
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    path.write_bytes(content)
    return refused


class KeptWorker(Worker):
    """A worker that stays for a whole file of tests: a process of its own takes a second to start."""

    def __exit__(self, *_):
        pass

    @contextmanager
    def kept(self) -> Iterator[Worker]:
        yield self
        super().__exit__()
