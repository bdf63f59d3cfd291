"""A moving average of a model's weights, which validates and tests better than the last step's."""

import copy

import torch
from torch import nn


class MovingAverage:
    """Exponential moving average of a model's weights and buffers, in ``model``.

    The decay grows as (1 + n) / (10 + n) up to ``decay``, so that the first steps are forgotten soon.
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.model = copy.deepcopy(source).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, source: nn.Module) -> None:
        """Move toward the source's present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        mine, theirs = self.model.state_dict(), source.state_dict()
        floats = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in floats], [theirs[n] for n in floats], 1 - decay)
        for name in mine.keys() - set(floats):
            mine[name].copy_(theirs[name])
