"""What ISO may optimise instead of the skeleton: this project's lifter (paper 3.5 does not say what the variable is).

Both variables start at the lifter's own answer, without the average over the mirrored input.
"""

import copy
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from isopose.iso.optimise import Variables
from isopose.models.embedding import MapEntries, Observations
from isopose.models.lifter import Lifter
from isopose.skeleton import NUM_JOINTS


def network(lifter: Lifter, clips: Sequence[Observations]) -> Variables:
    """All weights of the lifter: one private copy, which all the clips share; clips as in :func:`latent`."""
    lifter = copy.deepcopy(lifter).eval().requires_grad_(True)
    seen, lift_clips = _joined(clips), _lift_clips(lifter, clips)
    return Variables(list(lifter.parameters()), lambda: lift_clips(lifter.embedding(seen), seen.box), shared=True)


def latent(lifter: Lifter, clips: Sequence[Observations]) -> Variables:
    """The output of f_E: one vector a frame, whose numbers are all free; the temporal network stays as it is.

    clips: what the lifter sees of each, `(1, T, ...)`, on the lifter's device, see
    :func:`isopose.models.lifter.observe`. The poses are those of their frames, one clip after the other.
    """
    lifter = copy.deepcopy(lifter).eval().requires_grad_(False)
    seen, lift_clips = _joined(clips), _lift_clips(lifter, clips)
    vectors = lifter.embedding(seen).requires_grad_(True)
    return Variables([vectors], lambda: lift_clips(vectors, seen.box), shared=False)


VARIABLES: dict[str, Callable[[Lifter, Sequence[Observations]], Variables]] = {"network": network, "latent": latent}
"""By name."""


def _joined(clips: Sequence[Observations]) -> Observations:
    """Clips `(1, T, ...)` as one `(1, F, ...)`, one after the other."""
    maps = None
    if clips[0].maps is not None:
        before = accumulate((clip.confidence.shape[1] * NUM_JOINTS for clip in clips[:-1]), initial=0)
        maps = MapEntries(
            torch.cat([clip.maps.map_index + offset for clip, offset in zip(clips, before, strict=True)]),
            torch.cat([clip.maps.pixel for clip in clips]),
            torch.cat([clip.maps.value for clip in clips]),
            clips[0].maps.size,
        )
    parts = (torch.cat([getattr(clip, name) for clip in clips], dim=1) for name in ("coordinates", "confidence", "box"))
    return Observations(*parts, maps)


def _lift_clips(lifter: Lifter, clips: Sequence[Observations]) -> Callable[[Tensor, Tensor], Tensor]:
    """From vectors and boxes `(1, F, ...)` of joined clips to their poses `(F, 17, 3)`, all in one pass.

    Between two clips lie repeats of the last frame of the one and of the first of the other, as many as a prediction
    sees, so that a clip's poses are those that it has alone.
    """
    reach, lengths = lifter.tcn.reach, [clip.box.shape[1] for clip in clips]
    places = [torch.arange(-reach, length + reach) for length in lengths]
    firsts = accumulate(lengths[:-1], initial=0)
    padded = [first + place.clamp(0, n - 1) for first, place, n in zip(firsts, places, lengths, strict=True)]
    inside = [(place >= 0) & (place < n) for place, n in zip(places, lengths, strict=True)]
    frames, own = (index.to(clips[0].box.device) for index in (torch.cat(padded), torch.cat(inside).nonzero()[:, 0]))
    return lambda vectors, box: lifter.poses(vectors.index_select(1, frames), box.index_select(1, frames))[
        0
    ].index_select(0, own)
