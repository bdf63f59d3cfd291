"""Broken copies of a file's bytes, from a seed. ISOPOSE_MUTATIONS sets how many a test tries."""

import os

import numpy as np

COUNT = int(os.environ.get("ISOPOSE_MUTATIONS", "50"))


def mutations(content, count=COUNT, seed=0):
    """Yield copies with flipped bits, overwritten, doubled or missing stretches, or without their end."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        broken = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(len(broken)))
            length = int(rng.integers(1, 33))
            kind = rng.choice(["flip", "overwrite", "double", "remove", "truncate"], p=[0.5, 0.2, 0.1, 0.1, 0.1])
            if kind == "flip":
                broken[place] ^= 1 << int(rng.integers(8))
            elif kind == "overwrite":
                broken[place : place + length] = rng.bytes(len(broken[place : place + length]))
            elif kind == "double":
                broken[place:place] = broken[place : place + length]
            elif kind == "remove":
                del broken[place : place + length]
            else:
                del broken[max(place, 1) :]
        yield bytes(broken)
