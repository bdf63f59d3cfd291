import json
import os
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from isopose.errors import UserError
from isopose.models import import_hrnet
from isopose.models.hrnet import HRNet, detect, load_estimator

SMALL = {"width": 8, "joints": 16, "stem": 8, "modules": [1, 2, 1], "blocks": 3, "bottlenecks": 2}
PUBLISHED = {"stem": 64, "modules": [1, 4, 3], "blocks": 4, "bottlenecks": 4}


def network(**change) -> HRNet:
    torch.manual_seed(0)
    model = HRNet(**SMALL | change)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_()
    return model.eval()


def layout(width: int, joints: int) -> dict[str, torch.Tensor]:
    """Names and shapes of a published checkpoint; all weights share one number, so its file is small."""
    with torch.device("meta"):
        weights = HRNet(width, joints).state_dict()
    number = torch.tensor(0.5)
    return {name: number.expand(weight.shape) for name, weight in weights.items()}


def refused(path, joints="mpii", size=256, width=8) -> str:
    """The one line that a user reads."""
    with pytest.raises(UserError) as error:
        import_hrnet.import_checkpoint(path, joints, size, width)
    line = str(error.value)
    assert "\n" not in line
    return line


def saved(path, content, **options):
    torch.save(content, path, **options)
    return path


def run(arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "isopose.models.import_hrnet", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})


def test_an_imported_checkpoint_is_the_same_network(tmp_path):
    model = network()
    checkpoint, output = saved(tmp_path / "pose.pth", model.state_dict()), tmp_path / "estimator.safetensors"
    arguments = ["--checkpoint", checkpoint, "--output", output, "--joints", "mpii"]
    arguments += ["--params", json.dumps({"size": 64, "width": 8})]
    result = CliRunner().invoke(import_hrnet.app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    loaded, config = load_estimator(output)
    assert config == {"architecture": SMALL, "size": 64, "joints_set": "mpii", "origin": 0}
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(detect(loaded, images), detect(model, images), atol=1e-5)
    first = output.read_bytes()
    import_hrnet.main(checkpoint, output, "mpii", json.dumps({"size": 64, "width": 8}))
    assert output.read_bytes() == first


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [True, False])
def test_wrappers_of_the_authors_code_are_taken_off(tmp_path, zipped, prefix, wrapped):
    weights = network().state_dict()
    content = OrderedDict((prefix + name, weight) for name, weight in weights.items())
    content = {"epoch": 210, "state_dict": content, "optimizer": {"param_groups": []}} if wrapped else content
    path = saved(tmp_path / "pose.pth", content, _use_new_zipfile_serialization=zipped)
    found = import_hrnet.read_checkpoint(path)
    assert list(found) == list(weights)
    assert all(torch.equal(found[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize(("width", "joints", "name"), [(32, 16, "mpii"), (48, 17, "coco"), (18, 16, "mpii")])
def test_published_layouts_are_recognised(tmp_path, width, joints, name):
    path = saved(tmp_path / "pose.pth", layout(width, joints))
    shapes = {name: tuple(weight.shape) for name, weight in import_hrnet.read_checkpoint(path).items()}
    architecture = import_hrnet.check(path, shapes, name, width)
    assert architecture == PUBLISHED | {"width": width, "joints": joints}


def test_w32_of_mpii_loads(tmp_path):
    path = saved(tmp_path / "pose.pth", layout(32, 16))
    model, config = import_hrnet.import_checkpoint(path, "mpii", 256, 32)
    assert config == {"architecture": PUBLISHED | {"width": 32, "joints": 16}, "size": 256} | {
        "joints_set": "mpii",
        "origin": 0,
    }
    assert all((weight == 0.5).all() for weight in model.parameters())
    assert not model.training


@pytest.mark.parametrize("change", [{"modules": [1]}, {"modules": [2, 1]}, {"blocks": 1}, {"stem": 16, "width": 12}])
def test_any_depth_and_width_is_inferred(change):
    shapes = {name: tuple(weight.shape) for name, weight in network(**change).state_dict().items()}
    assert import_hrnet.architecture_of(shapes) == SMALL | change
    assert import_hrnet.differences(shapes, SMALL | change) == []


def test_other_joints_or_width_than_expected(tmp_path):
    path = saved(tmp_path / "pose.pth", network().state_dict())
    assert refused(path, "coco") == (
        f"{path}: has 16 heatmaps; expected 17 (coco); give the --joints that it was trained on"
    )
    assert refused(path, width=32) == (
        f"{path}: is 8 channels wide; expected 32; change width in --params, or give another file"
    )


@pytest.mark.parametrize("size", [0, 48, 250])
def test_a_size_that_does_not_halve(tmp_path, size):
    path = saved(tmp_path / "pose.pth", network().state_dict())
    assert f"size is {size} px; expected a multiple of 32; published: 256" in refused(path, size=size)


def test_another_network_is_refused_by_its_first_difference(tmp_path):
    path = tmp_path / "pose.pth"

    def line(**changes):
        weights = network().state_dict() | changes
        return refused(saved(path, {name: weight for name, weight in weights.items() if weight is not None}))

    advice = "; expected the weights of a pose_hrnet; give its authors' file, such as pose_hrnet_w32_256x256.pth, "
    assert line(**{"final_layer.weight": None}).startswith(f"{path}: has no convolution final_layer.weight{advice}")
    assert line(**{"conv1.weight": torch.zeros(3)}).startswith(f"{path}: has no convolution conv1.weight{advice}")
    assert line(**{"bn1.bias": None}).startswith(f"{path}: lacks bn1.bias{advice}")
    assert line(**{"bn1.bias": None, "bn2.bias": None, "bn2.weight": None}).startswith(
        f"{path}: lacks bn1.bias (and 2 more differences); expected"
    )
    assert "has 'fc.\\nweight', which no pose_hrnet has; expected" in line(**{"fc.\nweight": torch.zeros(1)})
    wrong = line(**{"transition2.2.0.0.weight": torch.zeros(32, 16, 1, 1)})
    assert "has transition2.2.0.0.weight of shape (32, 16, 1, 1), not (32, 16, 3, 3); expected" in wrong


def test_a_resnet_is_no_hrnet(tmp_path):
    weights = {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}
    weights["final_layer.weight"] = torch.zeros(16, 256, 1, 1)
    assert "has no convolution stage2.0.branches.0.0.conv1.weight" in refused(saved(tmp_path / "resnet.pth", weights))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "holds list, not weights by name"),
        ({}, "holds dict, not weights by name"),
        ({"epoch": 3}, "holds dict, not weights by name"),
        ({"state_dict": [1]}, "holds list, not weights by name"),
        ({"perf": np.float64(0.9), "state_dict": {}}, "holds numpy._core.multiarray.scalar, which is no tensor"),
    ],
)
def test_a_file_of_something_else(tmp_path, content, message):
    path = saved(tmp_path / "pose.pth", content)
    assert refused(path).startswith(f"{path}: {message}; ")


def test_weights_without_numbers(tmp_path):
    weights = {name: weight.to("meta") for name, weight in network().state_dict().items()}
    assert "holds tensors without plain numbers; expected" in refused(saved(tmp_path / "pose.pth", weights))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0, 7, 5000, 50000])
def test_a_damaged_file(tmp_path, zipped, kept):
    path = saved(tmp_path / "pose.pth", network().state_dict(), _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:kept])
    assert refused(path).startswith(f"{path}: ")


def test_an_absent_file(tmp_path):
    path = tmp_path / "absent.pth"
    assert refused(path).startswith(f"{path}: cannot be read (No such file or directory); expected the weights of")


class Payload:
    """Harmless itself: makes a folder when unpickled without restriction."""

    def __init__(self, folder) -> None:
        self.folder = str(folder)

    def __reduce__(self):
        return os.system, (f"mkdir '{self.folder}'",)


@pytest.mark.parametrize("written", ["plain pickle", "old torch file", "new torch file", "among the weights"])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, written):
    marker, path = tmp_path / "marker", tmp_path / "pose.pth"
    content = {"conv1.weight": Payload(marker)}
    if written == "plain pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    elif written == "among the weights":
        saved(path, {"state_dict": network().state_dict(), "optimizer": Payload(marker)})
    else:
        saved(path, content, _use_new_zipfile_serialization=written == "new torch file")
    line = refused(path)
    assert not marker.exists()
    assert "nothing in it was run" in line
    assert written == "plain pickle" or line.startswith(f"{path}: holds posix.system, which is no tensor; ")
    # The file is a live one: read without restriction, it does run.
    torch.load(path, weights_only=False) if written != "plain pickle" else pickle.loads(path.read_bytes())
    assert marker.exists()


def test_the_command_says_one_line_and_writes_nothing(tmp_path):
    path, output = saved(tmp_path / "pose.pth", {"weights": Payload(tmp_path / "marker")}), tmp_path / "out.safetensors"
    arguments = ["--checkpoint", path, "--output", output, "--joints", "mpii", "--params", '{"size": 256, "width": 32}']
    result = run(arguments)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and result.stderr.startswith(f"error: {path}: holds posix.system")
    assert [entry.name for entry in tmp_path.iterdir()] == ["pose.pth"]


def test_help_names_every_option():
    result = run(["--help"])
    assert result.returncode == 0
    assert all(option in result.stdout for option in ("--checkpoint", "--output", "--joints", "--params", "mpii|coco"))
