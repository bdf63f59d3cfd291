import json
from dataclasses import replace

import av
import h5py
import numpy as np
import pytest
from PIL import Image
from tests.unit.datasets.generators import coco as coco_files
from tests.unit.datasets.generators import mpii as mpii_files
from typer.testing import CliRunner

from isopose import photographs
from isopose.camera import Camera, project
from isopose.datasets import preprocess
from isopose.datasets.store import Clip, Photographs, PhotographStore, SequenceStore, View
from isopose.errors import UserError
from isopose.evaluation.keypoints import head_size
from isopose.labelled_images import Images

PEOPLE, WIDTH, HEIGHT, FRAMES = 3, 320, 240, 12
PARAMS = {
    "images": 24,
    "size": 128,
    "map_size": 32,
    "margin": 1.25,
    "crop_jitter": {"scale": 0.1, "shift": 0.05},
    "split": "train",
    "seed": 3,
}
COLOURS = np.array([(40 + 12 * joint, 255 - 12 * joint, 60 + 90 * (joint % 3)) for joint in range(17)])


def marked(points, known):
    """An image with a square of its colour at each known joint (17, 2)."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for point, colour, shown in zip(points, COLOURS, known, strict=True):
        if shown:
            x, y = np.rint(point).astype(int)
            image[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4] = colour
    return image


def spread(rng, count):
    """Joints (count, 17, 2), px, on a grid, so that no mark covers another."""
    grid = np.stack(np.meshgrid(np.arange(60, 160, 20), np.arange(60, 140, 20)), -1).reshape(-1, 2)[:17]
    return grid + rng.integers(-20, 60, (count, 1, 2)).astype(float)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Photographs as MPII's and a video as Human3.6M's, whose pixels say which joint they are of."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    points = spread(rng, PEOPLE)
    labelled = rng.random((PEOPLE, 17)) < 0.7
    names = np.array([f"images/{number}.png" for number in range(PEOPLE)])
    (folder / "raw/mpii/images").mkdir(parents=True)
    for name, each, known in zip(names, points, labelled, strict=True):
        Image.fromarray(marked(each, known)).save(folder / "raw/mpii" / name)
    boxes = np.concatenate([points.min(1) - 10, points.max(1) + 10], axis=1)
    people = Photographs(
        names,
        np.where(labelled[..., None], points, np.nan),
        labelled,
        labelled & (rng.random((PEOPLE, 17)) < 0.8),
        boxes,
        np.array([20.0, 30, np.nan]),
    )
    with PhotographStore.create(folder / "mpii.h5", reader="mpii", split="train") as store:
        store.write(people)
    write_views(folder, rng)
    return folder, people


def write_views(folder, rng):
    """A labelled store with one clip of a person whose joints are a grid, a metre from the camera, and its video."""
    camera = Camera(np.array([[200.0, 0, 160], [0, 200, 120], [0, 0, 1]]), np.eye(3), np.zeros(3), size=(WIDTH, HEIGHT))
    plane = (spread(rng, FRAMES) - [160, 120]) / 200
    joints = np.concatenate([plane, np.ones((FRAMES, 17, 1))], axis=-1)
    valid = np.arange(17) != 7
    points = project(joints, camera)
    attributes = {"trial": "Walking 1", "broken_video": "", "video_54138969": "S1/Videos/Walking 1.54138969.mp4"}
    names = ("S1_Walking_1", joints, valid, "S1", "Walking", 50.0, "human36m")
    view = View("54138969", points, visible=rng.random((FRAMES, 17)) < 0.8)
    clip = Clip(*names, attributes, {"54138969": camera}, {"54138969": view})
    with SequenceStore.create(folder / "human36m.h5", reader="human36m") as store:
        store.write(clip)
    path = folder / "raw/human36m" / attributes["video_54138969"]
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=50, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "rgb24"
        for each in points:
            frame = av.VideoFrame.from_ndarray(marked(each, np.ones(17, bool)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


SELECTIONS = [{"source": "mpii"}, {"source": "human36m", "cameras": ["54138969"]}]


def run(folder, output, selections=SELECTIONS, **params):
    arguments = [f"--store={name}={folder / name}.h5" for name in ("mpii", "human36m")]
    arguments += [f"--output={output}", f"--raw={folder / 'raw'}"]
    arguments += ["--params", json.dumps(PARAMS | {"selections": selections} | params)]
    return CliRunner().invoke(photographs.app, arguments)


@pytest.fixture(scope="module")
def made(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("made") / "images.h5"
    result = run(raw[0], output)
    assert result.exit_code == 0, result.output
    with h5py.File(output) as file:
        return {name: file[name][()] for name in file} | {"file": Images.read(output)}


def test_labels_lie_on_their_pixels(made):
    scale = PARAMS["size"] / PARAMS["map_size"]
    seen = 0
    for image, points, labelled in zip(made["images"], made["joints2d"], made["labelled"], strict=True):
        place = np.rint(scale * (points + 0.5) - 0.5).astype(int)
        inside = labelled & ((place >= 0) & (place < PARAMS["size"])).all(-1)
        for joint in np.flatnonzero(inside):
            difference = np.abs(image[place[joint, 1], place[joint, 0]].astype(int) - COLOURS[joint]).max()
            assert difference < 60, (joint, difference)
            seen += 1
    assert seen > 200


def test_people_and_frames_come_equally_often(made):
    sources = made["source"].tolist()
    assert set(sources) == {b"mpii", b"human36m"} and 6 <= sources.count(b"mpii") <= 18
    assert len(set(made["frame"][made["source"] == b"human36m"])) > 3


def test_what_is_not_labelled_says_so(made, raw):
    people = raw[1]
    for image in np.flatnonzero(made["source"] == b"mpii"):
        person = int(made["subject"][image])
        assert (made["labelled"][image] == people.labelled[person]).all()
        assert not (made["visible"][image] & ~people.visible[person]).any()
        assert not made["joints2d"][image][~people.labelled[person]].any()
    views = made["labelled"][made["source"] == b"human36m"]
    assert not views[:, 7].any() and views[:, np.arange(17) != 7].all()


def test_heads_measure_as_the_dataset_says_or_as_the_joints(made, raw):
    folder, people = raw
    images = made["file"]
    assert not images.measured[np.isnan(made["head_size"])].any() and images.measured.any()
    with SequenceStore(folder / "human36m.h5") as store:
        clip = store.read("S1_Walking_1")
    truth = head_size(clip.camera_joints("54138969"), clip.cameras["54138969"])
    for image in range(PARAMS["images"]):
        index = int(made["subject"][image]) if made["source"][image] == b"mpii" else made["frame"][image]
        pixels = people.head_sizes[index] if made["source"][image] == b"mpii" else truth[index]
        gap = made["joints2d"][image]
        points = people.points[index] if made["source"][image] == b"mpii" else clip.views["54138969"].joints2d[index]
        first, last = np.flatnonzero(made["labelled"][image])[[0, -1]]  # map px to an image px, by two joints
        factor = np.linalg.norm(gap[first] - gap[last]) / np.linalg.norm(points[first] - points[last])
        np.testing.assert_allclose(made["head_size"][image], factor * pixels, rtol=1e-4)


def test_the_same_seed_makes_the_same_file(raw, tmp_path):
    for name in ("a.h5", "b.h5"):
        assert run(raw[0], tmp_path / name, images=6).exit_code == 0
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert run(raw[0], tmp_path / "c.h5", images=6, seed=4).exit_code == 0
    assert (tmp_path / "c.h5").read_bytes() != (tmp_path / "a.h5").read_bytes()


def test_occluders_of_a_view_hide_its_pixels(raw, tmp_path):
    folder, _ = raw
    with SequenceStore(folder / "human36m.h5") as store:
        clip = store.read("S1_Walking_1")
    whole = np.tile([-1.0, -1, WIDTH, HEIGHT], (FRAMES, 1, 1))
    clip.views["54138969_occluded"] = replace(clip.views["54138969"], occluders=whole)
    with SequenceStore.create(tmp_path / "human36m.h5", reader="human36m") as store:
        store.write(clip)
    selections = [{"source": "human36m", "cameras": ["54138969"], "occluded": True}]
    stores = {"human36m": tmp_path / "human36m.h5"}
    photographs.run(stores, tmp_path / "images.h5", PARAMS | {"selections": selections}, folder / "raw")
    images = Images.read(tmp_path / "images.h5").images
    inside = images[images.any(axis=-1)]
    assert len(inside) > 0 and (inside == 128).all()


def test_a_missing_photograph_is_one_line_and_leaves_nothing(raw, tmp_path):
    folder, _ = raw
    for path in (tmp_path / "raw", tmp_path / "mpii.h5", tmp_path / "human36m.h5"):
        if path.name != "raw":
            path.write_bytes((folder / path.name).read_bytes())
    result = run(tmp_path, tmp_path / "images.h5", SELECTIONS[:1])
    assert isinstance(result.exception, UserError)
    assert "raw/mpii/images/" in str(result.exception) and "is missing" in str(result.exception)
    assert not (tmp_path / "images.h5").exists()


def test_rendered_motion_has_no_images(raw, tmp_path):
    with SequenceStore(raw[0] / "human36m.h5") as found:
        clip = found.read("S1_Walking_1")
    with SequenceStore.create(tmp_path / "human36m.h5", reader="synthetic") as store:
        store.write(clip)
    (tmp_path / "mpii.h5").write_bytes((raw[0] / "mpii.h5").read_bytes())
    result = run(tmp_path, tmp_path / "images.h5", SELECTIONS[1:])
    assert "source 'synthetic' has no images" in str(result.exception)


def test_mpii_becomes_a_store(tmp_path):
    crowd = mpii_files.people(4)
    mpii_files.write(tmp_path / "raw/mpii", mpii_files.release(crowd, unlabelled=[(1, 0)]))
    options = preprocess.parse(json.dumps({"reader": "mpii", "split": "train"}))
    count = preprocess.run(tmp_path / "mpii.h5", options, None, tmp_path / "cache", tmp_path / "raw")
    known = [each for group in crowd for each in group]
    del known[len(crowd[0])]  # the first of the second image
    assert count == len(known)
    with PhotographStore(tmp_path / "mpii.h5") as store:
        people = store.read()
    for each, points, labelled in zip(known, people.points, people.labelled, strict=True):
        right_ankle = each["joints"][0]  # exact: joint 3 of the skeleton
        assert labelled[3] == (not np.isnan(right_ankle[0]))
        np.testing.assert_allclose(points[3], right_ankle, rtol=1e-6)


def test_coco_becomes_a_store_without_people_of_whom_no_joint_is_labelled(tmp_path):
    content = coco_files.annotations()
    coco_files.write(tmp_path / "raw/coco", content, "val")
    options = preprocess.parse(json.dumps({"reader": "coco", "split": "val"}))
    count = preprocess.run(tmp_path / "coco.h5", options, None, tmp_path / "cache", tmp_path / "raw")
    with PhotographStore(tmp_path / "coco.h5") as store:
        people = store.read()
    assert count == len(people.images) and people.labelled.any(-1).all() and np.isnan(people.head_sizes).all()
    assert count == sum(any(each["keypoints"][2::3]) for each in content["annotations"]) < len(content["annotations"])
    assert all(name.startswith("val2017/") for name in people.images.tolist())
