import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from isopose import skeleton
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


def brute_force(joints, projection):
    """Eq. 7 joint by joint: corners A, B, C, D projected to the image, then the side of their plane."""
    visible = np.ones(17, bool)
    for part in PARTS:
        start, end = joints[part.start], joints[part.end]
        sight = start + end if projection == "perspective" else np.array([0.0, 0.0, 1.0])
        across = np.cross(end - start, sight)
        across *= radius_of(part, joints) / np.linalg.norm(across)
        corners = np.stack([start + across, start - across, end - across, end + across])
        normal = np.cross(end - start, across)
        toward_camera = normal @ -start > 0 if projection == "perspective" else normal[2] < 0
        normal = normal if toward_camera else -normal
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


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_agrees_with_solid_cylinders(projection, record_property):
    people = random_people(500, seed=1)
    hidden = ~visibility(people, projection=projection)
    truth = ~np.stack([ray_cast(joints, projection) for joints in people])
    precision = (hidden & truth).sum() / hidden.sum()
    recall = (hidden & truth).sum() / truth.sum()
    record_property("precision", precision)
    record_property("recall", recall)
    print(f"{projection}: precision {precision:.3f}, recall {recall:.3f}, agreement {(hidden == truth).mean():.3f}")
    # The rectangle misses joints that lie in the front half of a cylinder, and the two round ends.
    assert precision > 0.95
    assert recall > 0.7


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
    joints = np.zeros((17, 3))
    for parent, child in skeleton.BONES:
        joints[child] = joints[parent] + OFFSETS[child] * [1.2, 1, 1]
    assert visibility(joints + [0, 0, 4]).all()


def test_orthographic_labels_do_not_depend_on_depth():
    people = random_people(200, seed=4)
    expected = visibility(people, projection="orthographic")
    np.testing.assert_array_equal(visibility(people + [0, 0, 7.5], projection="orthographic"), expected)


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


def test_soft_form_is_differentiable():
    pose = torch.from_numpy(random_people(1, seed=8)).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda joints: visibility(joints, form="soft", slope=20.0), (pose,), fast_mode=True)


def test_no_frames_and_unknown_names():
    assert visibility(np.empty((0, 17, 3))).shape == (0, 17)
    with pytest.raises(ValueError, match="isometric"):
        visibility(np.zeros((1, 17, 3)), projection="isometric")
