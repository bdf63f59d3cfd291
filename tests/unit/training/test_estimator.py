import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from isopose import heatmaps
from isopose.errors import UserError
from isopose.models.hrnet import load_estimator
from isopose.skeleton import MIRROR
from isopose.training import estimator

SIZE, MAP = 32, 8
PARAMS = {
    "width": 16,
    "stem": 16,
    "modules": [1],
    "blocks": 1,
    "bottlenecks": 1,
    "epochs": 1,
    "batch": 16,
    "learning_rate": 0.01,
    "weight_decay": 0.0001,
    "sigma": 1.0,
    "rotation": 10.0,
    "scale": 0.1,
    "colour": 0.1,
    "seed": 1,
    "threads": 1,
    "device": "cpu",
}
STILL = PARAMS | {"rotation": 0.0, "scale": 0.0, "colour": 0.0}


def discs(count: int, seed: int) -> estimator.Images:
    """Seventeen joints that all lie on the one bright disc of the image, or nowhere to be seen."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(1.5, MAP - 2.5, (count, 2))
    seen = rng.random(count) < 0.7
    grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), -1)
    place = (centre + 0.5) * SIZE / MAP - 0.5
    inside = np.linalg.norm(grid - place[:, None, None], axis=-1) < 4
    images = rng.integers(0, 60, (count, SIZE, SIZE, 3), dtype=np.uint8)
    images[inside & seen[:, None, None]] = 255
    points, visible = np.repeat(centre[:, None], 17, 1), np.repeat(seen[:, None], 17, 1)
    return estimator.Images(images, points, visible, np.ones_like(visible), np.full(count, 4.0), MAP)


def write(path, data: estimator.Images) -> None:
    with h5py.File(path, "w") as file:
        for name in ("images", "joints2d", "visible", "labelled", "head_size"):
            file[name] = getattr(data, name)
        file.attrs["map_size"] = data.map_size


def test_target_of_an_invisible_joint_is_empty():
    points = torch.tensor([[[2.0, 5.0], [2.0, 5.0]]])
    maps = estimator.target_maps(points, torch.tensor([[True, False]]), 8, 1.5)
    expected = [[np.exp(-((x - 2) ** 2 + (y - 5) ** 2) / (2 * 1.5**2)) for x in range(8)] for y in range(8)]
    np.testing.assert_allclose(maps[0, 0], expected, rtol=1e-5, atol=1e-12)
    assert not maps[0, 1].any()


def test_loss_by_loop():
    rng = np.random.default_rng(0)
    predicted, target = rng.random((2, 2, 3, 4, 4))
    total = sum(((predicted[n, j] - target[n, j]) ** 2).sum() for n in range(2) for j in range(3)) / 6
    loss = estimator.heatmap_loss(torch.from_numpy(predicted), torch.from_numpy(target))
    assert float(loss) == pytest.approx(total)


def test_a_joint_without_a_label_does_not_count():
    rng = np.random.default_rng(0)
    predicted, target = rng.random((2, 2, 3, 4, 4))
    labelled = np.array([[True, False, True], [True, True, False]])
    total = sum(((predicted[n, j] - target[n, j]) ** 2).sum() for n, j in zip(*labelled.nonzero(), strict=True)) / 4
    loss = estimator.heatmap_loss(*map(torch.from_numpy, (predicted, target, labelled)))
    assert float(loss) == pytest.approx(total)
    assert float(estimator.heatmap_loss(*map(torch.from_numpy, (predicted, target, np.zeros_like(labelled))))) == 0


def test_augmented_joints_stay_on_their_pixels():
    # The first three joints are blobs, one in each colour channel; they must be found where augment says they are.
    count, size, joints = 12, 64, [0, 3, 16]
    points = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, (count, 17, 2))).float()
    visible = torch.ones(count, 17, dtype=torch.bool)
    visible[:, 3] = False
    images = heatmaps.render(((points[:, joints] + 1) * size - 1) / 2, size, 3.0)
    params = PARAMS | {"rotation": 30.0, "scale": 0.2, "colour": 0.0}
    generator = torch.Generator().manual_seed(0)
    warped, moved, marks = estimator.augment(images, points, visible[..., None], params, generator)
    mirrored = ~marks[:, MIRROR[3], 0]
    assert 0 < mirrored.sum() < count
    found = (heatmaps.decode(warped)[0] * 2 + 1) / size - 1
    for n in range(count):
        names = [MIRROR[j] if mirrored[n] else j for j in joints]
        torch.testing.assert_close(found[n], moved[n, names], atol=2 / size, rtol=0)


def test_without_augmentation_only_mirrors_remain():
    data = discs(8, 0)
    images = torch.from_numpy(data.images).float().permute(0, 3, 1, 2)
    points = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (8, 17, 2))).float()
    generator = torch.Generator().manual_seed(3)
    warped, moved, _ = estimator.augment(images, points, torch.ones(8, 17, 1, dtype=torch.bool), STILL, generator)
    kinds = []
    for n in range(8):
        mirrored = not torch.allclose(moved[n], points[n], atol=1e-5)
        kinds.append(mirrored)
        expected = images[n].flip(-1) if mirrored else images[n]
        torch.testing.assert_close(warped[n], expected, atol=1e-2, rtol=0)
        if mirrored:
            torch.testing.assert_close(moved[n], points[n, list(MIRROR)] * torch.tensor([-1.0, 1.0]))
    assert set(kinds) == {True, False}


def test_it_learns_to_see_and_to_tell_what_is_hidden(tmp_path):
    train, unseen = tmp_path / "train.h5", tmp_path / "val.h5"
    write(train, discs(256, 0))
    write(unseen, discs(64, 1))
    output, record = tmp_path / "estimator.safetensors", tmp_path / "record.json"
    arguments = ["--images", train, "--validation", unseen, "--output", output, "--record", record]
    arguments += ["--key", "test/estimator", "--params", json.dumps(PARAMS | {"epochs": 6})]
    result = CliRunner().invoke(estimator.app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    run = json.loads(record.read_text())
    losses = [value for _, value in run["metrics"]["loss"]]
    assert len(losses) == 6 and losses[-1] < 0.5 * losses[0]
    assert run["summary"]["pckh"] > 0.9
    assert run["summary"]["auroc"] > 0.95
    model, config = load_estimator(output)
    assert config["size"] == SIZE
    assert config["architecture"]["joints"] == 17
    assert estimator.score(model, discs(64, 1), 16) == pytest.approx(run["summary"])


def test_same_seed_same_bytes(tmp_path):
    images = tmp_path / "images.h5"
    write(images, discs(32, 0))
    contents = []
    for name in ("a", "b"):
        output, record = tmp_path / f"{name}.safetensors", tmp_path / f"{name}.json"
        estimator.main(images, None, output, record, "test/estimator", None, json.dumps(PARAMS))
        contents.append((output.read_bytes(), record.read_bytes()))
    assert contents[0] == contents[1]
    torch.manual_seed(0)
    other = tmp_path / "c.safetensors"
    estimator.main(images, None, other, tmp_path / "c.json", "test/estimator", None, json.dumps(PARAMS | {"seed": 2}))
    assert other.read_bytes() != contents[0][0]


def test_unusable_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="absent.h5: not a file of labelled images"):
        estimator.Images.read(tmp_path / "absent.h5")
    with pytest.raises(UserError, match="8 images, fewer than one batch of 16"):
        estimator.train(discs(8, 0), None, PARAMS, None)
    with pytest.raises(UserError, match="labelled for maps of 7 px; expected 8"):
        estimator.train(replace(discs(32, 0), map_size=7), None, PARAMS, None)
