import json
import zipfile

import numpy as np
import pytest
from scipy.io import savemat
from tests.unit.datasets.generators import mpii as generator
from tests.unit.datasets.generators.mutations import COUNT, mutations

from isopose.datasets import mpii
from isopose.datasets.worker import Worker
from isopose.errors import UserError
from isopose.skeleton import JOINTS


def check_people(people, known):
    """Against what was written, a person and a joint at a time."""
    assert len(people) == len(known)
    for index, each in enumerate(known):
        for joint, place in enumerate(each["joints"]):
            assert people.labelled[index, joint] == (not np.isnan(place[0]))
            np.testing.assert_allclose(people.points[index, joint], place, atol=1e-9)
        x, y = each["centre"]
        side = 100 * each["scale"]
        np.testing.assert_allclose(people.boxes[index], [x - side, y - side, x + side, y + side], atol=1e-3)


def test_the_matlab_file_comes_back(tmp_path):
    crowd = generator.people(9)
    generator.write(tmp_path, generator.release(crowd, test=[5], unlabelled=[(8, 1)], without_place=[(2, 1)]))
    known = [(image, number) for image, group in enumerate(crowd) for number in range(len(group))]
    known = [pair for pair in known if pair[0] != 5 and pair != (2, 1)]
    people = mpii.read_people(tmp_path, "train")
    assert people.images.tolist() == [f"images/{image:09d}.jpg" for image, _ in known]
    unlabelled = known.index((8, 1))
    assert not people.labelled[unlabelled].any() and np.isnan(people.points[unlabelled]).all()
    crowd[8][1]["joints"] = np.full((16, 2), np.nan)
    check_people(people, [crowd[image][number] for image, number in known])
    for index, (image, number) in enumerate(known):
        each = crowd[image][number]
        for joint in range(16):
            mark = each["marks"][joint]
            seen = not np.isnan(each["joints"][joint, 0]) and (mark is None or int(mark) == 1)
            assert people.visible[index, joint] == seen
        if index != unlabelled:
            x1, y1, x2, y2 = each["head"]
            assert people.head_sizes[index] == pytest.approx(0.6 * np.hypot(x2 - x1, y2 - y1))
        assert people.counted[index] == (number == 0)  # the generator calls the first of an image single
    test = mpii.read_people(tmp_path, "test")
    assert test.images.tolist() == ["images/000000005.jpg"] * 2
    assert not test.labelled.any() and not test.counted.any() and np.isnan(test.head_sizes).all()


def test_the_skeletons_joints_come_of_the_table():
    head = mpii.head_size(np.array([[10.0, 20, 40, 60]]))
    assert head.tolist() == [30.0]  # 0.6 of 50
    points = np.arange(64.0).reshape(2, 16, 2)
    labelled = np.ones((2, 16), bool)
    labelled[0, 9] = False  # head top
    people = mpii.People(
        "mpii",
        "train",
        "mpii",
        np.array(["a", "b"]),
        points,
        labelled,
        labelled,
        np.zeros((2, 4)),
        head,
        labelled[:, 0],
    )
    skeleton, known, visible = people.skeleton()
    np.testing.assert_allclose(skeleton[:, JOINTS.index("l_wrist")], points[:, 15])
    np.testing.assert_allclose(skeleton[:, JOINTS.index("neck")], points[:, 8] * 2 / 3 + points[:, 9] / 3)
    expected = [joint not in ("neck", "head") for joint in JOINTS]
    assert known.dtype == bool and known[0].tolist() == visible[0].tolist() == expected and known[1].all()


@pytest.mark.parametrize("split", ["valid", "train", "test"])
def test_the_json_comes_back(tmp_path, split):
    crowd = generator.people(6, seed=3)
    generator.write_json(tmp_path, crowd, split)
    known = [each for group in crowd for each in group]
    if split == "test":
        for each in known:
            each["joints"] = np.full((16, 2), np.nan)
    people = mpii.read_json(tmp_path, split)
    check_people(people, known)
    if split == "valid":
        expected = [0.6 * np.hypot(*(each["head"][2:] - each["head"][:2])) for each in known]
        np.testing.assert_allclose(people.head_sizes, expected)
    else:
        assert np.isnan(people.head_sizes).all()


def test_the_archive_is_read_as_downloaded(tmp_path):
    path = generator.write(tmp_path / "plain", generator.release(generator.people(3)))
    root = tmp_path / "raw"
    root.mkdir()
    with zipfile.ZipFile(root / "mpii_human_pose_v1_u12_2.zip", "w") as archive:
        archive.write(path, f"{path.parent.name}/{path.name}")
        archive.writestr(f"{path.parent.name}/README.md", "read me")
    assert len(mpii.read_people(root, "train", tmp_path / "cache")) == 3


class Shared:
    """One process for many tests."""

    def __init__(self, worker):
        self.worker = worker

    def __enter__(self):
        return self.worker

    def __exit__(self, *_):
        pass


@pytest.fixture(scope="module")
def worker():
    with Worker() as worker:
        yield worker


def changed(change):
    content = generator.release(generator.people(5))
    change(content)
    return content


def point(content):
    return content["annolist"][0, 1]["annorect"][0, 0]["annopoints"][0, 0]["point"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("img_train"), "no field of name img_train"),
        (lambda content: content.update(img_train=np.ones((1, 4))), "have 5, 4, 5"),
        (lambda content: content.update(annolist=np.ones((1, 5))), "'annolist', 'img_train' and 'single_person'"),
        (lambda content: content["annolist"][0, 1].__setitem__("image", "a.jpg"), "cannot be read"),
        (lambda content: point(content)[0, 0].__setitem__("id", np.uint8(16)), "a joint's id is 16"),
        (lambda content: point(content)[0, 0].__setitem__("x", np.ones(2)), r"holds \(1, 2\) in place of one"),
        (lambda content: point(content)[0, 0].__setitem__("is_visible", "x"), "invalid literal"),
        (lambda content: point(content)[0, 0].__setitem__("y", np.nan), "holds places that cannot be"),
        (lambda content: content["annolist"][0, 1]["annorect"][0, 0].__setitem__("scale", -1.0), "holds places that"),
    ],
)
def test_a_matlab_file_of_another_content_is_one_line(tmp_path, monkeypatch, worker, change, message):
    path = generator.write(tmp_path, changed(change))
    monkeypatch.setattr(mpii, "Worker", lambda seconds: Shared(worker))
    with pytest.raises(UserError, match=message) as refused:
        mpii.read_people(tmp_path, "train")
    told = str(refused.value)
    assert told.startswith(f"{path}: ") and "\n" not in told
    assert "expected mpii_human_pose_v1_u12_1.mat of MPII Human Pose" in told


def test_a_matlab_file_cut_short_is_one_line(tmp_path, monkeypatch, worker):
    path = generator.write(tmp_path, generator.release(generator.people(5)))
    monkeypatch.setattr(mpii, "Worker", lambda seconds: Shared(worker))
    whole = path.read_bytes()
    for length in (0, 200, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"expected mpii_human_pose_v1_u12_1\.mat.*copy it from") as refused:
            mpii.read_people(tmp_path, "train")
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_mutations_are_read_or_refused_in_one_line(tmp_path, monkeypatch, worker, compressed):
    path = generator.write(tmp_path, generator.release(generator.people(3)), compressed)
    monkeypatch.setattr(mpii, "Worker", lambda seconds: Shared(worker))
    refused = 0
    for content in mutations(path.read_bytes(), COUNT // 2):
        path.write_bytes(content)
        try:
            mpii.read_people(tmp_path, "train")
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            refused += 1
    assert refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry.pop("center"), "KeyError: 'center'"),
        (lambda entry: entry.update(joints=entry["joints"][:15]), r"holds float64 \(15, 2\), not numbers \(16, 2\)"),
        (lambda entry: entry.update(joints_vis=["1"] * 16), r"holds <U1 \(16,\)"),
        (lambda entry: entry.update(scale="3"), "not numbers"),
        (lambda entry: entry.update(scale=-1), "holds places that cannot be"),
        (lambda entry: entry.update(center=[1e300, 0]), "holds places that cannot be"),
        (lambda entry: entry.update(image="../../etc/passwd"), "an image is called '../../etc/passwd'"),
        (lambda entry: entry.update(scale=float("nan")), "holds NaN"),
    ],
)
def test_a_json_of_another_content_is_one_line(tmp_path, change, message):
    path = generator.write_json(tmp_path, generator.people(3), "train")
    entries = json.loads(path.read_text())
    change(entries[0])
    path.write_text(json.dumps(entries))
    with pytest.raises(UserError, match=message) as refused:
        mpii.read_json(tmp_path, "train")
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)


def test_head_boxes_that_do_not_fit_are_refused(tmp_path):
    generator.write_json(tmp_path, generator.people(3), "valid")
    path = tmp_path / "annot/gt_valid.mat"
    savemat(path, {"headboxes_src": np.ones((2, 2, 7))})
    with pytest.raises(UserError, match=r"gt_valid\.mat: headboxes_src is \(2, 2, 7\); expected \(2, 2, 3\), a box"):
        mpii.read_json(tmp_path, "valid")
    savemat(path, {"headboxes_src": np.ones((2, 2, 3))})
    with pytest.raises(UserError, match=r"gt_valid\.mat: a head has no size; expected gt_valid\.mat"):
        mpii.read_json(tmp_path, "valid")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"mpii_human_pose_v1_u12_2\.zip: is missing"):
        mpii.read_people(tmp_path, "train")
    with pytest.raises(UserError, match="mpii: has no split 'valid'; expected one of test, train"):
        mpii.read_people(tmp_path, "valid")
    (tmp_path / "annot").mkdir()
    with pytest.raises(UserError, match=r"annot/valid\.json: is missing; expected a list of"):
        mpii.read_json(tmp_path, "valid")
    (tmp_path / "annot/train.json").write_text("[]")
    with pytest.raises(UserError, match=r"annot/train\.json: holds nobody"):
        mpii.read_json(tmp_path, "train")


def test_mutations_of_the_json_are_read_or_refused_in_one_line(tmp_path):
    path = generator.write_json(tmp_path, generator.people(3), "train")
    refused = 0
    for content in mutations(path.read_bytes()):
        path.write_bytes(content)
        try:
            mpii.read_json(tmp_path, "train")
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            refused += 1
    assert refused
