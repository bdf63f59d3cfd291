import re

import numpy as np
import pytest
import torch

from isopose.errors import UserError
from isopose.joint_sets import MPII
from isopose.models.hrnet import (
    HRNet,
    detect,
    fold_normalisation,
    initialise,
    load_estimator,
    normalise,
    save_estimator,
)
from isopose.skeleton import MIRROR

SMALL = {"width": 16, "joints": 17, "stem": 16, "modules": [1, 1, 1], "blocks": 1, "bottlenecks": 1}

NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
# One row a kind of layer in the published pose_hrnet checkpoints: pattern of the names, how many of them.
PUBLISHED = [
    (r"conv[12]\.weight", 2),
    (rf"bn[12]\.{NORM}", 2 * 5),
    (rf"layer1\.[0-3]\.(conv[123]\.weight|bn[123]\.{NORM})", 4 * 3 * 6),
    (rf"layer1\.0\.downsample\.(0\.weight|1\.{NORM})", 6),
    (rf"transition1\.0\.(0\.weight|1\.{NORM})", 6),
    (rf"transition(1\.1|2\.2|3\.3)\.0\.(0\.weight|1\.{NORM})", 3 * 6),
    (rf"stage2\.0\.branches\.[01]\.[0-3]\.(conv[12]\.weight|bn[12]\.{NORM})", 2 * 4 * 2 * 6),
    (rf"stage3\.[0-3]\.branches\.[0-2]\.[0-3]\.(conv[12]\.weight|bn[12]\.{NORM})", 4 * 3 * 4 * 2 * 6),
    (rf"stage4\.[0-2]\.branches\.[0-3]\.[0-3]\.(conv[12]\.weight|bn[12]\.{NORM})", 3 * 4 * 4 * 2 * 6),
    # From coarse to fine, one 1x1 convolution for each pair; the last module of stage 4 keeps one output only.
    (rf"stage[234]\.\d\.fuse_layers\.([0-2])\.[1-3]\.(0\.weight|1\.{NORM})", (1 + 4 * 3 + 2 * 6 + 3) * 6),
    # From fine to coarse, as many strided convolutions as there are levels between.
    (rf"stage[234]\.\d\.fuse_layers\.[1-3]\.[0-2]\.[0-2]\.(0\.weight|1\.{NORM})", (1 + 4 * 4 + 2 * 10) * 6),
    (r"final_layer\.(weight|bias)", 2),
]


@pytest.fixture(scope="module")
def w32():
    return HRNet()


def test_published_layout(w32):
    names = list(w32.state_dict())
    assert len(names) == 1754
    assert (names[0], names[-1]) == ("conv1.weight", "final_layer.bias")
    assert sum(weight.numel() for weight in w32.parameters()) == 28_536_080
    for pattern, count in PUBLISHED:
        matching = [name for name in names if re.fullmatch(pattern, name)]
        assert len(matching) == count, pattern
        names = [name for name in names if name not in matching]
    assert names == []


def test_published_shapes(w32):
    shapes = {name: tuple(weight.shape) for name, weight in w32.state_dict().items()}
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["transition1.0.0.weight"] == (32, 256, 3, 3)
    assert shapes["transition2.2.0.0.weight"] == (128, 64, 3, 3)
    assert shapes["stage3.2.fuse_layers.1.0.0.0.weight"] == (64, 32, 3, 3)
    assert shapes["stage4.0.fuse_layers.3.0.1.0.weight"] == (32, 32, 3, 3)
    assert shapes["stage4.2.fuse_layers.0.3.0.weight"] == (32, 256, 1, 1)
    assert shapes["final_layer.weight"] == (16, 32, 1, 1)


def test_w48_has_the_same_names(w32):
    with torch.device("meta"):
        w48 = HRNet(48)
    assert list(w48.state_dict()) == list(w32.state_dict())
    assert w48.state_dict()["stage4.2.branches.3.0.conv1.weight"].shape == (384, 384, 3, 3)
    assert sum(weight.numel() for weight in w48.parameters()) == 63_595_696


def test_output_is_a_quarter(w32):
    with torch.inference_mode():
        assert w32.eval()(torch.zeros(1, 3, 256, 256)).shape == (1, 16, 64, 64)


@pytest.mark.parametrize("modules", [[1], [1, 2], [1, 1, 2]])
def test_fewer_stages(modules):
    model = HRNet(**SMALL | {"modules": modules})
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 17, 16, 16)


def test_blocks_start_as_identity():
    model = HRNet(**SMALL)
    initialise(model)
    block = model.stage2[0].branches[0][0].eval()
    x = torch.rand(1, 16, 8, 8)
    torch.testing.assert_close(block(x), x)


def test_normalise():
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[0, 0, 1] = (255, 128, 0)
    out = normalise(torch.from_numpy(image))
    expected = (np.array([1, 128 / 255, 0]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(out[0, :, 0, 1], expected, rtol=1e-6)


def test_file_holds_all_there_is_to_know(tmp_path):
    torch.manual_seed(0)
    model = HRNet(**SMALL)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_()
    path = tmp_path / "estimator.safetensors"
    save_estimator(model, {"architecture": SMALL, "size": 64}, path)
    loaded, config = load_estimator(path)
    assert config == {"architecture": SMALL, "size": 64}
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(detect(loaded, images), detect(model, images), atol=1e-5)
    first = path.read_bytes()
    save_estimator(loaded, config, path)
    assert path.read_bytes() == first


def test_flip_is_symmetric():
    torch.manual_seed(0)
    model = HRNet(**SMALL)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    maps = detect(model, images, flip=True)
    mirrored = detect(model, np.ascontiguousarray(images[:, :, ::-1]), flip=True)
    np.testing.assert_allclose(mirrored[:, MIRROR, :, ::-1], maps, atol=1e-6)


def test_foreign_file_is_refused(tmp_path):
    path = tmp_path / "estimator.safetensors"
    path.write_bytes(b"not weights")
    with pytest.raises(UserError, match="estimator.safetensors: cannot be read.*expected weights of kind .estimator"):
        load_estimator(path)
    with pytest.raises(UserError, match="absent.safetensors"):
        load_estimator(tmp_path / "absent.safetensors")


def test_folding_the_normalisations_keeps_the_maps():
    torch.manual_seed(0)
    model = HRNet(**SMALL)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.running_var, module.weight.data):
                values.uniform_(0.5, 1.5)
            module.running_mean.normal_()
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    folded = fold_normalisation(model)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    maps = detect(model, images)
    np.testing.assert_allclose(detect(folded, images), maps, atol=1e-5 * np.abs(maps).max())


def weights_by_hand(width: int, joints: int) -> int:
    """Weights of a published HRNet, counted layer by layer from the paper's layout."""

    def conv(inputs, outputs, kernel):
        return inputs * outputs * kernel**2 + 2 * outputs  # with its normalisation's scale and shift

    total = conv(3, 64, 3) + conv(64, 64, 3) + conv(64, 256, 1)
    total += sum(conv(inputs, 64, 1) + conv(64, 64, 3) + conv(64, 256, 1) for inputs in (64, 256, 256, 256))
    total += conv(256, width, 3)
    for branches, modules in ((2, 1), (3, 4), (4, 3)):
        channels = [width * 2**branch for branch in range(branches)]
        total += conv(256 if branches == 2 else channels[-2], channels[-1], 3)
        total += modules * sum(4 * 2 * conv(count, count, 3) for count in channels)
        for module in range(modules):
            kept = 1 if (branches, module) == (4, 2) else branches
            for target in range(kept):
                total += sum(conv(channels[source], channels[target], 1) for source in range(target + 1, branches))
                for source in range(target):
                    total += (target - source - 1) * conv(channels[source], channels[source], 3)
                    total += conv(channels[source], channels[target], 3)
    return total + width * joints + joints


@pytest.mark.parametrize(("width", "joints"), [(32, 16), (32, 17), (48, 16), (48, 17)])
def test_weights_counted_by_hand(width, joints):
    with torch.device("meta"):
        model = HRNet(width, joints)
    assert sum(weight.numel() for weight in model.parameters()) == weights_by_hand(width, joints)


class Reader(torch.nn.Module):
    """A network without learning: map px m of channel j is the red of input px 4 * m + origin, times j + 1."""

    def __init__(self, channels: int, origin: float) -> None:
        super().__init__()
        self.gains = torch.nn.Parameter(torch.arange(1.0, channels + 1))
        self.origin = origin

    def forward(self, images):
        red = images[:, :1]
        maps = torch.nn.functional.avg_pool2d(red, 4) if self.origin == 1.5 else red[:, :, ::4, ::4]
        return maps * self.gains[:, None, None]


@pytest.mark.parametrize("origin", [0, 1.5])
def test_flip_averages_what_is_at_the_same_place(origin):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    pairs = [(0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)]  # of MPII, as the authors' flip test has them
    partner = list(range(16))
    for a, b in pairs:
        partner[a], partner[b] = b, a
    model = Reader(16, origin)
    plain = detect(model, images)
    flipped = detect(model, images, True, MPII.mirror, origin)
    # Each map reads the same red at the same place, mirrored or not; only the gains of a pair are averaged.
    for j in range(16):
        expected = plain[:, j] / (j + 1) * ((j + 1) + (partner[j] + 1)) / 2
        np.testing.assert_allclose(flipped[:, j], expected, atol=1e-5, err_msg=str(j))
