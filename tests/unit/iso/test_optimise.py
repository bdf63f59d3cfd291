import numpy as np
import pytest
import torch

from isopose.errors import UserError
from isopose.iso import weights
from isopose.iso.optimise import Segments, optimise, smoothness_term
from isopose.iso.projection import weak_perspective
from isopose.models.discriminator import Discriminator
from isopose.training.losses import OBJECTIVES

CONSTANT = weights.weighting("constant")
ALL_WEIGHTINGS = [
    {"kind": "constant"},
    {"kind": "confidence"},
    {"kind": "hard", "threshold": 0.5},
    {"kind": "soft", "sigma": 1.0},
    {"kind": "robust", "scale": 1.0},
]


def motion(frames, seed=0, dtype=np.float64):
    """A truth that moves smoothly, an estimate of it, the exact keypoints and full confidence."""
    rng = np.random.default_rng(seed)
    phase = np.arange(frames)[:, None, None] / 15
    truth = rng.normal(0, 0.3, (17, 3)) + 0.1 * np.sin(phase + rng.uniform(0, 6, (17, 3)))
    truth[:, 0] = 0
    pose = truth + rng.normal(0, 0.03, truth.shape)
    pose[:, 0] = 0
    arrays = truth, pose, 32 + 25 * truth[..., :2], np.ones((frames, 17))
    return [array.astype(dtype) for array in arrays]


def judge(poses):
    """A discriminator that dislikes long limbs and fast motion; logits (N, T)."""
    speed = torch.nn.functional.pad(poses.diff(dim=1).square().sum((2, 3)), (0, 1))
    return 1 - poses.square().mean((2, 3)) - 10 * speed


def test_term_and_gradient_of_smoothness_by_autograd():
    generator = torch.Generator().manual_seed(0)
    pose = torch.randn(9, 17, 3, dtype=torch.float64, generator=generator).requires_grad_(True)
    scale = torch.rand(8, 1, 1, dtype=torch.float64, generator=generator)
    expected = (scale * (pose[1:] - pose[:-1])).square().sum()
    loss, gradient = smoothness_term(pose.detach(), scale)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, pose)[0])


@pytest.mark.parametrize("options", ALL_WEIGHTINGS)
@pytest.mark.parametrize("detach_weights", [False, True])
def test_exact_keypoints_do_not_increase_the_reprojection_error(options, detach_weights):
    truth, pose, keypoints, confidence = motion(40)
    result = optimise(
        pose,
        keypoints,
        confidence,
        weighting=weights.weighting(**options),
        detach_weights=detach_weights,
        learning_rate=1e-3,
        smoothness=0.0,
        reference=truth,
    )
    assert result.trace["pixels"][-1] < result.trace["pixels"][0]
    assert result.trace["mpjpe"][-1] < result.trace["mpjpe"][0]


def test_a_perfect_pose_with_exact_keypoints_stays():
    truth, _, keypoints, confidence = motion(1)
    for options in ALL_WEIGHTINGS:
        result = optimise(truth, keypoints, confidence, weighting=weights.weighting(**options), iterations=20)
        # Adam makes whole steps of rounding errors, so the pose trembles by a step or so.
        np.testing.assert_allclose(result.pose, truth, atol=6e-4)


@pytest.mark.parametrize("options", [o for o in ALL_WEIGHTINGS if o["kind"] in ("confidence", "hard", "soft")])
def test_without_confidence_only_the_other_terms_move_the_pose(options):
    _, pose, keypoints, confidence = motion(30)
    settings = dict(iterations=20, weighting=weights.weighting(**options))
    confidence[:] = 0
    still = optimise(pose, keypoints + 5, confidence, smoothness=0.0, **settings)
    np.testing.assert_array_equal(still.pose, pose)
    smoothed = optimise(pose, keypoints + 5, confidence, **settings)
    control = optimise(pose, keypoints + 5, confidence, iterations=20, weighting=weights.weighting("none"))
    np.testing.assert_array_equal(smoothed.pose, control.pose)
    assert smoothed.trace["smoothness"][-1] < smoothed.trace["smoothness"][0]


@pytest.mark.parametrize("discriminator", [None, judge])
def test_one_batch_equals_clip_by_clip(discriminator):
    lengths = [20, 7, 33, 1, 16]
    parts = [motion(length, seed) for seed, length in enumerate(lengths)]
    settings = dict(
        weighting=weights.weighting("soft", sigma=1.0),
        iterations=25,
        adversarial=10.0,
        adversarial_every=2,
        segment_frames=16,
        discriminator=discriminator,
    )
    arrays = [np.concatenate(column) for column in zip(*parts, strict=True)]
    batch = optimise(*arrays[1:], lengths=lengths, reference=arrays[0], **settings)
    single = [optimise(*part[1:], reference=part[0], **settings) for part in parts]
    np.testing.assert_allclose(batch.pose, np.concatenate([result.pose for result in single]), atol=1e-9)
    for name, values in batch.trace.items():
        expected = sum(n * result.trace[name] for n, result in zip(lengths, single, strict=True)) / sum(lengths)
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12)


def test_trace_adds_up_and_starts_at_the_initial_pose():
    truth, pose, keypoints, confidence = motion(20)
    trace = optimise(
        pose, keypoints, confidence, weighting=CONSTANT, iterations=5, discriminator=judge, reference=truth
    ).trace
    assert {len(values) for values in trace.values()} == {6}
    total = trace["reprojection"] + 0.05 * trace["smoothness"] + 0.1 * trace["adversarial"]
    np.testing.assert_allclose(trace["total"], total, rtol=1e-12)
    assert trace["mpjpe"][0] == pytest.approx(np.linalg.norm(pose - truth, axis=-1).mean(), rel=1e-12)
    project, _ = weak_perspective(*map(torch.from_numpy, (pose, keypoints, confidence)))
    distance = (project(torch.from_numpy(pose)) - torch.from_numpy(keypoints)).norm(dim=-1)
    assert trace["pixels"][0] == pytest.approx(distance.mean().item(), rel=1e-9)
    assert trace["reprojection"][0] == pytest.approx(distance.square().sum(-1).mean().item(), rel=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_adversarial_term_raises_the_logits(objective):
    _, pose, keypoints, confidence = motion(64)
    settings = dict(weighting=weights.weighting("none"), smoothness=0.0, iterations=30, segment_frames=32)
    settings["objective"] = objective
    for every in (1, 7):
        result = optimise(pose, keypoints, confidence, discriminator=judge, adversarial_every=every, **settings)
        before, after = (judge(torch.as_tensor(p)[None]).mean() for p in (pose, result.pose))
        assert after > before
        assert result.trace["adversarial"][-1] < result.trace["adversarial"][0]


def test_root_stays_and_the_input_is_untouched():
    _, pose, keypoints, confidence = motion(12)
    before = pose.copy()
    result = optimise(pose, keypoints + 3, confidence, weighting=CONSTANT, iterations=10, discriminator=judge)
    np.testing.assert_array_equal(result.pose[:, 0], pose[:, 0])
    np.testing.assert_array_equal(pose, before)


def test_numpy_and_torch_give_the_same_in_their_own_kind():
    arrays = motion(12, dtype=np.float32)[1:]
    from_numpy = optimise(*arrays, weighting=CONSTANT, iterations=10).pose
    from_torch = optimise(*map(torch.from_numpy, arrays), weighting=CONSTANT, iterations=10).pose
    assert from_numpy.dtype == np.float32
    assert isinstance(from_torch, torch.Tensor)
    np.testing.assert_array_equal(from_numpy, from_torch.numpy())


def test_segments_cover_each_frame_once():
    segments = Segments.cut([10, 3, 8], 4, torch.device("cpu"))
    assert segments.index.tolist()[:3] == [[0, 1, 2, 3], [4, 5, 6, 7], [6, 7, 8, 9]]
    assert segments.index.tolist()[3] == [10, 11, 12, 12]
    assert sorted(segments.index[segments.own].tolist()) == list(range(21))


def test_one_logit_a_segment_counts_for_its_own_frames():
    segments = Segments.cut([6], 4, torch.device("cpu"))
    loss = segments.generator_loss(lambda poses: torch.zeros(len(poses)), torch.zeros(6, 17, 3), "non_saturating")
    assert loss.item() == pytest.approx(6 * np.log(2))
    loss = segments.generator_loss(lambda poses: torch.tensor([3.0, 5.0]), torch.zeros(6, 17, 3), "wgan_gp")
    assert loss.item() == pytest.approx(-(4 * 3 + 2 * 5))


def test_an_unknown_objective_is_refused():
    _, pose, keypoints, confidence = motion(3)
    with pytest.raises(UserError, match="objective 'hinge' is unknown"):
        optimise(pose, keypoints, confidence, weighting=CONSTANT, discriminator=judge, objective="hinge")


def test_weak_perspective_ignores_joints_without_confidence():
    truth, _, keypoints, confidence = map(torch.from_numpy, motion(5))
    keypoints[:, 3] += 100
    confidence[:, 3] = 0
    project, scale = weak_perspective(truth, keypoints, confidence)
    torch.testing.assert_close(scale, torch.full_like(scale, 25.0))
    torch.testing.assert_close(project(truth), 32 + 25 * truth[..., :2])


def test_clips_must_add_up():
    arrays = motion(12)[1:]
    with pytest.raises(ValueError, match="11 frames in all, but 12"):
        optimise(*arrays, weighting=CONSTANT, lengths=[5, 6])
    with pytest.raises(ValueError, match="lengths: 0 frames; expected at least 1 in every clip"):
        optimise(*arrays, weighting=CONSTANT, lengths=[5, 0, 7])
    with pytest.raises(ValueError, match="lengths: 0 frames"):
        optimise(*(array[:0] for array in arrays), weighting=CONSTANT)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("pose", lambda a: a[:, :16], r"shape \(12, 16, 3\); expected \(F, 17, 3\)"),
        ("pose", lambda a: a[0], r"shape \(17, 3\); expected \(F, 17, 3\)"),
        (
            "pose",
            lambda a: np.full_like(a, np.inf),
            r"612 of 612 numbers are NaN or infinite; expected finite \(F, 17, 3\)",
        ),
        ("keypoints", lambda a: a[:, :16], r"shape \(12, 16, 2\); expected \(12, 17, 2\)"),
        ("keypoints", lambda a: a[:1], r"shape \(1, 17, 2\); expected \(12, 17, 2\)"),
        ("keypoints", lambda a: a * [np.nan, 1], r"204 of 408 numbers are NaN"),
        ("confidence", lambda a: a[..., None], r"shape \(12, 17, 1\); expected \(12, 17\)"),
        ("confidence", lambda a: a * np.nan, r"204 of 204 numbers are NaN or infinite; expected finite \(12, 17\)"),
        ("reference", lambda a: a[0], r"shape \(17, 3\); expected \(12, 17, 3\)"),
    ],
)
def test_arguments_that_cannot_be_optimised_are_told(kind, name, change, message):
    arguments = dict(zip(("reference", "pose", "keypoints", "confidence"), motion(12), strict=True))
    arguments[name] = change(arguments[name])
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        optimise(**{key: kind(array) for key, array in arguments.items()}, weighting=CONSTANT)


@pytest.mark.parametrize("options", ALL_WEIGHTINGS)
@pytest.mark.parametrize("case", ["one frame", "shorter than a segment", "no length", "all occluded"])
def test_hopeless_clips_have_a_finite_result(options, case):
    """With a true discriminator, on Psi and Phi, whose five frames and segments of 16 the short clips do not fill."""
    torch.manual_seed(0)
    discriminator = Discriminator(width=8).double()
    truth, pose, keypoints, confidence = motion({"one frame": 1, "shorter than a segment": 3}.get(case, 20))
    if case == "no length":
        pose, keypoints = 0 * pose, 0 * keypoints + 16
    if case == "all occluded":
        confidence = 0 * confidence
    result = optimise(
        pose,
        keypoints,
        confidence,
        weighting=weights.weighting(**options),
        discriminator=discriminator,
        iterations=10,
        segment_frames=16,
        reference=truth,
    )
    assert result.pose.shape == pose.shape
    assert np.abs(result.pose - pose).max() <= 10 * 3e-4 * 1.1  # ten steps of Adam
    assert all(np.isfinite(values).all() for values in result.trace.values())
