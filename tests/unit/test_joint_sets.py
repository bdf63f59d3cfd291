from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isopose import joint_sets
from isopose.datasets import body_shape
from isopose.heatmaps import decode, render
from isopose.joint_sets import COCO, HUMAN36M, MPII
from isopose.skeleton import JOINTS, MIRROR, index

DOCS = Path(__file__).parents[2] / "docs/joint_sets.md"
SETS = pytest.mark.parametrize("joint_set", [HUMAN36M, MPII, COCO], ids=lambda joint_set: joint_set.name)
FOREIGN = pytest.mark.parametrize("joint_set", [MPII, COCO], ids=lambda joint_set: joint_set.name)

# As the data sets and the authors of pose_hrnet number and pair them.
MPII_ORDER = (
    "r_ankle r_knee r_hip l_hip l_knee l_ankle pelvis thorax upper_neck head_top "
    "r_wrist r_elbow r_shoulder l_shoulder l_elbow l_wrist"
)
MPII_PAIRS = [(0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)]
COCO_ORDER = (
    "nose l_eye r_eye l_ear r_ear l_shoulder r_shoulder l_elbow r_elbow l_wrist r_wrist "
    "l_hip r_hip l_knee r_knee l_ankle r_ankle"
)
COCO_PAIRS = [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)]

LIMBS = [name for name in JOINTS if name.startswith(("l_", "r_"))]


def by_name(joint_set, values, axis):
    """Values of each source joint, and a way to look up those of a joint of the skeleton."""
    return {name: np.take(values, i, axis) for i, name in enumerate(joint_set.joints)}


@pytest.mark.parametrize(
    ("joint_set", "order", "pairs"), [(MPII, MPII_ORDER, MPII_PAIRS), (COCO, COCO_ORDER, COCO_PAIRS)]
)
def test_orders_and_pairs_are_the_published_ones(joint_set, order, pairs):
    assert list(joint_set.joints) == order.split()
    expected = list(range(len(joint_set.joints)))
    for a, b in pairs:
        expected[a], expected[b] = b, a
    assert list(joint_set.mirror) == expected


def test_mirror_of_the_skeleton_is_its_own():
    assert HUMAN36M.mirror == MIRROR


@SETS
def test_every_joint_has_a_rule_that_says_what_it_is(joint_set):
    assert set(joint_set.rules) == set(JOINTS)
    for rule in joint_set.rules.values():
        assert set(rule.weights) <= set(joint_set.joints)
        assert sum(rule.weights.values()) == pytest.approx(1)
        assert rule.kind == ("exact" if len(rule.weights) == 1 else "derived")


@pytest.mark.parametrize(
    ("joint_set", "derived"),
    [(HUMAN36M, set()), (MPII, {"spine", "neck"}), (COCO, {"pelvis", "spine", "thorax", "head"})],
)
def test_what_is_derived(joint_set, derived):
    assert {name for name, rule in joint_set.rules.items() if rule.kind == "derived"} == derived


@pytest.mark.parametrize("dimensions", [2, 3])
def test_mpii_keypoints_by_hand(dimensions):
    points = np.random.default_rng(0).normal(size=(2, 5, 16, dimensions))
    found = MPII.keypoints(points)
    assert found.shape == (2, 5, 17, dimensions)
    p = by_name(MPII, points, -2)
    expected = {name: p[name] for name in (*LIMBS, "pelvis", "thorax")} | {"head": p["head_top"]}
    expected["spine"] = p["pelvis"] + 0.476 * (p["thorax"] - p["pelvis"])
    expected["neck"] = p["upper_neck"] + (p["head_top"] - p["upper_neck"]) / 3
    for name in JOINTS:
        np.testing.assert_allclose(found[..., index(name), :], expected[name], atol=1e-12, err_msg=name)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_coco_keypoints_by_hand(dimensions):
    points = np.random.default_rng(1).normal(size=(2, 5, 17, dimensions))
    found = COCO.keypoints(points)
    p = by_name(COCO, points, -2)
    expected = {name: p[name] for name in LIMBS} | {"neck": p["nose"]}
    expected["pelvis"] = (p["l_hip"] + p["r_hip"]) / 2
    expected["thorax"] = (p["l_shoulder"] + p["r_shoulder"]) / 2
    expected["spine"] = expected["pelvis"] + 0.476 * (expected["thorax"] - expected["pelvis"])
    ears = (p["l_ear"] + p["r_ear"]) / 2
    expected["head"] = ears + 130 / 213 * (ears - expected["thorax"])
    for name in JOINTS:
        np.testing.assert_allclose(found[..., index(name), :], expected[name], atol=1e-12, err_msg=name)


def test_proportions_are_those_of_the_bodies():
    assert joint_sets.SPINE == body_shape.SPINE_SHARE
    ratio = body_shape.DIMENSIONS["head"].mean / body_shape.DIMENSIONS["neck"].mean
    assert pytest.approx(ratio) == joint_sets.CROWN


@FOREIGN
def test_confidence_of_a_derived_joint_is_the_smallest_of_its_sources(joint_set):
    values = np.random.default_rng(2).random((4, len(joint_set.joints)))
    found = joint_set.confidence(values)
    value = by_name(joint_set, values, -1)
    for name in JOINTS:
        least = np.minimum.reduce([value[source] for source in joint_set.rules[name].weights])
        np.testing.assert_array_equal(found[:, index(name)], least)


def test_a_derived_joint_is_visible_where_all_its_sources_are():
    visible = np.ones((2, 17), bool)
    visible[1, COCO.joints.index("r_hip")] = False
    found = COCO.confidence(visible)
    assert found.dtype == bool and found[0].all()
    assert {JOINTS[i] for i in np.flatnonzero(~found[1])} == {"r_hip", "pelvis", "spine"}


@FOREIGN
def test_a_joint_knows_nothing_of_others(joint_set):
    points = np.zeros((len(joint_set.joints), 2))
    points[joint_set.joints.index("l_wrist")] = np.nan
    assert [JOINTS[i] for i in np.flatnonzero(np.isnan(joint_set.keypoints(points)).any(-1))] == ["l_wrist"]


@SETS
def test_mapping_and_mirroring_may_be_exchanged(joint_set):
    points = np.random.default_rng(3).normal(size=(6, len(joint_set.joints), 2))
    mirror = list(joint_set.mirror)
    mapped = joint_set.keypoints(points)
    np.testing.assert_allclose(joint_set.keypoints(points[:, mirror]), mapped[:, MIRROR], atol=1e-12)
    confidence = joint_set.confidence(points[..., 0])
    np.testing.assert_array_equal(joint_set.confidence(points[:, mirror, 0]), confidence[:, MIRROR])


@SETS
def test_numpy_and_torch_alike(joint_set):
    count = len(joint_set.joints)
    maps = np.random.default_rng(4).random((2, count, 12, 10)).astype(np.float32)
    for method, values in (("keypoints", maps[..., 0, :2]), ("confidence", maps[..., 0, 0]), ("heatmaps", maps)):
        ours, theirs = getattr(joint_set, method)(values), getattr(joint_set, method)(torch.from_numpy(values.copy()))
        assert isinstance(ours, np.ndarray) and isinstance(theirs, torch.Tensor)
        assert ours.dtype == np.float32 and theirs.dtype == torch.float32
        np.testing.assert_array_equal(ours, theirs.numpy())


def test_the_skeleton_maps_to_itself_bit_for_bit():
    maps = np.random.default_rng(5).normal(size=(3, 17, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(HUMAN36M.heatmaps(maps), maps)
    np.testing.assert_array_equal(HUMAN36M.keypoints(maps[..., 0, :2]), maps[..., 0, :2])
    np.testing.assert_array_equal(HUMAN36M.confidence(maps[..., 0, 0]), maps[..., 0, 0])


@settings(deadline=None, max_examples=40)
@given(st.sampled_from([MPII, COCO]), st.integers(0, 2**31 - 1), st.sampled_from([(24, 1.25), (64, 2.0)]))
def test_decoding_mapped_heatmaps_is_mapping_decoded_keypoints(joint_set, seed, grid):
    rng = np.random.default_rng(seed)
    size, sigma = grid
    # Far enough from the edge that no derived place, the extrapolated top of the head included, leaves the map.
    points = rng.uniform(0.38 * size, 0.62 * size, (3, len(joint_set.joints), 2))
    maps = render(points, size, sigma) * rng.uniform(0.1, 1, points.shape[:2])[..., None, None]
    maps += rng.uniform(-0.01, 0.01, maps.shape)
    keypoints, confidence = decode(maps)
    decoded, heights = decode(joint_set.heatmaps(maps))
    assert np.abs(decoded - joint_set.keypoints(keypoints)).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(heights, joint_set.confidence(confidence))
    exact = [index(name) for name, rule in joint_set.rules.items() if rule.kind == "exact"]
    np.testing.assert_array_equal(decoded[:, exact], joint_set.keypoints(keypoints)[:, exact])


def test_a_map_between_two_equal_gaussians_is_that_gaussian():
    points = np.full((17, 2), 16.0)
    points[[COCO.joints.index("l_hip"), COCO.joints.index("r_hip")]] = [[18, 12], [10, 20]]
    pelvis = COCO.heatmaps(render(points, 32, 2.0))[index("pelvis")]
    np.testing.assert_allclose(pelvis[6:-6, 6:-6], render(np.array([14.0, 16.0]), 32, 2.0)[6:-6, 6:-6], atol=1e-12)


def test_a_source_on_the_border_leaves_nothing_behind_when_it_moves():
    points = np.full((17, 2), 16.0)
    points[[COCO.joints.index("l_hip"), COCO.joints.index("r_hip")]] = [[0, 31], [20, 1]]
    pelvis = COCO.heatmaps(render(points, 32, 1.5))[index("pelvis")]
    assert decode(pelvis)[0].tolist() == [10.25, 16 - 0.25]  # cut off left and below, so shifted right and up
    assert not pelvis[:, :10].any() and not pelvis[17:].any()


def test_a_second_mode_of_one_source_alone_is_not_derived():
    maps = render(np.full((17, 2), 16.0), 32, 1.5)
    maps[COCO.joints.index("l_hip")] += 0.8 * render(np.array([26.0, 16.0]), 32, 1.5)
    mapped = COCO.heatmaps(maps)
    assert mapped[index("l_hip"), 16, 26] > 0.79
    np.testing.assert_allclose(mapped[index("pelvis")], maps[COCO.joints.index("r_hip")], atol=1e-6)


def test_a_place_outside_the_map_has_no_peak_inside():
    points = np.full((17, 2), 16.0)
    points[: COCO.joints.index("r_ear") + 1, 1] = 2  # the top of the head is then 6.5 px above the map
    maps = render(points, 32, 1.5)
    assert COCO.keypoints(decode(maps)[0])[index("head")][1] < -6
    assert COCO.heatmaps(maps)[index("head")].max() < 1e-3


@FOREIGN
def test_another_number_of_joints_is_refused(joint_set):
    for call, shape in (("keypoints", (15, 2)), ("confidence", (15,)), ("heatmaps", (15, 8, 8))):
        with pytest.raises(ValueError, match=f"is not the {len(joint_set.joints)} joints of {joint_set.name}"):
            getattr(joint_set, call)(np.zeros(shape))


def described(rule):
    if rule.kind == "exact":
        return f"{next(iter(rule.weights))} | exact"
    terms = " + ".join(f"{weight:.3f} {name}" for name, weight in rule.weights.items())
    return f"{terms.replace('+ -', '- ')} | derived"


def test_the_documented_table_is_the_data():
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| ") and line.split()[1] in JOINTS]
    assert rows == [f"| {name} | {described(MPII.rules[name])} | {described(COCO.rules[name])} |" for name in JOINTS]
    for joint_set in (MPII, COCO):
        assert ", ".join(joint_set.joints) in " ".join(DOCS.read_text().split())
