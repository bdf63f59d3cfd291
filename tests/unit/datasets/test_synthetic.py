import numpy as np
import pytest

from isopose.datasets import synthetic
from isopose.datasets.body_shape import sample_body
from isopose.datasets.sources import Request
from isopose.errors import UserError
from isopose.skeleton import BONES, index

ACTIONS = list(synthetic.ACTIONS)


def clip(action, subject="S1", speed=1.0, seconds=4.0, seed=3):
    return synthetic.generate(subject, action, speed, seconds, 50, seed)


def forward_of(joints):
    """Unit vector (F, 2) that the hips face: left turned clockwise, seen from above."""
    left = joints[:, index("l_hip"), :2] - joints[:, index("r_hip"), :2]
    left /= np.linalg.norm(left, axis=-1, keepdims=True)
    return np.stack([left[:, 1], -left[:, 0]], axis=-1)


@pytest.mark.parametrize("action", ACTIONS)
def test_bones_have_the_subjects_lengths(action):
    joints = clip(action, subject="S4")
    assert joints.shape == (200, 17, 3)
    lengths = np.stack([np.linalg.norm(joints[:, b] - joints[:, a], axis=-1) for a, b in BONES], axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(sample_body("S4").bone_lengths, lengths.shape), atol=1e-9)


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_goes_through_the_floor_or_floats(action):
    joints = clip(action)
    assert joints[..., 2].min() > 0.0
    lowest = joints[..., 2].min(axis=1)
    assert np.percentile(lowest, 20) < 0.09  # something carries the weight most of the time


@pytest.mark.parametrize("action", [name for name in ACTIONS if name not in ("jogging", "jumping", "kicking")])
def test_speeds_are_human(action):
    speed = np.linalg.norm(np.diff(clip(action), axis=0), axis=-1) * 50
    assert speed.max() < 12  # a fast punch


@pytest.mark.parametrize("action", ACTIONS)
def test_clamped_angles_lie_within_the_limits(action):
    motion = synthetic._Motion(np.arange(300) / 50, np.random.default_rng(1), synthetic._style("S1", 0))
    pose = synthetic.clamp(synthetic._hip_angles(synthetic.ACTIONS[action](motion)))
    for name, value in pose.items():
        assert name in synthetic.ANGLES
        low, high = synthetic.JOINT_LIMITS[name.removeprefix("r_").removeprefix("l_")]
        assert low <= np.min(value) and np.max(value) <= high


@pytest.mark.parametrize("action", [name for name in ACTIONS if name != "wide"])
def test_measured_knees_and_elbows_bend_the_human_way_and_no_further_than_their_limits(action):
    joints = clip(action)
    forward = forward_of(joints)
    for side in "rl":
        hip, knee, ankle = (joints[:, index(f"{side}_{name}")] for name in ("hip", "knee", "ankle"))
        bulge = (knee - (hip + ankle) / 2)[:, :2]
        assert np.percentile((bulge * forward).sum(axis=-1), 2) > -0.04  # in front of the hip-ankle line
        thigh, shin = knee - hip, ankle - knee
        cosine = (thigh * shin).sum(-1) / np.linalg.norm(thigh, axis=-1) / np.linalg.norm(shin, axis=-1)
        assert np.degrees(np.arccos(cosine.min())) <= synthetic.JOINT_LIMITS["knee_flexion"][1] + 1e-6


def test_left_is_left_and_forward_is_forward():
    body = sample_body("S1")
    pose = {"r_hip_flexion": 90.0, "l_shoulder_abduction": 90.0, "r_elbow_flexion": 90.0, "pelvis_turn": 0.0}
    joints = synthetic.pose_body(pose, np.zeros(1), body)[0]
    assert joints[index("l_hip"), 1] > 0 > joints[index("r_hip"), 1]  # facing +x, left is +y
    assert joints[index("r_knee"), 0] > 0.3
    assert joints[index("l_wrist"), 1] > 0.6
    assert joints[index("r_wrist"), 0] - joints[index("r_elbow"), 0] > 0.2
    turned = synthetic.pose_body(pose, np.full(1, 90.0), body)[0]
    np.testing.assert_allclose(turned, joints @ [[0, 1, 0], [-1, 0, 0], [0, 0, 1]], atol=1e-12)


@pytest.mark.parametrize(("action", "low", "high"), [("walking", 0.7, 1.8), ("jogging", 1.2, 3.5)])
def test_locomotion_goes_forward_at_a_human_speed_on_planted_feet(action, low, high):
    joints = clip(action, seconds=6)
    velocity = np.diff(joints[:, 0, :2], axis=0) * 50
    forward = (velocity * forward_of(joints)[1:]).sum(axis=-1)
    assert low < forward.mean() < high
    ankles = joints[:, [index("r_ankle"), index("l_ankle")]]
    stance = ankles[1:, :, 2].argmin(axis=1)
    slide = np.linalg.norm(np.diff(ankles[..., :2], axis=0), axis=-1)[np.arange(len(stance)), stance] * 50
    assert np.median(slide) < 0.15 * forward.mean()


def test_walking_covers_the_published_ranges():
    """Winter (2009): the knee bends about 60 degrees in swing; Murray (1964): a stride takes about a second."""
    joints = clip("walking", seconds=8)
    thigh = joints[:, index("r_knee")] - joints[:, index("r_hip")]
    shin = joints[:, index("r_ankle")] - joints[:, index("r_knee")]
    cosine = (thigh * shin).sum(-1) / np.linalg.norm(thigh, axis=-1) / np.linalg.norm(shin, axis=-1)
    knee = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    assert 45 < knee.max() < 80
    spectrum = np.abs(np.fft.rfft(knee - knee.mean(), 4000))
    assert 0.75 < np.fft.rfftfreq(4000, 1 / 50)[spectrum.argmax()] < 1.2


def test_wide_poses_are_wider_than_those_of_the_actions():
    def spread(actions):
        """Total variance, m^2, of the root-relative joints seen from the body's own front."""
        poses = np.concatenate([clip(action, seed=seed)[::20] for action in actions for seed in range(4)])
        forward = forward_of(poses)
        relative = poses - poses[:, :1]
        ahead = (relative[..., :2] * forward[:, None]).sum(axis=-1)
        left = (relative[..., :2] * np.stack([-forward[:, 1], forward[:, 0]], axis=-1)[:, None]).sum(axis=-1)
        return np.stack([ahead, left, relative[..., 2]]).var(axis=1).sum()

    assert spread(["wide"]) > 1.5 * spread([name for name in ACTIONS if name != "wide"])


def test_seed_subject_and_speed_matter_and_repeat():
    base = clip("reaching")
    np.testing.assert_array_equal(base, clip("reaching"))
    assert np.abs(base - clip("reaching", seed=4)).max() > 0.1
    assert np.abs(base - clip("reaching", subject="S2")).max() > 0.02
    fast = clip("reaching", speed=2.0, seconds=2.0)  # the same motion in half the time
    slow = clip("reaching")
    np.testing.assert_allclose(fast[:, 5] - fast[:, 0], slow[::2, 5] - slow[::2, 0], atol=0.1)
    assert (
        np.linalg.norm(np.diff(clip("boxing", speed=2.0), axis=0), axis=-1).mean()
        > 1.4 * np.linalg.norm(np.diff(clip("boxing"), axis=0), axis=-1).mean()
    )


def test_a_jump_leaves_the_floor_on_a_parabola():
    joints = clip("jumping", seconds=6)
    lowest = joints[:, [3, 6], 2].min(axis=1)
    flying = lowest > 0.12
    assert flying.any()
    run = np.split(np.flatnonzero(flying), np.flatnonzero(np.diff(np.flatnonzero(flying)) > 1) + 1)
    assert all(0.06 < len(frames) / 50 < 0.6 for frames in run)


def test_read_clips_names_and_attributes():
    request = Request(
        fps=25, subjects=["S1"], actions=["waving"], speeds=[1.0, 2], max_seconds=1.0, seed=0,
        clips_per_action=2, seconds=2.0,
    )  # fmt: skip
    clips = list(synthetic.read_clips(request))
    assert [c.id for c in clips] == ["S1_waving_0", "S1_waving_0@2.0", "S1_waving_1", "S1_waving_1@2.0"]
    assert clips[1].attributes["speed"] == 2.0
    assert clips[0].attributes["body_stature"] == sample_body("S1").stature
    assert {c.joints3d.shape for c in clips} == {(25, 17, 3)}
    assert np.abs(clips[0].joints3d - clips[2].joints3d).max() > 0.05


def test_unknown_action_is_named():
    with pytest.raises(UserError, match="flying.*walking"):
        clip("flying")
