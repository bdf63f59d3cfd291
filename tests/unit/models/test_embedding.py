import pytest
import torch
from torch.nn import functional as F

from isopose.datasets.store import NEED_MAPS
from isopose.errors import UserError
from isopose.heatmaps import render
from isopose.models.embedding import MapEntries, Observations, build_embedding


def observations(size, clips=2, frames=3):
    """Random peaks; some maps are empty."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(clips, frames, 17, 2, generator=generator) * (size - 1)
    dense = render(points, size, 1.0)
    dense = torch.where(dense > 0.03, dense, 0) * torch.rand(clips, frames, 17, 1, 1, generator=generator)
    dense[0, 1] = 0
    dense[1, 2, 4] = 0
    index, pixel = dense.view(-1, size * size).nonzero().T
    entries = MapEntries(index, pixel, dense.view(-1, size * size)[index, pixel], size)
    return dense, Observations(points, dense.amax((-1, -2)), torch.zeros(clips, frames, 3), entries)


def dense_conv_embedding(model, dense, confidence):
    """The same network as ordinary strided convolutions of dense maps."""
    size, channels = dense.shape[-1], model.channels
    maps = dense / dense.sum((-1, -2), keepdim=True).clamp(min=1e-9)
    axis = (2 * torch.arange(size) + 1) / size - 1
    means = torch.stack([(maps.sum(-2) * axis).sum(-1), (maps.sum(-1) * axis).sum(-1)], dim=-1)
    features = maps.flatten(0, 1)
    features = F.relu(F.conv2d(features, model.patch.weight.view(channels, 17, 4, 4), stride=4))
    for layer in model.halvings:
        kernel = layer.weight.view(channels, 2, 2, channels).permute(0, 3, 1, 2)
        features = F.relu(F.conv2d(features, kernel, layer.bias, stride=2))
    embedded = model.output(features.flatten(2).transpose(1, 2).flatten(1))
    return embedded.view(*confidence.shape[:2], -1) + model.summary(torch.cat([means.flatten(-2), confidence], -1))


@pytest.mark.parametrize("size", [16, 24, 32, 64])
def test_conv_equals_dense_strided_convolutions(size):
    torch.manual_seed(0)
    model = build_embedding("conv", 20, size, channels=6)
    torch.nn.init.normal_(model.output.weight)
    torch.nn.init.normal_(model.summary.weight)
    dense, seen = observations(size)
    expected = dense_conv_embedding(model, dense, seen.confidence)
    torch.testing.assert_close(model(seen), expected, atol=1e-4, rtol=1e-4)
    model(seen).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_linear_equals_a_matrix_product_with_dense_maps():
    torch.manual_seed(0)
    model = build_embedding("linear", 20, 16)
    dense, seen = observations(16)
    expected = dense.flatten(2) @ model.weight + model.bias
    torch.testing.assert_close(model(seen), expected, atol=1e-5, rtol=1e-5)


def test_coordinates_pass_through_with_or_without_confidence():
    _, seen = observations(16)
    plain = build_embedding("coordinates", 1, 16)
    with_confidence = build_embedding("coordinates_confidence", 1, 16)
    assert torch.equal(plain(seen), seen.coordinates.flatten(-2))
    assert torch.equal(with_confidence(seen)[..., 34:], seen.confidence)
    assert (plain.width, with_confidence.width) == (34, 51)


def test_what_cannot_be_embedded_is_refused():
    with pytest.raises(UserError, match="'fourier' is unknown"):
        build_embedding("fourier", 8, 16)
    with pytest.raises(UserError, match="multiple of 4"):
        build_embedding("conv", 8, 18)


def test_the_kinds_that_need_maps_are_known_to_the_store():
    kinds = ("conv", "linear", "coordinates", "coordinates_confidence")
    assert [kind for kind in kinds if build_embedding(kind, 8, 16).uses_maps] == list(NEED_MAPS)
