from pathlib import Path

import pytest
import torch

from isopose.models import sizes
from isopose.models.discriminator import Discriminator
from isopose.models.embedding import PATCH, build_embedding
from isopose.models.tcn import MultiStrideTCN
from isopose.sparse_maps import MAP_THRESHOLD

ROOT = Path(__file__).parents[3]
PUBLISHED = {"stem": 64, "modules": [1, 4, 3], "blocks": 4, "bottlenecks": 4, "joints": 17}


def test_the_documented_table_is_what_the_command_prints():
    lines = (ROOT / "docs/networks.md").read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| Network |"))
    printed = sizes.table(ROOT).splitlines()
    assert len(printed) == 2 + 4 + 3 * 4
    assert lines[first : first + len(printed) + 1] == [*printed, ""]


def hrnet_by_hand(width, joints, height, breadth):
    """Kernel^2 x channels in x channels out x pixels out, over the convolutions of the published layout."""
    area = height * breadth

    def conv(inputs, outputs, kernel, shrink):
        return kernel**2 * inputs * outputs * area // shrink**2

    total = conv(3, 64, 3, 2) + conv(64, 64, 3, 4) + conv(64, 256, 1, 4)
    for inputs in (64, 256, 256, 256):
        total += conv(inputs, 64, 1, 4) + conv(64, 64, 3, 4) + conv(64, 256, 1, 4)
    total += conv(256, width, 3, 4)
    for branches, modules in ((2, 1), (3, 4), (4, 3)):
        channels, shrink = [width * 2**n for n in range(branches)], [4 * 2**n for n in range(branches)]
        total += conv(256 if branches == 2 else channels[-2], channels[-1], 3, shrink[-1])
        for module in range(modules):
            total += sum(8 * conv(count, count, 3, s) for count, s in zip(channels, shrink, strict=True))
            for target in range(1 if (branches, module) == (4, 2) else branches):
                for source in range(target + 1, branches):  # before the upsampling
                    total += conv(channels[source], channels[target], 1, shrink[source])
                for source in range(target):
                    for level in range(source + 1, target):
                        total += conv(channels[source], channels[source], 3, shrink[level])
                    total += conv(channels[source], channels[target], 3, shrink[target])
    return total + conv(width, joints, 1, 4)


@pytest.mark.parametrize(
    ("width", "height", "breadth", "published"),
    [(32, 256, 192, 7.1), (32, 384, 288, 16.0), (48, 256, 192, 14.6), (48, 384, 288, 32.9), (32, 256, 256, None)],
)
def test_hrnet_by_hand_and_as_published(width, height, breadth, published):
    """The GFLOPs of its authors' README are 2^30 multiply-accumulates of convolutions."""
    parameters, macs = sizes.hrnet_macs(PUBLISHED | {"width": width}, height, breadth)
    assert macs == hrnet_by_hand(width, 17, height, breadth)
    assert round(parameters / 1e6, 1) == {32: 28.5, 48: 63.6}[width]
    if published:
        assert round(macs / 2**30, 1) == published


def embedding_by_hand(size, channels, width, patches):
    """Multiply-accumulates of one frame; so many patches run through the first layer."""
    total = patches * 17 * PATCH**2 * channels
    grid = size // PATCH
    while grid > 4 and grid % 2 == 0:
        grid //= 2
        total += grid**2 * 4 * channels**2
    return total + grid**2 * channels * width + 3 * 17 * width


@pytest.mark.parametrize("size", [16, 24, 64])
def test_the_embedding_by_hand_dense_and_as_run(size):
    embedding = build_embedding("conv", 40, size, channels=6)
    dense = sizes.embedding_macs(embedding, sizes.full_maps(size))
    assert dense == embedding_by_hand(size, 6, 40, (size // PATCH) ** 2)
    maps = sizes.walking_maps(size, 1.5)
    kept = (maps >= MAP_THRESHOLD).any(1).unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).any(-1).any(-1)
    patches = kept.sum().item() / len(maps)
    assert 0 < patches < (size // PATCH) ** 2
    assert sizes.embedding_macs(embedding, maps) == pytest.approx(embedding_by_hand(size, 6, 40, patches), rel=1e-9)


def test_the_temporal_networks_by_hand():
    """A clip of T frames is padded by its reach; a branch of one stride shrinks it again, layer by layer."""
    frames, inputs, width = 20, 9, 5
    tcn = MultiStrideTCN(inputs, width, strides=(1, 3), frames=frames, max_layers=2)
    expected = 0
    for stride in (1, 3):
        expected += (frames + 4 * stride) * inputs * width
        expected += (frames + 2 * stride) * 3 * width**2 + frames * 3 * width**2
    expected += frames * 2 * width * 51
    assert sizes.count_macs(lambda: tcn(torch.zeros(1, frames, inputs))) == expected

    discriminator = Discriminator(width=width, layers=2)
    expected = frames * 16 * 16 * 3 + (frames + 4) * (256 + 256 + 51) * width
    expected += (frames + 2) * 3 * width**2 + frames * 3 * width**2 + frames * width
    assert sizes.count_macs(lambda: discriminator(torch.zeros(1, frames, 17, 3))) == expected
    assert sizes.count_parameters(discriminator) == 563 * width + width + 2 * (3 * width**2 + width) + width + 1
