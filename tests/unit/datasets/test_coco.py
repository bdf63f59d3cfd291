import json
import tracemalloc
import zipfile

import numpy as np
import pytest
from tests.unit.datasets.generators import coco as generator
from tests.unit.datasets.generators.mutations import mutations

from isopose.datasets import coco
from isopose.errors import UserError
from isopose.skeleton import JOINTS


def test_the_people_come_back(tmp_path):
    content = generator.annotations()
    generator.write(tmp_path, content)
    people = coco.read_people(tmp_path, "val")
    assert len(people) == 5
    for index, annotation in enumerate(content["annotations"]):
        for joint in range(17):
            x, y, v = annotation["keypoints"][3 * joint : 3 * joint + 3]
            assert (people.labelled[index, joint], people.visible[index, joint]) == (v > 0, v == 2)
            np.testing.assert_array_equal(people.points[index, joint], [x, y] if v else [np.nan, np.nan])
        x, y, width, height = annotation["bbox"]
        # the corner of the image, from which boxes count, is half a pixel before the middle of its first pixel
        np.testing.assert_allclose(people.boxes[index], [x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5])
        assert people.images[index] == f"val2017/{annotation['image_id']:012d}.jpg"
    assert people.counted.tolist() == [True, False, True, True, False]  # a crowd; one without keypoints
    assert np.isnan(people.head_sizes).all()


def test_the_skeletons_joints_come_of_the_table(tmp_path):
    content = generator.annotations()
    generator.write(tmp_path, content)
    points, labelled, visible = coco.read_people(tmp_path, "val").skeleton()
    for index, annotation in enumerate(content["annotations"]):
        named = dict(zip(generator.NAMES, np.reshape(annotation["keypoints"], (17, 3)), strict=True))
        wrist, hips = named["left_wrist"], (named["left_hip"], named["right_hip"])
        assert labelled[index, JOINTS.index("l_wrist")] == (wrist[2] > 0)
        assert visible[index, JOINTS.index("l_wrist")] == (wrist[2] == 2)
        assert labelled[index, JOINTS.index("pelvis")] == (min(hip[2] for hip in hips) > 0)
        if labelled[index, JOINTS.index("pelvis")]:
            np.testing.assert_allclose(points[index, 0], (hips[0][:2] + hips[1][:2]) / 2)
        else:
            assert np.isnan(points[index, 0]).all()


def test_the_archive_is_read_as_downloaded(tmp_path):
    path = generator.write(tmp_path / "plain", generator.annotations())
    root = tmp_path / "raw"
    root.mkdir()
    with zipfile.ZipFile(root / "annotations_trainval2017.zip", "w") as archive:
        archive.write(path, f"annotations/{path.name}")
        archive.writestr("annotations/instances_val2017.json", "{}")
    assert len(coco.read_people(root, "val", tmp_path / "cache")) == 5


def test_memory_holds_the_numbers_and_not_the_file(tmp_path):
    content = generator.annotations(people=400)
    for annotation in content["annotations"]:
        annotation["segmentation"] = {"counts": 80_000 * "2", "size": [427, 640]}
    path = generator.write(tmp_path, content)
    assert path.stat().st_size > 30 * 2**20
    tracemalloc.start()
    try:
        people = coco.read_people(tmp_path, "val")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(people) == 400
    assert peak < 8 * 2**20


def test_results_are_detections_of_the_skeletons_joints(tmp_path):
    listed = generator.results()
    path = tmp_path / "results.json"
    path.write_text(json.dumps([*listed, listed[0] | {"category_id": 2}]))  # another category is left out
    found = coco.read_results(path)
    assert found.image_ids.tolist() == [10, 10, 11, 11]
    np.testing.assert_allclose(found.scores, [0, 0.1, 0.2, 0.3])
    for index, element in enumerate(listed):
        named = dict(zip(generator.NAMES, np.reshape(element["keypoints"], (17, 3)), strict=True))
        nose, ankle, neck = named["nose"], named["right_ankle"], JOINTS.index("neck")
        np.testing.assert_allclose(found.points[index, neck], nose[:2])
        assert found.confidence[index, neck] == pytest.approx(nose[2])
        np.testing.assert_allclose(found.points[index, JOINTS.index("r_ankle")], ankle[:2])
        shoulders = (named["left_shoulder"], named["right_shoulder"])
        thorax = JOINTS.index("thorax")
        np.testing.assert_allclose(found.points[index, thorax], (shoulders[0][:2] + shoulders[1][:2]) / 2)
        assert found.confidence[index, thorax] == pytest.approx(min(shoulder[2] for shoulder in shoulders))


def test_an_empty_list_of_results_is_no_detections(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("[]")
    assert coco.read_results(path).points.shape == (0, 17, 2)


def annotation_with(**fields):
    def change(content):
        content["annotations"][2] |= fields

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("annotations"), r"has no array \['annotations'\]"),
        (lambda content: content.update(annotations={}), r"has no array \['annotations'\]"),
        (lambda content: content["annotations"][2].pop("bbox"), "an annotation is broken .KeyError: 'bbox'"),
        (lambda content: content["annotations"].append(5), "an annotation is broken .TypeError"),
        (annotation_with(keypoints=[1.0] * 50), "not a list of 51 numbers"),
        (annotation_with(keypoints=["1"] * 51), "an annotation is broken .TypeError"),
        (annotation_with(keypoints=[3] * 51), "a visibility is not 0, 1 or 2"),
        (annotation_with(bbox=[1e308] * 4), "a number is too large"),
        (annotation_with(bbox=[float("inf")] * 4), "holds Infinity"),
        (annotation_with(bbox=[float("nan")] * 4), "holds NaN"),
        (annotation_with(image_id="7"), "'7' is no whole number"),
        (annotation_with(image_id=7), "has no image 7, which an annotation names"),
        (annotation_with(image_id=10**30), "is no whole number"),
        (annotation_with(category_id=18), "its category is not 1"),
        (lambda content: content["images"][0].update(file_name="../../x.jpg"), "its file_name is '../../x.jpg'"),
        (lambda content: content["categories"][0]["keypoints"].reverse(), "has no category of people with COCO's 17"),
        (lambda content: content.update(categories=[]), "has no category of people with COCO's 17"),
    ],
)
def test_a_file_of_another_content_is_one_line(tmp_path, change, message):
    content = json.loads(json.dumps(generator.annotations()))
    change(content)
    path = generator.write(tmp_path, content)
    with pytest.raises(UserError, match=message) as refused:
        coco.read_people(tmp_path, "val")
    told = str(refused.value)
    assert told.startswith(f"{path}: ") and "\n" not in told
    assert "expected person_keypoints_<split>2017.json of COCO" in told


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ({}, "a detection is broken .KeyError: 'keypoints'"),
        ({"image_id": 1, "category_id": 1, "keypoints": [0] * 51, "score": "1"}, "a detection is broken .TypeError"),
        ({"image_id": -1, "category_id": 1, "keypoints": [0] * 51, "score": 1}, "-1 is no whole number"),
        ([1, 2], "a detection is broken .TypeError"),
    ],
)
def test_results_of_another_content_are_one_line(tmp_path, element, message):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([*generator.results(), element]))
    with pytest.raises(UserError, match=message) as refused:
        coco.read_results(path)
    assert "expected COCO keypoint results, a list of" in str(refused.value) and "\n" not in str(refused.value)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"annotations_trainval2017\.zip: is missing; expected"):
        coco.read_people(tmp_path, "train")
    with pytest.raises(UserError, match="coco: has no split 'test'; expected one of train, val"):
        coco.read_people(tmp_path, "test")
    with pytest.raises(UserError, match=r"no\.json: is missing; expected COCO keypoint results"):
        coco.read_results(tmp_path / "no.json")


def test_mutations_are_read_or_refused_in_one_line(tmp_path):
    path = generator.write(tmp_path, generator.annotations())
    outcomes = set()
    for content in mutations(path.read_bytes()):
        path.write_bytes(content)
        try:
            coco.read_people(tmp_path, "val")
            outcomes.add("read")
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
