"""Writes miniature copies of the seven licensed datasets, in their official layouts, with people in images and videos.

Motion comes from :mod:`isopose.datasets.synthetic`, annotations from the readers' tests' generators, and people from
:mod:`isopose.rendering`, pasted on plain backgrounds. What the official layout has more of than a test needs is the
same content again: hard links, and a video's packets repeated, since all motion goes to and fro.

What is filmed, so what ``SOURCES`` asks for (the readers read no less):

- Human3.6M: all trials of all subjects. Each subject walks in Walking, WalkTogether and WalkDog, and reaches in the
  other trials. S5's have 336 frames, enough for the human dynamics protocol's 150 at half the rate, the others' 32.
  S1 and S9 have D2_Positions; S9's and S11's poses are archives.
- HumanEva-I: everything. Of each part the first 36 frames are valid; the videos end soon after those of ``train``.
- MPI-INF-3DHP: all. Training sequences have 32 frames; S1/Seq1's content is that of all of 25 frames a second,
  S1/Seq2's of all of 50. Of the cameras, those of 'vnect' have videos. The test set has all of its valid frames.
- 3DPW: 60 sequences of 24 frames: 2 of test, 2 of validation, and 56 of train with two contents.
- Penn Action: 2,326 videos with 12 contents of 2 frames. MPII and COCO: a few dozen images of one to three people.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import av
import numpy as np
from PIL import Image

from isopose.appearance import sample_appearance
from isopose.camera import Camera, project, world_to_camera
from isopose.crops import boxes_around
from isopose.datasets.check import LICENSED
from isopose.datasets.humaneva import TRIALS
from isopose.datasets.mpi_inf_3dhp import SEQUENCES, TEST_SEQUENCES, VNECT_CAMERAS
from isopose.datasets.sources import derive_seed
from isopose.datasets.synthetic import generate
from isopose.joint_sets import CROWN, NOSE_HEIGHT
from isopose.rendering import Grid, body, pinhole_joints, render_crops, surface
from isopose.skeleton import JOINTS
from tests.unit.datasets.generators import coco, human36m, humaneva, mpi_inf_3dhp, mpii, penn_action, three_dpw

SOURCES = MappingProxyType(
    {
        "human36m": {
            "reader": "human36m",
            "fps": 50,
            "subjects": ["S1", "S5", "S6", "S7", "S8", "S9", "S11"],
            "actions": ["Walking", "Eating"],
            "occluded": False,
        },
        "humaneva_train": {
            "reader": "humaneva",
            "fps": 60,
            "part": "train",
            "subjects": None,
            "actions": None,
            "occluded": False,
        },
        "humaneva": {
            "reader": "humaneva",
            "fps": 60,
            "part": "validate",
            "subjects": None,
            "actions": None,
            "occluded": False,
        },
        "mpi_inf_3dhp_train": {
            "reader": "mpi_inf_3dhp",
            "fps": 25,
            "part": "train",
            "subjects": ["S1"],
            "occluded": False,
        },
        "mpi_inf_3dhp": {
            "reader": "mpi_inf_3dhp",
            "fps": 25,
            "part": "test",
            "subjects": ["TS2", "TS3", "TS5"],  # the shortest of each scene
            "occluded": False,
        },
        "three_dpw": {"reader": "three_dpw", "fps": 30, "splits": ["validation", "test"], "occluded": False},
    }
)
"""Entries of params.yaml's ``sources`` by which preprocess reads the 3D datasets."""

SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
WALKS = ("Walking", "WalkTogether", "WalkingDog")
FRAMES = MappingProxyType({subject: 336 if subject == "S5" else 32 for subject in SUBJECTS})
"""Human3.6M's, of a trial."""

DISTINCT, FEW = 9, 6
"""Poses of a motion; of the test set of MPI-INF-3DHP, whose stills are large."""

WINDOW, TRAIN_FRAMES, OUTDOOR_FRAMES = 36, 32, 24
"""Valid frames of a part of HumanEva; frames of a training sequence of MPI-INF-3DHP, and of a sequence of 3DPW."""

SPEED = 1.5
"""Of motion: few frames show more of it."""

PENN_VIDEOS, PENN_CONTENTS, PENN_FRAMES = 2326, 12, 2
SPRITE = 112
"""Side, px, at which a person is rendered."""

MARGIN = 1.5
"""Side of a person's picture over the joints' extent: hands, feet and hair reach farther."""


def write_all(raw: Path, seed: int = 0) -> None:
    """Write the folders of all seven datasets under ``raw``, which has none of them yet."""
    for name in LICENSED:
        write(name, raw, seed)


def write(name: str, raw: Path, seed: int = 0) -> None:
    """Write ``raw/<name>``; the same seed writes the same people."""
    WRITERS[name](raw / name, seed)


# ---- motion --------------------------------------------------------------------------------------------------------


def there_and_back(distinct: int) -> list[int]:
    """The poses of one cycle: forward, and back to the second."""
    return [*range(distinct), *range(distinct - 2, 0, -1)]


def poses(person: str, action: str, fps: float, seed: int, distinct: int = DISTINCT) -> np.ndarray:
    """Joints (distinct, 17, 3), m, z up, of someone in the middle of the room, slow at both ends: there they turn."""
    finer = 16
    motion = generate(person, action, SPEED, distinct / fps, finer * fps, derive_seed(person, action, seed))
    share = (1 - np.cos(np.pi * np.arange(distinct) / (distinct - 1))) / 2
    return motion[np.rint(share * (len(motion) - 1)).astype(int)]


def cycled(values: np.ndarray, frames: int) -> np.ndarray:
    """``frames`` of a motion that goes to and fro, from its distinct poses."""
    order = there_and_back(len(values))
    return values[[order[frame % len(order)] for frame in range(frames)]]


# ---- pictures ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Person:
    """Someone before a camera: joints (F, 17, 3), m, camera frame; pixels (F, 17, 2); K (3, 3); seed of the looks."""

    joints: np.ndarray
    pixels: np.ndarray
    K: np.ndarray
    look: int

    @classmethod
    def seen(cls, joints: np.ndarray, camera: Camera, look: int) -> "Person":
        """Someone with joints (F, 17, 3), m, world, before a camera."""
        before = world_to_camera(joints, camera)
        return cls(before, project(before, camera), camera.K, look)


def backdrop(look: int) -> tuple[int, int, int]:
    """A plain background's colour: lighter or darker than most clothes are."""
    rng = np.random.default_rng([look, 7])
    return tuple(int(value) for value in rng.integers(150, 190) + rng.integers(-25, 26, 3))


def pictures(size: tuple[int, int], people: Sequence[Person], colour: tuple[int, int, int]) -> list[Image.Image]:
    """Images (width, height) px of people, the later ones in front, one image a frame."""
    images = [Image.new("RGB", size, colour) for _ in people[0].joints]
    for person in people:
        for image, (sprite, corner) in zip(images, _sprites(person), strict=True):
            image.paste(sprite, corner, sprite)
    return images


def _sprites(person: Person) -> list[tuple[Image.Image, tuple[int, int]]]:
    """The person cut out, RGBA, in each frame, and where its upper left corner lies, px."""
    boxes = boxes_around(person.pixels, MARGIN).astype(float)
    sides = np.ceil(boxes[:, 2]).astype(int)
    corners = np.round(boxes[:, :2] - sides[:, None] / 2).astype(int)
    boxes = np.column_stack([corners + sides[:, None] / 2 - 0.5, sides])
    joints = pinhole_joints(person.joints, person.pixels, person.K)
    look = replace(sample_appearance(person.look, "train"), noise=0.0, blur=1)
    looks, frames = [look] * len(joints), np.arange(len(joints))
    colours = render_crops(joints, person.K, boxes, looks, frames, SPRITE)
    K = np.broadcast_to(person.K, (len(joints), 3, 3))
    mask = np.zeros(colours.shape[:3], np.uint8)
    mask.ravel()[surface(body(joints, np.array([look.girths] * len(joints))), Grid.of(K, boxes, SPRITE))[0]] = 255
    cut = np.concatenate([colours, mask[..., None]], axis=-1)
    return [
        (Image.fromarray(each).resize((side, side), Image.Resampling.BILINEAR), tuple(corner.tolist()))
        for each, side, corner in zip(cut, sides, corners, strict=True)
    ]


def save(image: Image.Image, path: Path) -> None:
    """Write a JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=80)


def link(path: Path, copy: Path) -> None:
    """The same file under another name."""
    if path != copy:
        copy.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, copy)


def write_video(path: Path, images: Sequence[Image.Image], order: Sequence[int], frames: int, fps: int) -> None:
    """A video in which the images, in their order, come again and again: encoded once, its packets are repeated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = *images[0].size, "yuv420p"
        stream.gop_size, stream.max_b_frames = len(order), 0
        stream.options = {"qmin": "4", "qmax": "6"}
        stream.codec_context.thread_count = 1
        converted = [av.VideoFrame.from_image(image).reformat(format="yuv420p") for image in images]
        packets = []
        for number, index in enumerate(order):
            converted[index].pts = number
            packets += stream.encode(converted[index])
        packets += stream.encode(None)
        contents = [(bytes(packet), packet.is_keyframe) for packet in packets]
        for number in range(frames):
            content, key = contents[number % len(contents)]
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.is_keyframe = stream, stream.codec_context.time_base, key
            packet.pts = packet.dts = number
            container.mux(packet)


# ---- 3D datasets ---------------------------------------------------------------------------------------------------


def write_human36m(root: Path, seed: int) -> None:
    release = human36m.Release(root, human36m.Rig(seed))
    release.add_metadata()
    for subject in SUBJECTS:
        filmed = {}
        for action, motion in (("Walking", "walking"), ("Eating", "reaching")):
            name = human36m.file_name(subject, action, 1)
            joints = human36m.of_skeleton(poses(f"H36M {subject}", motion, 50, seed))
            shown = cycled(joints, FRAMES[subject])
            release.add(subject, name, len(shown), with_2d=subject in ("S1", "S9"), joints=shown)
            turning = human36m.swinging_angles(len(shown), derive_seed(subject, action, seed))
            human36m.write_pose(root / subject / "MyPoseFeatures/D3_Angles" / f"{name}.cdf", turning)
            filmed[name] = joints[:, list(human36m.USED)]
        for name, joints in filmed.items():
            for number, camera in enumerate(human36m.CAMERAS):
                seen = _seen_in_human36m(release.rig, subject, number, joints, derive_seed("H36M", subject, seed))
                images = pictures(human36m.SIZES[number], [seen], backdrop(number))
                video = root / subject / "Videos" / f"{name}.{camera}.mp4"
                write_video(video, images, there_and_back(DISTINCT), FRAMES[subject], 50)
        _link_trials(root / subject, subject)
    for subject in ("S9", "S11"):
        videos = (root / subject / "Videos").rename(root / "Videos")
        release.pack(subject)
        (root / subject).mkdir()
        videos.rename(root / subject / "Videos")


def _seen_in_human36m(rig: human36m.Rig, subject: str, camera: int, joints: np.ndarray, look: int) -> Person:
    before = (joints - rig.centres[human36m.SUBJECTS.index(subject), camera]) @ rig.rotation(subject, camera).T / 1000
    (fx, fy), (cx, cy) = rig.focal[camera], rig.centre[camera]
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return Person(before, rig.project(joints, subject, camera), K, look)


def _link_trials(folder: Path, subject: str) -> None:
    """Give the trials that were not made the files of one that was."""
    for action in human36m.ACTIONS[1:]:
        made = human36m.file_name(subject, "Walking" if action in WALKS else "Eating", 1)
        for name in (human36m.file_name(subject, action, number) for number in (1, 2)):
            for path in sorted(folder.rglob(f"{made}.*")) if name != made else ():
                link(path, path.with_name(name + path.name.removeprefix(made)))


def write_humaneva(root: Path, seed: int) -> None:
    for subject in sorted({subject for subject, _ in TRIALS}):
        actions = [action for name, action in TRIALS if name == subject]
        humaneva.write_subject(root, subject, actions, 6)
        for action in actions:
            motion = {"Walking": "walking", "Jog": "jogging", "Box": "boxing"}[action]
            _write_humaneva_trial(root, subject, action, poses(f"HumanEva {subject}", motion, 60, seed), seed)


def _write_humaneva_trial(root: Path, subject: str, action: str, joints: np.ndarray, seed: int) -> None:
    """Frame f, from 1, shows pose f of the cycle; what is not in a window was not seen by the motion capture."""
    joints, trial = _with_long_head(joints), TRIALS[subject, action]
    windows = [(first, first + WINDOW - 1) for first in (trial.first, trial.split + 1)]
    frames = windows[-1][1] + 1
    time = np.arange(1, int(humaneva.START + frames * humaneva.STEP))
    frame = 1 + (time - humaneva.START) / humaneva.STEP
    shown = cycled(joints, frames + 2)
    before = np.clip(np.floor(frame).astype(int), 0, frames)
    share = (frame - np.floor(frame))[:, None, None]
    between = (1 - share) * shown[before] + share * shown[before + 1]
    points, labels = humaneva.markers_of({name: 1000 * between[:, i] for i, name in enumerate(JOINTS)})
    seen = np.zeros(len(time), bool)
    for window in windows:
        first, last = (humaneva.START + (number - 1) * humaneva.STEP for number in window)
        seen |= (time >= np.floor(first)) & (time <= np.ceil(last))
    points[~seen] = 0
    humaneva.save_mat(root / subject / "Mocap_Data" / f"{action}_1.mat", points, labels)
    order = there_and_back(len(joints))
    for number in range(3):
        focal, centre, turn, position = humaneva.camera(number)
        K = np.array([[focal[0], humaneva.ALPHA * focal[0], centre[0]], [0, focal[1], centre[1]], [0, 0, 1]])
        camera = Camera(K, turn, position, np.array(humaneva.DISTORTION), (640, 480))
        images = pictures((640, 480), [Person.seen(joints, camera, derive_seed(subject, seed))], backdrop(10 + number))
        late = humaneva.IMAGES[number] - min(humaneva.IMAGES)
        turned = [order[(image + 1 - late) % len(order)] for image in range(len(order))]
        path = root / subject / "Image_Data" / f"{action}_1_(C{number + 1}).avi"
        write_video(path, images, turned, frames + late, 60)


def _with_long_head(joints: np.ndarray) -> np.ndarray:
    """The joints with HumanEva's head, 316.103 mm above the thorax."""
    joints = joints.copy()
    thorax, head = joints[:, JOINTS.index("thorax")], joints[:, JOINTS.index("head")]
    up = (head - thorax) / np.linalg.norm(head - thorax, axis=-1, keepdims=True)
    joints[:, JOINTS.index("head")] = thorax + 0.316103 * up
    return joints


def write_mpi_inf_3dhp(root: Path, seed: int) -> None:
    made = {}
    for name, sequence in SEQUENCES.items():
        if sequence.fps not in made:
            made[sequence.fps] = name
            _write_3dhp_sequence(root, name, int(sequence.fps), seed)
        source = made[sequence.fps]
        for path in sorted((root / source).rglob("*.*")) if name != source else ():
            link(path, root / name / path.relative_to(root / source))
    for name in TEST_SEQUENCES:
        _write_3dhp_test(root / "mpi_inf_3dhp_test_set", name, seed)


def _write_3dhp_sequence(root: Path, name: str, fps: int, seed: int) -> None:
    joints = poses(f"3DHP {name}", "walking" if fps == 25 else "kicking", fps, seed)
    mpi_inf_3dhp.write_train(root, name, cycled(joints, TRAIN_FRAMES))
    for number in VNECT_CAMERAS:
        intrinsic, turn, t = mpi_inf_3dhp.camera(number)
        seen = _seen_in_3dhp(joints, intrinsic, turn, t, derive_seed("3DHP", name, seed))
        images = pictures((2048, 2048), [seen], backdrop(20 + number))
        video = root / name / "imageSequence" / f"video_{number}.avi"
        write_video(video, images, there_and_back(len(joints)), TRAIN_FRAMES, fps)


def _seen_in_3dhp(joints: np.ndarray, intrinsic: np.ndarray, turn: np.ndarray, t: np.ndarray, look: int) -> Person:
    """joints m, z up; x = turn X + t for X with y up, mm."""
    before = (1000 * joints[..., [1, 2, 0]] @ turn.T + t) / 1000
    pixels = before @ intrinsic.T
    return Person(before, pixels[..., :2] / pixels[..., 2:], intrinsic, look)


OUTDOOR_INTRINSIC = np.array([[1690.5, 0, 954.3], [0, 1690.1, 420.7], [0, 0, 1]])
"""Of TS5 and TS6, whose images are 1920 x 1080."""


def _write_3dhp_test(folder: Path, name: str, seed: int) -> None:
    """The valid frames of a test sequence, and two before them that are not."""
    sequence = TEST_SEQUENCES[name]
    joints = poses(f"3DHP {name}", "walking" if name in ("TS1", "TS4", "TS5") else "reaching", 25, seed, FEW)
    frames = sequence.valid + 2
    activity = 1 + np.arange(frames) * 7 // frames
    intrinsic = mpi_inf_3dhp.TEST_INTRINSIC if sequence.size == (2048, 2048) else OUTDOOR_INTRINSIC
    mpi_inf_3dhp.write_test(folder, name, cycled(joints, frames), np.arange(frames) >= 2, activity, intrinsic)
    turn, centre = mpi_inf_3dhp.test_pose(Path(sequence.calibration).name)
    seen = _seen_in_3dhp(joints, intrinsic, turn, -turn @ centre, derive_seed("3DHP", name, seed))
    order, images = there_and_back(len(joints)), folder / name / "imageSequence"
    for number, image in enumerate(pictures(sequence.size, [seen], backdrop(30 + int(name[2:]))), start=1):
        save(image, images / f"img_{number:06d}.jpg")
    for frame in range(len(joints), frames):
        link(images / f"img_{order[frame % len(order)] + 1:06d}.jpg", images / f"img_{frame + 1:06d}.jpg")


OUTDOORS = (
    ("test", "downtown_walking_00", 2),
    ("test", "outdoors_boxing_00", 1),
    ("validation", "courtyard_kicking_00", 2),
    ("validation", "outdoors_jogging_00", 1),
    ("train", "courtyard_walking_00", 1),
    ("train", "outdoors_reaching_00", 2),
)
"""Split, name and number of people of the sequences that are filmed; the names' middle is the motion."""


def write_three_dpw(root: Path, seed: int) -> None:
    for number, (split, name, people) in enumerate(OUTDOORS):
        _write_3dpw_sequence(root, split, name, people, derive_seed(number, seed))
    for number in range(60 - len(OUTDOORS)):
        split, name, _ = OUTDOORS[-1 - number % 2]
        copy = f"{name[:-2]}{1 + number // 2:02d}"
        link(root / f"sequenceFiles/{split}/{name}.pkl", root / f"sequenceFiles/{split}/{copy}.pkl")
        for path in sorted((root / "imageFiles" / name).iterdir()):
            link(path, root / "imageFiles" / copy / path.name)


def _write_3dpw_sequence(root: Path, split: str, name: str, people: int, seed: int) -> None:
    group = []
    for person in range(people):
        joints = poses(f"3DPW {name} {person}", name.split("_")[1], 30, seed)
        group.append(cycled(joints, OUTDOOR_FRAMES) + [0, 1.5 * (person - (people - 1) / 2), -0.9])
    smpl = np.stack([three_dpw.of_skeleton(joints) for joints in group])
    content = three_dpw.sequence(name, people, OUTDOOR_FRAMES, seed=seed, joints=smpl)
    three_dpw.write(root, {(split, name): content})
    extrinsics = content["cam_poses"]
    seen = []
    for person, joints in enumerate(group):
        before = joints[..., [1, 2, 0]] @ extrinsics[:, :3, :3].swapaxes(-1, -2) + extrinsics[:, None, :3, 3]
        pixels = before @ three_dpw.K.T
        seen.append(Person(before, pixels[..., :2] / pixels[..., 2:], three_dpw.K, derive_seed(name, person, seed)))
    for frame, image in enumerate(pictures((1080, 1920), seen, backdrop(40 + people))):
        save(image, root / "imageFiles" / name / f"image_{frame:05d}.jpg")


# ---- 2D datasets ---------------------------------------------------------------------------------------------------

ACTIONS = ("walking", "boxing", "waving", "kicking", "phoning", "reaching", "turning")


def crowd(size: tuple[int, int], people: int, frames: int, *seed: object) -> list[Person]:
    """People side by side before a camera at the height of the chest."""
    rng = np.random.default_rng(derive_seed("crowd", *seed))
    width, height = size
    K = np.array([[1.2 * width, 0, (width - 1) / 2], [0, 1.2 * width, (height - 1) / 2], [0, 0, 1]])
    group = []
    for number in range(people):
        person, action = f"crowd {rng.integers(1000)}", str(rng.choice(ACTIONS))
        joints = poses(person, action, 25, int(rng.integers(2**31)), max(frames, DISTINCT))[:frames]
        place = [1.2 * (number - (people - 1) / 2), 0.95, rng.uniform(4.5, 5.5)]
        before = joints[..., [1, 2, 0]] * [1, -1, -1] + place  # a heading of 0 faces the camera
        pixels = before @ K.T
        group.append(Person(before, pixels[..., :2] / pixels[..., 2:], K, int(rng.integers(2**31))))
    return group


def _box(pixels: np.ndarray, margin: float = 0.12) -> np.ndarray:
    """Corners (..., 4), px, of a box around joints (..., J, 2), widened by a share of its height."""
    low, high = pixels.min(-2), pixels.max(-2)
    more = margin * (high - low)[..., 1:]
    return np.concatenate([low - more, high + more], axis=-1)


def write_penn_action(root: Path, seed: int) -> None:
    size = (480, 270)
    columns = [JOINTS.index(name.replace("left_", "l_").replace("right_", "r_")) for name in penn_action.JOINTS]
    for number in range(1, PENN_CONTENTS + 1):
        (person,) = crowd(size, 1, PENN_FRAMES, "penn", number, seed)
        content = penn_action.annotation(PENN_FRAMES, size, number, train=number % 2 == 1)[0]
        places = np.where(content["visibility"][..., None], person.pixels[:, columns] + 1, 1.0)
        content |= {"x": places[..., 0], "y": places[..., 1], "bbox": _box(person.pixels) + 1}
        penn_action.write(root, {number: content})
        for frame, image in enumerate(pictures(size, [person], backdrop(50 + number)), start=1):
            save(image, root / f"Penn_Action/frames/{number:04d}/{frame:06d}.jpg")
    for number in range(PENN_CONTENTS + 1, PENN_VIDEOS + 1):
        made = (number - 1) % PENN_CONTENTS + 1
        link(root / f"Penn_Action/labels/{made:04d}.mat", root / f"Penn_Action/labels/{number:04d}.mat")
        for frame in range(1, PENN_FRAMES + 1):
            name = f"{frame:06d}.jpg"
            link(root / f"Penn_Action/frames/{made:04d}/{name}", root / f"Penn_Action/frames/{number:04d}/{name}")


MPII_IMAGES, MPII_TEST = 40, 8
MPII_JOINTS = (
    *("r_ankle", "r_knee", "r_hip", "l_hip", "l_knee", "l_ankle", "pelvis", "thorax", "upper_neck", "head"),
    *("r_wrist", "r_elbow", "r_shoulder", "l_shoulder", "l_elbow", "l_wrist"),
)


def write_mpii(root: Path, seed: int) -> None:
    size, groups = (1280, 720), []
    for image in range(MPII_IMAGES):
        people = crowd(size, 1 + image % 3, 1, "mpii", image, seed)
        save(pictures(size, people, backdrop(70 + image))[0], root / "images" / f"{image:09d}.jpg")
        groups.append([_mpii_person(person.pixels[0], image) for person in people])
    mpii.write(root, mpii.release(groups, test=range(MPII_IMAGES - MPII_TEST, MPII_IMAGES)))
    mpii.write_json(root, groups[: MPII_IMAGES - MPII_TEST], "train")
    mpii.write_json(root, groups[: MPII_IMAGES - MPII_TEST], "valid")


def _mpii_person(pixels: np.ndarray, seed: int) -> dict:
    """A person of mpii.release; the upper neck is where the joint set's nose comes out at ours."""
    at = dict(zip(JOINTS, pixels, strict=True))
    at["upper_neck"] = (at["neck"] - NOSE_HEIGHT * at["head"]) / (1 - NOSE_HEIGHT)
    known = mpii.person(np.random.default_rng(seed), np.array([at[name] for name in MPII_JOINTS]), [1] * mpii.JOINTS)
    x0, y0, x1, y1 = _box(pixels)
    half = np.linalg.norm(at["head"] - at["upper_neck"]) / 2
    middle = (at["head"] + at["upper_neck"]) / 2
    known |= {"centre": np.array([(x0 + x1) / 2, (y0 + y1) / 2]), "scale": (y1 - y0) / 200}
    return known | {"head": np.concatenate([middle - [0.8 * half, half], middle + [0.8 * half, half]])}


COCO_IMAGES = MappingProxyType({"train": 36, "val": 12})


def write_coco(root: Path, seed: int) -> None:
    size, made = (640, 427), 0
    for split, images in COCO_IMAGES.items():
        content = coco.annotations() | {"images": [], "annotations": []}
        for _ in range(images):
            number, made = 9 + 16 * made, made + 1
            people = crowd(size, 1 + made % 3, 1, "coco", made, seed)
            name = f"{number:012d}.jpg"
            save(pictures(size, people, backdrop(120 + made))[0], root / f"{split}2017" / name)
            content["images"].append({"license": 1, "file_name": name, "height": 427, "width": 640, "id": number})
            for person in people:
                known = {"id": 183126 + len(content["annotations"]), "image_id": number, "category_id": 1, "iscrowd": 0}
                content["annotations"].append(known | _coco_person(person.pixels[0]))
        coco.write(root, content, split)


def _coco_person(pixels: np.ndarray) -> dict:
    """Keypoints, box and outline; the ears are where the joint set's top of the head comes out at ours."""
    at = dict(zip(JOINTS, pixels, strict=True))
    shoulders = (at["l_shoulder"] + at["r_shoulder"]) / 2
    ears = (at["head"] + CROWN * shoulders) / (1 + CROWN)
    aside = 0.2 * (at["l_shoulder"] - at["r_shoulder"])
    at |= {"nose": at["neck"], "l_ear": ears + aside, "r_ear": ears - aside}
    at |= {f"{side}_eye": (at[f"{side}_ear"] + at["nose"]) / 2 for side in "lr"}
    points = np.array([at[name.replace("left_", "l_").replace("right_", "r_")] for name in coco.NAMES])
    marks = np.full(len(points), 2)
    x0, y0, x1, y1 = _box(pixels) + 0.5
    return {
        "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
        "num_keypoints": len(points),
        "area": (x1 - x0) * (y1 - y0),
        "keypoints": np.column_stack([np.rint(points).astype(int), marks]).ravel().tolist(),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
    }


WRITERS = MappingProxyType({name: globals()[f"write_{name}"] for name in LICENSED})
