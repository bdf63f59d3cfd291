import dataclasses

import h5py
import hdf5plugin  # noqa: F401  (registers the filter the images are written with)
import numpy as np
import pytest

from isopose import rendering, skeleton
from isopose.appearance import COLOUR, sample_appearance
from isopose.camera import Camera, project
from isopose.crops import boxes_around, image_to_crop
from isopose.datasets.store import Clip, SequenceStore, View
from isopose.errors import UserError
from isopose.evaluation import keypoints
from isopose.rendering import Grid, Quadrics, body, cones, ellipsoids, render_crops, surface

K = np.array([[1145.0, 0, 500], [0, 1145.0, 500], [0, 0, 1]])
COUNT = len(rendering.PARTS)
SIZE = 96


def standing():
    """A person at ease: x to their left, y up, z forward, m."""
    points = {
        "pelvis": (0, 0, 0),
        "spine": (0, 0.24, 0),
        "thorax": (0, 0.49, -0.01),
        "neck": (0, 0.60, 0.08),
        "head": (0, 0.72, 0.03),
    }
    for side, sign in (("l", 1), ("r", -1)):
        points |= {
            f"{side}_hip": (0.11 * sign, 0, 0),
            f"{side}_knee": (0.12 * sign, -0.44, 0.03),
            f"{side}_ankle": (0.12 * sign, -0.87, -0.02),
            f"{side}_shoulder": (0.17 * sign, 0.46, 0),
            f"{side}_elbow": (0.30 * sign, 0.22, -0.04),
            f"{side}_wrist": (0.36 * sign, 0.02, 0.1),
        }
    return np.array([points[name] for name in skeleton.JOINTS])


def in_front(pose, turns=(0.0,), distance=4.5):
    """The pose turned about the vertical, seen by the camera: (B, 17, 3) m, camera frame. At 0 it faces the camera."""
    frames = []
    for turn in turns:
        c, s = np.cos(turn), np.sin(turn)
        turned = pose @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
        frames.append(turned * [1, -1, -1] + [0, 0, distance])
    return np.array(frames)


def pixels(joints):
    return joints[..., :2] / joints[..., 2:] * K[0, 0] + K[:2, 2]


def looks(count, split="train", **changes):
    return [dataclasses.replace(sample_appearance(5, split), **changes)] * count


def grid_of(boxes, size=SIZE):
    return Grid.of(np.broadcast_to(K, (len(boxes), 3, 3)), np.asarray(boxes, float), size)


def paint(joints, size=SIZE):
    """Part maps (B, S, S), -1 where there is nobody, and the crop's boxes."""
    boxes = boxes_around(pixels(joints), 1.3).astype(float)
    pixel, part, _ = surface(body(joints, np.ones((len(joints), 5))), grid_of(boxes, size))
    parts = np.full(len(joints) * size * size, -1)
    parts[pixel] = part % COUNT
    return parts.reshape(-1, size, size), boxes


def rays(boxes, size=SIZE):
    """Directions (B, S, S, 3) with z = 1 through the pixel centres, straight from the definition of a crop."""
    index = np.arange(size)
    x = boxes[:, 0, None] + (index - (size - 1) / 2) * boxes[:, 2, None] / size
    y = boxes[:, 1, None] + (index - (size - 1) / 2) * boxes[:, 2, None] / size
    shape = (len(boxes), size, size)
    dx = np.broadcast_to(((x - K[0, 2]) / K[0, 0])[:, None, :], shape)
    dy = np.broadcast_to(((y - K[1, 2]) / K[1, 1])[:, :, None], shape)
    return np.stack([dx, dy, np.ones(shape)], axis=-1)


def test_a_ball_has_the_depth_of_a_ray_meeting_a_sphere():
    centre, radius = np.array([0.4, -0.3, 3.0]), 0.25
    ball = ellipsoids(centre[None, None], np.eye(3)[None, None], np.full((1, 1, 3), radius))
    boxes = np.array([[640.0, 390.0, 260.0]])
    pixel, _, depth = surface(ball, grid_of(boxes))
    direction = rays(boxes).reshape(-1, 3)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    along = direction @ centre
    under = along**2 - centre @ centre + radius**2
    clear = np.abs(under) > 1e-4  # on the very silhouette rounding decides
    np.testing.assert_array_equal(np.isin(np.arange(SIZE * SIZE), pixel)[clear], (under > 0)[clear])
    expected = (along - np.sqrt(np.maximum(under, 0))) * direction[:, 2]
    keep = clear[pixel]
    np.testing.assert_allclose(depth[keep], expected[pixel][keep], atol=2e-4)


@pytest.mark.parametrize("end", [(0.3, 0.4, 4.1), (0.0, 0.5, 4.0), (0.3, 0.03, 3.6), (-0.5, 0.02, 4.4)])
def test_a_tapered_tube_shows_its_nearest_points(end):
    start, end = np.array([0.0, 0.0, 4.0]), np.array(end)
    tube = cones(*(p[None, None] for p in (start, end)), np.array([[[0, 0, -1.0]]]), [0.1], np.array([[0.5]]))
    boxes = np.array([[500.0, 520.0, 360.0]])
    pixel, _, depth = surface(tube, grid_of(boxes))
    points = rays(boxes).reshape(-1, 3)[pixel] * depth[:, None]

    axis = (end - start) / np.linalg.norm(end - start)
    along = (points - start) @ axis / np.linalg.norm(end - start)
    radius = np.linalg.norm(points - start - ((points - start) @ axis)[:, None] * axis, axis=1)
    assert along.min() > -1e-3
    assert along.max() < 1 + 1e-3
    np.testing.assert_allclose(radius, 0.1 - 0.05 * along, atol=1e-3)

    # Points strewn over the tube that face the camera: all are painted, none lies in front of what was painted.
    length = np.linalg.norm(end - start)
    side = np.cross(axis, [0.3, 0.9, -0.2])
    side /= np.linalg.norm(side)
    t, angle = np.meshgrid(np.linspace(0.1, 0.9, 120), np.linspace(0, 2 * np.pi, 240))
    ring = np.cos(angle)[..., None] * side + np.sin(angle)[..., None] * np.cross(axis, side)
    strewn = start + t[..., None] * (end - start) + (0.1 - 0.05 * t)[..., None] * ring
    normal = (ring + 0.05 / length * axis) / np.hypot(1, 0.05 / length)
    cosine = -(normal * strewn).sum(-1) / np.linalg.norm(strewn, axis=-1)
    strewn = strewn[cosine > 0.5]
    assert len(strewn) > 1000
    column, row = np.rint(image_to_crop(pixels(strewn)[None], boxes, SIZE)[0]).astype(int).T
    near = np.full((SIZE, SIZE), np.inf)
    near.flat[pixel] = depth
    footprint = boxes[0, 2] / SIZE * 4.5 / K[0, 0]
    assert np.abs(near[row, column] - strewn[:, 2]).max() < 2 * footprint  # tan 60 degrees, half a pixel each way


def test_the_nearer_of_two_parts_is_seen_in_any_order():
    frame = np.eye(3)[None]
    near, far = (ellipsoids(np.array([[[0, 0, z]]]), frame[None], np.full((1, 1, 3), 0.2)) for z in (3.0, 3.3))
    boxes = np.array([[500.0, 500.0, 300.0]])
    for order, expected in (((near, far), 0), ((far, near), 1)):
        pixel, part, _ = surface(Quadrics.joined(order), grid_of(boxes))
        assert part[pixel == SIZE // 2 * SIZE + SIZE // 2] == expected


def test_a_wrist_before_the_torso_is_painted_over_it_and_behind_it_is_not():
    elbow, wrist = skeleton.index("r_elbow"), skeleton.index("r_wrist")
    poses = np.stack([standing(), standing()])
    for pose, side in zip(poses, (1, -1), strict=True):
        pose[elbow] = (-0.22, 0.25, 0.2 * side)
        pose[wrist] = (-0.02, 0.3, 0.3 * side)
    joints = np.concatenate([in_front(pose) for pose in poses])
    parts, boxes = paint(joints)
    column, row = np.rint(image_to_crop(pixels(joints), boxes, SIZE)[:, wrist]).astype(int).T
    arm, torso = {3, 17, 21}, set(range(24, 30))
    assert parts[0, row[0], column[0]] in arm
    assert parts[1, row[1], column[1]] in torso


def test_limbs_are_painted_around_their_projected_bones():
    joints = in_front(standing(), np.linspace(0, 2 * np.pi, 7))
    parts, boxes = paint(joints)
    crop = image_to_crop(pixels(joints), boxes, SIZE)
    per_metre = K[0, 0] / joints[..., 2].min(axis=1) * SIZE / boxes[:, 2]
    for limb, (start, end, radius, *_) in enumerate(rendering._LIMBS):
        for frame in range(len(joints)):
            row, column = np.nonzero(parts[frame] == limb)
            a, b = crop[frame, skeleton.index(start)], crop[frame, skeleton.index(end)]
            points = np.stack([column, row], axis=1)
            share = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
            distance = np.linalg.norm(points - a - share[:, None] * (b - a), axis=1)
            assert (distance <= 1.1 * radius * per_metre[frame] + 1).all()


def test_every_joint_lies_on_the_painted_person():
    joints = in_front(standing(), np.linspace(0, 2 * np.pi, 9))
    parts, boxes = paint(joints)
    crop = image_to_crop(pixels(joints), boxes, SIZE)
    crop[:, skeleton.index("head"), 1] += 1  # the crown is the head's very edge
    column, row = np.rint(crop).astype(int).transpose(2, 0, 1)
    assert (parts[np.arange(9)[:, None], row, column] >= 0).all()


def test_feet_point_where_the_person_faces():
    for turn, sign in ((0.5 * np.pi, -1), (-0.5 * np.pi, 1)):
        joints = in_front(standing(), [turn])
        facing = np.sign((joints[0, skeleton.index("neck")] - joints[0, skeleton.index("thorax")])[0])
        parts, boxes = paint(joints)
        ankle = image_to_crop(pixels(joints), boxes, SIZE)[0, skeleton.index("l_ankle"), 0]
        column = np.nonzero((parts[0] == 22) | (parts[0] == 23))[1]
        assert facing == -sign
        assert facing * (column.mean() - ankle) > 1


def test_the_face_tells_front_from_back():
    joints = in_front(standing(), [0, np.pi])
    palette = np.zeros((9, 3), np.float32)
    palette[COLOUR["skin"]] = 255
    look = looks(2, noise=0.0, blur=0, hair=-0.8, ambient=1.0, palette=palette)
    parts, boxes = paint(joints)
    images = render_crops(joints, K, boxes, look, np.arange(2), SIZE)
    front, back = (images[i][parts[i] == rendering._HEAD] for i in (0, 1))
    assert front.mean() > 100 + back.mean()
    face = images[0][(parts[0] == rendering._HEAD) | (parts[0] == rendering._HEAD + 1)]
    assert (face == 0).any()  # eyes and mouth


def test_same_bytes_in_any_batch_and_again():
    joints = in_front(standing(), np.linspace(0, 6, 21))
    boxes = boxes_around(pixels(joints), 1.3)
    look, frames = looks(21), np.arange(21)
    images = render_crops(joints, K, boxes, look, frames, SIZE)
    for cuts in ([1, 2, 9], [16, 20]):
        for chosen in np.split(frames, cuts):
            part = render_crops(joints[chosen], K, boxes[chosen], look[: len(chosen)], chosen, SIZE)
            np.testing.assert_array_equal(part, images[chosen])


def test_noise_depends_on_the_frame_alone():
    joints = np.repeat(in_front(standing()), 3, axis=0)
    boxes = boxes_around(pixels(joints), 1.3)
    images = render_crops(joints, K, boxes, looks(3, noise=5.0), np.array([4, 4, 5]), SIZE).astype(int)
    np.testing.assert_array_equal(images[0], images[1])
    assert 1 < (images[0] - images[2]).std() < 12


def test_the_scene_stands_still_while_the_box_moves():
    joints = np.repeat(in_front(standing()), 2, axis=0)
    boxes = np.array([[500.0, 500, 960], [510.0, 520, 960]])
    images = render_crops(joints, K, boxes, looks(2, noise=0.0, blur=0), np.arange(2), SIZE)
    parts = surface(body(joints, np.ones((2, 5)) * 1.2), grid_of(boxes))[0]
    free = np.ones(2 * SIZE * SIZE, bool)
    free[parts] = False
    free = free.reshape(2, SIZE, SIZE)
    first, second = images[0, 2:, 1:], images[1, :-2, :-1]
    both = free[0, 2:, 1:] & free[1, :-2, :-1]
    np.testing.assert_array_equal(first[both], second[both])


def test_left_and_right_look_the_same():
    pose = standing()
    pose[skeleton.index("l_wrist")] = (0.1, 0.3, 0.3)
    mirrored = pose[list(skeleton.MIRROR)] * [-1, 1, 1]
    for split in ("train", "test"):
        look = looks(5, split, noise=0.0, blur=0, light=np.array([0, -0.6, -0.8]))
        turns = np.linspace(0, 4, 5)
        first, second = in_front(pose, turns), in_front(mirrored, -turns)
        boxes = np.tile([500.0, 540.0, 640.0], (5, 1))
        images, others = (render_crops(j, K, boxes, look, np.arange(5), SIZE).astype(int) for j in (first, second))
        inside, outside = (surface(body(j, np.array([look[0].girths] * 5)), grid_of(boxes))[0] for j in (first, second))
        colours, mirror = images.reshape(-1, 3)[inside], others.reshape(-1, 3)[outside]
        assert abs(len(colours) - len(mirror)) < 0.01 * len(colours)
        np.testing.assert_allclose(colours.mean(axis=0), mirror.mean(axis=0), atol=1)
        np.testing.assert_allclose(colours.std(axis=0), mirror.std(axis=0), atol=1)
        # Not only on the whole: each mirrored pixel, but for those on an edge.
        flipped = others[:, :, ::-1]
        seen = np.zeros(5 * SIZE * SIZE, bool)
        seen[inside] = True
        seen = seen.reshape(5, SIZE, SIZE)
        assert (np.abs(images - flipped)[seen].max(axis=-1) < 12).mean() > 0.85


def test_occluders_are_painted_in_front_and_nowhere_else():
    joints = in_front(standing())
    boxes = np.array([[500.0, 540.0, 640.0]])
    rectangle = np.array([[[430.0, 300.0, 560.0, 420.0], [np.nan] * 4]])
    look = looks(1, noise=0.0, blur=0)
    plain, occluded = (render_crops(joints, K, boxes, look, [0], SIZE, o)[0] for o in (None, rectangle))
    low, high = image_to_crop(rectangle[:, 0].reshape(1, 2, 2), boxes, SIZE)[0]
    row, column = np.mgrid[0:SIZE, 0:SIZE]
    covered = (column >= low[0]) & (column <= high[0]) & (row >= low[1]) & (row <= high[1])
    np.testing.assert_array_equal(plain[~covered], occluded[~covered])
    shifted = render_crops(joints + [5.0, 0, 0], K, boxes, look, [0], SIZE, rectangle)[0]
    np.testing.assert_array_equal(occluded[covered], shifted[covered])  # nothing of the person shines through


def test_a_person_behind_the_camera_or_without_joints_leaves_the_scene():
    joints = np.concatenate([in_front(standing(), distance=-3.0), in_front(standing()) + [50.0, 0, 0]])
    joints = np.concatenate([joints, np.full((1, 17, 3), np.nan)])
    boxes = np.tile([500.0, 500.0, 700.0], (3, 1))
    images = render_crops(joints, K, boxes, looks(3, noise=0.0), np.zeros(3, int), SIZE)
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[0], images[2])


def test_pinhole_joints_undo_the_lens():
    camera = Camera(K, np.eye(3), np.zeros(3), np.array([-0.2, 0.1, 0.002, -0.003, 0.0]))
    joints = in_front(standing(), [0.0, 1.0])
    distorted = project(joints, camera)
    moved = rendering.pinhole_joints(joints, distorted, K)
    np.testing.assert_allclose(pixels(moved), distorted, atol=1e-9)
    np.testing.assert_array_equal(moved[..., 2], joints[..., 2])


def make_store(path, labelled=True):
    frames = 12
    joints = in_front(standing(), np.linspace(0, 3, frames))
    occluders = np.full((frames, 1, 4), np.nan)
    occluders[3:6] = [420, 300, 600, 500]
    camera = Camera(K, np.eye(3), np.zeros(3))
    visible = np.ones((frames, 17), bool)
    visible[:, skeleton.index("spine")] = False
    views = {
        name: View("cam1", pixels(joints), visible if labelled else None, own, seed=9)
        for name, own in (("cam1", None), ("cam1_occluded", occluders))
    }
    clip = Clip("a", joints, np.ones(17, bool), "S1", "standing", 50.0, "toy", {"speed": 1.0}, {"cam1": camera}, views)
    with SequenceStore.create(path) as store:
        store.write(clip)
    return clip


PARAMS = {
    "selections": [{"source": "toy", "cameras": ["cam1"], "occluded": True}],
    "images": 30,
    "size": 64,
    "map_size": 16,
    "margin": 1.25,
    "crop_jitter": {"scale": 0.2, "shift": 0.2},
    "training_occluders": 0.5,
    "split": "train",
    "seed": 3,
}


def test_view_frames_renders_any_frames_of_a_view(tmp_path):
    clip = make_store(tmp_path / "toy.h5")
    boxes = boxes_around(clip.views["cam1"].joints2d, 1.3)
    images = rendering.view_frames(clip, "cam1", boxes, np.arange(12), 64, "test")
    some = rendering.view_frames(clip, "cam1", boxes, np.array([7, 2]), 64, "test")
    np.testing.assert_array_equal(images[[7, 2]], some)
    hidden = rendering.view_frames(clip, "cam1_occluded", boxes, np.arange(12), 64, "test")
    assert list(np.flatnonzero((hidden != images).any(axis=(1, 2, 3)))) == [3, 4, 5]


def test_the_stage_writes_labelled_images(tmp_path):
    clip = make_store(tmp_path / "toy.h5")
    rendering.render_images({"toy": tmp_path / "toy.h5"}, tmp_path / "images.h5", PARAMS)
    with h5py.File(tmp_path / "images.h5") as file:
        images, points, visible = (file[name][()] for name in ("images", "joints2d", "visible"))
        head, frame, subject = (file[name][()] for name in ("head_size", "frame", "subject"))
    assert images.shape == (30, 64, 64, 3)
    assert images.dtype == np.uint8
    assert set(subject) == {b"S1"}
    # A crop's map is a shift and a scale of the image, the same for all joints, and the head shrinks by that scale.
    original = clip.views["cam1"].joints2d[frame]
    scale = np.ptp(points[:, :, 1], axis=1) / np.ptp(original[:, :, 1], axis=1)
    expected = (original - original[:, :1]) * scale[:, None, None] + points[:, :1]
    np.testing.assert_allclose(points, expected, atol=1e-3)
    in_image = keypoints.head_size(clip.joints3d, clip.cameras["cam1"])
    np.testing.assert_allclose(head, in_image[frame] * scale, rtol=1e-4)

    assert not visible[:, skeleton.index("spine")].any()
    outside = (points < -0.5).any(axis=-1) | (points >= 15.5).any(axis=-1)
    assert outside.any()
    assert not visible[outside].any()
    own = np.isin(frame, [3, 4, 5])[:, None] & (
        (original[..., 0] > 420) & (original[..., 0] < 600) & (original[..., 1] > 300) & (original[..., 1] < 500)
    )
    assert own.any()
    assert not visible[own].any()


def test_training_occluders_hide_joints(tmp_path):
    make_store(tmp_path / "toy.h5")
    selections = [{"source": "toy", "cameras": ["cam1"]}]
    shares = []
    for share in (0.0, 1.0):
        params = PARAMS | {
            "selections": selections,
            "training_occluders": share,
            "crop_jitter": {"scale": 0, "shift": 0},
        }
        rendering.render_images({"toy": tmp_path / "toy.h5"}, tmp_path / "images.h5", params)
        with h5py.File(tmp_path / "images.h5") as file:
            shares.append(file["visible"][()].mean())
    assert shares[0] == pytest.approx(16 / 17)
    assert shares[1] < 0.93


def test_the_stage_repeats_itself_byte_for_byte(tmp_path):
    make_store(tmp_path / "toy.h5")
    for name in ("first.h5", "second.h5"):
        rendering.render_images({"toy": tmp_path / "toy.h5"}, tmp_path / name, PARAMS)
    assert (tmp_path / "first.h5").read_bytes() == (tmp_path / "second.h5").read_bytes()


def test_an_unlabelled_store_is_refused(tmp_path):
    make_store(tmp_path / "toy.h5", labelled=False)
    with pytest.raises(UserError, match=r"toy.h5: view 'toy/a/cam1_occluded' has no visibility"):
        rendering.render_images({"toy": tmp_path / "toy.h5"}, tmp_path / "images.h5", PARAMS)
    assert not (tmp_path / "images.h5").exists()
