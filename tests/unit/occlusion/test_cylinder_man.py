from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from isopose import skeleton
from isopose.camera import world_to_camera
from isopose.datasets.studio import Studio, place_cameras
from isopose.datasets.synthetic import ACTIONS, generate
from isopose.occlusion.cylinder_man import PARTS, visibility

PROJECTIONS = ("perspective", "orthographic")

# Offset of each joint from its parent in a standing person, metres, camera frame (y down).
OFFSETS = np.array(
    [(0, 0, 0), (-0.13, 0, 0), (0, 0.45, 0), (0, 0.42, 0), (0.13, 0, 0), (0, 0.45, 0), (0, 0.42, 0), (0, -0.24, 0)]
    + [(0, -0.25, 0), (0, -0.1, -0.05), (0, -0.12, 0.05)]
    + [(0.16, 0.02, 0), (0.1, 0.26, 0), (0, 0.25, 0), (-0.16, 0.02, 0), (-0.1, 0.26, 0), (0, 0.25, 0)]
)


def random_people(count, seed=0):
    """Poses (count, 17, 3), m, camera frame: limbs bent by up to about a radian, turned all ways, 3 to 6 m away."""
    rng = np.random.default_rng(seed)
    spread = np.where(np.isin(np.arange(17), [2, 3, 5, 6, 12, 13, 15, 16]), 0.8, 0.15)
    local = Rotation.from_rotvec((rng.normal(size=(count, 17, 3)) * spread[:, None]).reshape(-1, 3))
    matrices = local.as_matrix().reshape(count, 17, 3, 3)
    heading = Rotation.from_euler("yx", np.c_[rng.uniform(-np.pi, np.pi, count), rng.normal(0, 0.2, count)])
    turned, joints = matrices.copy(), np.zeros((count, 17, 3))
    turned[:, 0] = heading.as_matrix()
    joints[:, 0] = np.c_[rng.uniform(-1, 1, (count, 2)), rng.uniform(3, 6, count)]
    for parent, child in skeleton.BONES:
        turned[:, child] = turned[:, parent] @ matrices[:, child]
        joints[:, child] = joints[:, parent] + turned[:, child] @ OFFSETS[child]
    return joints


def radius_of(part, joints):
    if part.radius is not None:
        return part.radius
    shoulders = [joints[skeleton.index(name)] for name in ("l_shoulder", "r_shoulder")]
    return np.mean([np.linalg.norm(joints[skeleton.index("thorax")] - shoulder) for shoulder in shoulders])


def project(points, projection):
    return points[..., :2] / points[..., 2:] if projection == "perspective" else points[..., :2]


def in_convex(point, corners):
    """Whether a point of the image lies in a convex polygon given by its corners in order."""
    sides = np.roll(corners, -1, axis=0) - corners
    gaps = point - corners
    cross = sides[:, 0] * gaps[:, 1] - sides[:, 1] * gaps[:, 0]
    return (cross > 0).all() or (cross < 0).all()


def flat_section(part, joints, projection):
    """Corners A, B, C, D (4, 3) of a part's flat section and the normal of their plane, toward the camera."""
    start, end = joints[part.start], joints[part.end]
    sight = start + end if projection == "perspective" else np.array([0.0, 0.0, 1.0])
    across = np.cross(end - start, sight)
    across *= radius_of(part, joints) / np.linalg.norm(across)
    corners = np.stack([start + across, start - across, end - across, end + across])
    normal = np.cross(end - start, across)
    toward_camera = normal @ -start > 0 if projection == "perspective" else normal[2] < 0
    return corners, normal if toward_camera else -normal


def brute_force(joints, projection):
    """Eq. 7 joint by joint: corners A, B, C, D projected to the image, then the side of their plane."""
    visible = np.ones(17, bool)
    for part in PARTS:
        start = joints[part.start]
        corners, normal = flat_section(part, joints, projection)
        for joint in set(range(17)) - set(part.members):
            inside = in_convex(project(joints[joint], projection), project(corners, projection))
            if inside and (joints[joint] - start) @ normal <= 0:
                visible[joint] = False
    return visible


def entered_before(start, end, radius, points, projection):
    """Whether the line of sight meets the solid cylinder before each point (P, 3), by intersection in float64."""
    axis = end - start
    length = np.linalg.norm(axis)
    axis = axis / length
    sight = points / np.linalg.norm(points, axis=-1, keepdims=True) if projection == "perspective" else [[0, 0, 1.0]]
    sight = np.broadcast_to(sight, points.shape)
    origin = np.zeros_like(points) if projection == "perspective" else points * [1, 1, 0]
    reach = ((points - origin) * sight).sum(-1)
    along, from_start = sight @ axis, (origin - start) @ axis
    side, offset = sight - along[:, None] * axis, (origin - start) - from_start[:, None] * axis
    a, b, c = (side**2).sum(-1), (side * offset).sum(-1), (offset**2).sum(-1) - radius**2
    root = np.sqrt(np.maximum(b**2 - a * c, 0))
    with np.errstate(divide="ignore", invalid="ignore"):  # a cylinder square to the line of sight
        near = np.maximum((-b - root) / a, np.minimum(-from_start / along, (length - from_start) / along))
        far = np.minimum((-b + root) / a, np.maximum(-from_start / along, (length - from_start) / along))
    return (b**2 > a * c) & (near < far) & (near < reach)


def ray_cast(joints, projection):
    """What a z-buffer of the ten solid cylinders shows at each joint; as in Eq. 7, a part does not hide its members."""
    visible = np.ones(17, bool)
    for part in PARTS:
        others = [joint for joint in range(17) if joint not in part.members]
        ends = joints[part.start], joints[part.end]
        visible[others] &= ~entered_before(*ends, radius_of(part, joints), joints[others], projection)
    return visible


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_equals_a_loop_over_joints(projection):
    people = random_people(150)
    expected = np.stack([brute_force(joints, projection) for joints in people])
    assert 0.05 < 1 - expected.mean() < 0.5
    np.testing.assert_array_equal(visibility(people, projection=projection), expected)


def moving_people(fps):
    """Synthetic motion as two cameras see it: joints (F, 17, 3), m, camera frame, of each action and camera."""
    for action in ACTIONS:
        world = generate("S1", action, 1.0, 6.0, fps, seed=3)
        for camera in place_cameras(world, ["cam1", "cam2"], "S1", 0, Studio()).values():
            yield world_to_camera(world, camera)


@pytest.fixture(scope="module")
def people():
    """Realistic poses (F, 17, 3), of all synthetic actions, and unlikely ones."""
    return {"motion": np.concatenate(list(moving_people(fps=5))), "random": random_people(500, seed=1)}


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize(("kind", "least_recall"), [("motion", 0.88), ("random", 0.74)])
def test_agrees_with_solid_cylinders(people, kind, least_recall, projection, record_property):
    hidden = ~visibility(people[kind], projection=projection)
    truth = ~np.stack([ray_cast(joints, projection) for joints in people[kind]])
    precision, recall = (hidden & truth).sum() / hidden.sum(), (hidden & truth).sum() / truth.sum()
    record_property("precision", float(precision))
    record_property("recall", float(recall))
    print(f"{kind}, {projection}: precision {precision:.4f}, recall {recall:.3f} of {truth.sum()} hidden joints")
    assert precision == 1  # the flat section lies inside the cylinder
    assert recall > least_recall


def reason_missed(part, joint, joints, projection):
    """Why the flat section misses a joint that the solid cylinder hides."""
    start, bone = joints[part.start], joints[part.end] - joints[part.start]
    corners, normal = flat_section(part, joints, projection)
    if (joints[joint] - start) @ normal > 0:
        return "in the front half"
    sight = joints[joint] if projection == "perspective" else np.array([0.0, 0.0, 1.0])
    met = joints[joint] + sight * ((start - joints[joint]) @ normal) / (sight @ normal)
    if not 0 < (met - start) @ bone < bone @ bone:
        return "beyond the round end"
    return "hidden" if in_convex(project(joints[joint], projection), project(corners, projection)) else "beside"


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("kind", ["motion", "random"])
def test_what_the_flat_section_misses_is_in_the_front_half_or_beyond_the_round_end(people, kind, projection):
    reasons = Counter()
    for joints in people[kind][::2]:
        for part in PARTS:
            others = np.array([joint for joint in range(17) if joint not in part.members])
            solid = entered_before(
                joints[part.start], joints[part.end], radius_of(part, joints), joints[others], projection
            )
            reasons.update(reason_missed(part, joint, joints, projection) for joint in others[solid])
    print(f"{kind}, {projection}: {dict(reasons)}")
    assert reasons.keys() == {"hidden", "in the front half", "beyond the round end"}
    if kind == "motion":  # joints of real people are seldom inside their own body
        assert reasons["in the front half"] < 0.02 * reasons["hidden"]
        assert reasons["beyond the round end"] < 0.2 * reasons["hidden"]


def standing_person():
    """Joints (17, 3), m, camera frame, facing the camera from 4 m; the arms are too far out to hide anything."""
    joints = np.zeros((17, 3))
    for parent, child in skeleton.BONES:
        joints[child] = joints[parent] + OFFSETS[child] * [1.2, 1, 1]
    return joints + [0, 0, 4]


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize(
    ("depth", "by_section", "by_solid"),
    [(-1.5, True, True), (-0.5, True, False), (0.5, False, False), (1.5, False, False)],
    ids=["before the torso", "in its front half", "in its back half", "behind it"],
)
def test_a_joint_in_the_front_half_of_a_cylinder_stays_visible(projection, depth, by_section, by_solid):
    """A wrist at a depth of so many radii from the torso's axis: only the front half is told apart."""
    joints = standing_person()
    torso, wrist = PARTS[1], skeleton.index("r_wrist")
    middle = (joints[torso.start] + joints[torso.end]) / 2
    joints[wrist] = middle + [0, 0, depth * radius_of(torso, joints)]
    assert visibility(joints, projection=projection)[wrist] == by_section
    assert ray_cast(joints, projection)[wrist] == by_solid


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize(
    ("beyond", "by_section", "by_solid"),
    [(-0.02, False, False), (0.02, True, False), (0.06, True, True)],
    ids=["within the rectangle", "beyond the round end", "clear of the cylinder"],
)
def test_a_joint_behind_the_round_end_of_a_cylinder_stays_visible(projection, beyond, by_section, by_solid):
    """The left shin slopes toward the camera by 45 degrees, so that its end, a disc, shows up to 3.5 cm further down.

    The right ankle lies behind it, so many metres below the left ankle in the image.
    """
    joints = standing_person()
    knee, near, far = (skeleton.index(name) for name in ("l_knee", "l_ankle", "r_ankle"))
    joints -= joints[knee] * [1, 1, 0]  # the knee on the camera's axis: both projections see nearly the same
    joints[near] = joints[knee] + [0, 0.3, -0.3]
    at_depth_of_end = joints[near] + [0, beyond, 0]
    joints[far] = at_depth_of_end * 1.2 if projection == "perspective" else at_depth_of_end + [0, 0, 0.7]
    assert visibility(joints, projection=projection)[far] == by_section
    assert ray_cast(joints, projection)[far] == by_solid


def label_changes(joints, fps, projection):
    """Label changes a joint a second of motion (F, 17, 3)."""
    visible = visibility(joints, projection=projection)
    return (visible[1:] != visible[:-1]).sum() / 17 / (len(joints) / fps)


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_labels_of_smooth_motion_do_not_flicker(projection, record_property):
    """Smooth motion seen four times as often has no more changes; with noise of 3 mm there would be twice as many."""
    clips = list(moving_people(fps=200))
    noise = np.random.default_rng(0).normal(0, 0.003, clips[0].shape)
    rates, noisy = (
        [float(np.mean([label_changes(clip[::step], 200 / step, projection) for clip in motion])) for step in (4, 1)]
        for motion in (clips, [clip + noise for clip in clips])
    )
    record_property("changes a joint a second at 50 and 200 fps", rates)
    print(f"{projection}: changes a joint a second at 50 and 200 fps {rates}, with noise {noisy}")
    assert rates[1] < 1.08 * rates[0]  # what 50 fps leaves out: occlusions of less than 20 ms
    assert noisy[1] > 2 * noisy[0]


def test_a_joint_behind_a_limb_is_hidden_and_one_before_it_is_not():
    joints = random_people(1, seed=2)[0]
    knee, ankle, wrist = (skeleton.index(name) for name in ("l_knee", "l_ankle", "r_wrist"))
    middle = (joints[knee] + joints[ankle]) / 2
    for depth, expected in ((1.1, False), (0.9, True)):
        joints[wrist] = depth * middle
        assert visibility(joints)[wrist] == expected


def test_parts_and_their_members():
    names = {part.name: {skeleton.JOINTS[member] for member in part.members} for part in PARTS}
    assert len(names) == 10
    assert names["torso"] == {"pelvis", "l_hip", "r_hip", "spine", "thorax", "l_shoulder", "r_shoulder"}
    assert names["head"] == {"thorax", "neck", "head"}
    assert all(len(members) == 2 for name, members in names.items() if name not in ("torso", "head"))


def test_a_standing_person_seen_from_the_front_hides_nothing():
    assert visibility(standing_person()).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31 - 1), st.floats(-50, 50))
def test_orthographic_labels_do_not_depend_on_depth(seed, depth):
    people = random_people(20, seed)
    expected = visibility(people, projection="orthographic")
    np.testing.assert_array_equal(visibility(people + [0, 0, depth], projection="orthographic"), expected)
    soft = [visibility(p, form="soft", projection="orthographic") for p in (people, people + [0, 0, depth])]
    np.testing.assert_allclose(*soft, atol=1e-9)


def test_perspective_tends_to_orthographic_far_away():
    people = random_people(200, seed=5)
    people -= people[:, :1]
    near = visibility(people, projection="orthographic")
    assert (visibility(people + [0, 0, 1e4]) == near).mean() > 0.999


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_soft_form_tends_to_the_hard_one(projection):
    people = random_people(200, seed=6)
    hard = visibility(people, projection=projection)
    errors = [
        np.abs(visibility(people, form="soft", slope=slope, projection=projection) - hard).mean()
        for slope in (30.0, 300.0, 1e5)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 2e-3


@pytest.mark.parametrize("form", ["hard", "soft"])
def test_torch_and_numpy_agree_over_any_leading_shape(form):
    people = random_people(12, seed=7)
    expected = visibility(people, form=form)
    result = visibility(torch.from_numpy(people.reshape(3, 4, 17, 3)), form=form)
    assert result.shape == (3, 4, 17)
    np.testing.assert_allclose(result.numpy().reshape(12, 17), expected, atol=1e-12)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("slope", [20.0, 100.0])
def test_gradient_of_the_soft_form_by_differences(projection, slope):
    pose = torch.from_numpy(random_people(3, seed=8)).requires_grad_(True)
    options = {"form": "soft", "slope": slope, "projection": projection}
    (gradient,) = torch.autograd.grad(visibility(pose, **options).sum(), pose)
    assert gradient.abs().amax((1, 2)).min() > 0.1
    assert torch.autograd.gradcheck(lambda joints: visibility(joints, **options), (pose,), eps=1e-7, fast_mode=True)


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_bones_without_length_and_limbs_along_the_line_of_sight_hide_nothing(projection):
    """What a limb shows to the camera is then a line, or nothing: its round end does not hide the wrist."""
    point = np.broadcast_to([0.2, 0.1, 3.0], (17, 3)).copy()
    straight = standing_person()
    knee, ankle, wrist = (skeleton.index(name) for name in ("l_knee", "l_ankle", "r_wrist"))
    away = straight[knee] * 0.1 if projection == "perspective" else np.array([0, 0, 0.4])
    straight[ankle] = straight[knee] + away
    straight[wrist] = straight[knee] + 2 * away + [0, 0.02, 0]
    assert visibility(point, projection=projection).all()
    assert visibility(straight, projection=projection)[wrist]
    for joints in (point, straight):
        pose = torch.from_numpy(joints).requires_grad_(True)
        soft = visibility(pose, form="soft", projection=projection)
        soft.sum().backward()
        assert soft.isfinite().all() and pose.grad.isfinite().all()


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_joints_that_cannot_be_labelled_are_told(kind):
    people = random_people(3, seed=9)
    with pytest.raises(ValueError, match=r"joints: shape \(3, 16, 3\); expected \(..., 17, 3\)"):
        visibility(kind(people[:, :16]))
    with pytest.raises(ValueError, match=r"joints: shape \(3, 3, 17\); expected \(..., 17, 3\)"):
        visibility(kind(people.swapaxes(1, 2)))
    relative = people - people[:, :1]
    with pytest.raises(ValueError, match=r"joints: \d+ of 51 points are not before the camera; expected camera-frame"):
        visibility(kind(relative))
    assert visibility(kind(relative), projection="orthographic").shape == (3, 17)
    people[1, 4] = np.nan  # would be taken for visible
    with pytest.raises(ValueError, match=r"joints: 3 of 153 numbers are NaN or infinite"):
        visibility(kind(people))


def test_no_frames_and_unknown_names():
    assert visibility(np.empty((0, 17, 3))).shape == (0, 17)
    with pytest.raises(ValueError, match="isometric"):
        visibility(np.zeros((1, 17, 3)), projection="isometric")
