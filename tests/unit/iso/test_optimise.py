import numpy as np
import pytest
import torch

from isopose.errors import UserError
from isopose.iso import weights
from isopose.iso.optimise import Segments, Variables, optimise, smoothness_term
from isopose.iso.projection import perspective, torso, weak_perspective
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
@pytest.mark.parametrize("projection", ["weak_perspective", "torso", "perspective"])
def test_exact_keypoints_do_not_increase_the_reprojection_error(options, detach_weights, projection):
    truth, pose, keypoints, confidence = motion(40)
    fit = {"weak_perspective": weak_perspective, "torso": torso}.get(projection)
    if projection == "perspective":
        keypoints = 32 + 100 * truth[..., :2] / (truth[..., 2:] + 4)
        fit = perspective(torch.full((40, 2), 100.0), torch.full((40, 2), 32.0))
    result = optimise(
        pose,
        keypoints,
        confidence,
        weighting=weights.weighting(**options),
        detach_weights=detach_weights,
        learning_rate=1e-3,
        smoothness=0.0,
        projection=fit,
        reference=truth,
    )
    assert result.trace["pixels"][-1] < result.trace["pixels"][0]
    assert result.trace["mpjpe"][-1] < result.trace["mpjpe"][0]


def test_the_error_in_the_trace_is_over_known_joints():
    truth, pose, keypoints, confidence = motion(12)
    known = truth.copy()
    known[:, [7, 9]] = np.nan
    result = optimise(pose, keypoints, confidence, weighting=CONSTANT, iterations=2, reference=known)
    counted = [joint for joint in range(17) if joint not in (7, 9)]
    errors = [np.linalg.norm(each[:, counted] - truth[:, counted], axis=-1).mean() for each in (pose, result.pose)]
    np.testing.assert_allclose(result.trace["mpjpe"][[0, -1]], errors, rtol=1e-5)


def fixed(scale, shift):
    """A projection of constant scale and shift, whatever it is fitted to."""
    return lambda pose, keypoints, confidence: (
        lambda x: scale * x[..., :2] + shift,
        pose.new_full((len(pose),), scale),
    )


def test_the_minimum_is_that_of_a_linear_solver():
    """Constant weights and no discriminator: Eq. 10 is a quadratic, x and y of a joint one banded system of frames."""
    _, pose, keypoints, confidence = motion(12)
    keypoints = keypoints + np.random.default_rng(1).normal(0, 2, keypoints.shape)
    scale, shift, smoothness = 25.0, 32.0, 0.8
    for learning_rate in (3e-3, 3e-4, 3e-5):
        result = optimise(
            pose,
            keypoints,
            confidence,
            weighting=CONSTANT,
            iterations=300,
            learning_rate=learning_rate,
            smoothness=smoothness,
            projection=fixed(scale, shift),
        )
        pose = result.pose
    steps = np.diff(np.eye(12), axis=0)
    matrix = scale**2 * (np.eye(12) + smoothness * steps.T @ steps)
    for joint in range(1, 17):
        expected = np.linalg.solve(matrix, scale * (keypoints[:, joint] - shift))
        np.testing.assert_allclose(pose[:, joint, :2], expected, atol=1e-4)
    gap = scale * pose[..., :2] + shift - keypoints
    loss = (gap**2).sum() + smoothness * scale**2 * (np.diff(pose, axis=0) ** 2).sum()
    assert result.trace["total"][-1] == pytest.approx(loss / 12, rel=1e-6)


@pytest.mark.parametrize("detach_weights", [False, True])
def test_the_path_is_that_of_adam_written_out(detach_weights):
    """Eq. 9's weights, smoothness, two clips; the gradient and Adam by their formulas, in numpy."""
    _, pose, keypoints, confidence = motion(14)
    keypoints = keypoints + np.random.default_rng(1).normal(0, 1, keypoints.shape)
    confidence *= np.random.default_rng(2).uniform(0.2, 1, confidence.shape)
    scale, shift, sigma, smoothness, rate = 25.0, 32.0, 1.5, 0.3, 1e-3
    first = second = 0.0
    x = pose.copy()
    for step in range(1, 31):
        gap = scale * x[..., :2] + shift - keypoints
        square = (gap**2).sum(-1)
        weight = 1 - np.exp(-confidence * square / (2 * sigma**2))
        slope = confidence / (2 * sigma**2) * np.exp(-confidence * square / (2 * sigma**2))  # dw / d(d^2)
        gradient = np.zeros_like(x)
        gradient[..., :2] = (weight + (0 if detach_weights else slope * square))[..., None] * 2 * scale * gap
        for frame in range(13):
            if frame != 8:  # from the first clip's last frame to the second's first
                pull = 2 * smoothness * scale**2 * (x[frame + 1] - x[frame])
                gradient[frame + 1] += pull
                gradient[frame] -= pull
        gradient[:, 0] = 0
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        x -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    result = optimise(
        pose,
        keypoints,
        confidence,
        weighting=weights.weighting("soft", sigma=sigma),
        lengths=[9, 5],
        iterations=30,
        learning_rate=rate,
        smoothness=smoothness,
        detach_weights=detach_weights,
        projection=fixed(scale, shift),
    )
    np.testing.assert_allclose(result.pose, x, atol=1e-9)


@pytest.mark.parametrize("detach_weights", [False, True])
@pytest.mark.parametrize("kind", ["soft", "robust"])
def test_detached_weights_leave_their_own_derivative_out(kind, detach_weights):
    """The gradient of w(d) d^2, with and without w'(d) d^2."""
    _, pose, keypoints, confidence = motion(6)
    confidence *= 0.7
    x = torch.from_numpy(pose.copy()).requires_grad_(True)
    options = {"soft": {"sigma": 1.5}, "robust": {"scale": 1.5}}[kind]
    optimise(
        pose,
        keypoints,
        confidence,
        weighting=weights.weighting(kind, **options),
        iterations=1,
        smoothness=0.0,
        detach_weights=detach_weights,
        projection=fixed(25.0, 32.0),
        variables=Variables([x], lambda: x, shared=False),
    )
    gap = 25 * pose[..., :2] + 32 - keypoints
    d = np.linalg.norm(gap, axis=-1)
    if kind == "soft":
        decay = np.exp(-0.7 * d**2 / (2 * 1.5**2))
        weight, derivative = 1 - decay, 0.7 * d / 1.5**2 * decay
    else:
        weight = 1.5**2 / (1.5**2 + d**2)
        derivative = -2 * d * 1.5**2 / (1.5**2 + d**2) ** 2
    by_distance = 2 * weight * d + (0 if detach_weights else derivative * d**2)
    expected = by_distance[..., None] * 25 * gap / np.maximum(d, 1e-300)[..., None]
    np.testing.assert_allclose(x.grad[:, 1:, :2], expected[:, 1:], rtol=1e-6, atol=1e-6)
    assert (x.grad[..., 2] == 0).all()


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


EXIT = dict(weighting=weights.weighting("soft", sigma=1.0), iterations=40, learning_rate=2e-3, tolerance=0.03)


@pytest.mark.parametrize("adversarial_every", [1, 3])
def test_a_clip_stops_where_its_objective_hardly_falls(adversarial_every):
    """Found in the trace of a run to the end; Adam's first steps may be uphill, and stop a clip, too."""
    truth, pose, keypoints, confidence = motion(20)
    settings = EXIT | dict(discriminator=judge, adversarial=10.0, segment_frames=8, adversarial_every=adversarial_every)
    to_the_end = optimise(pose, keypoints, confidence, **settings | {"tolerance": 0.0}, reference=truth)
    total = to_the_end.trace["total"]
    stop = next(k for k in range(1, 41) if total[k - 1] - total[k] <= 0.03 * total[k - 1])
    assert 3 < stop < 40
    result = optimise(pose, keypoints, confidence, **settings, reference=truth)
    assert to_the_end.iterations.tolist() == [40] and result.iterations.tolist() == [stop]
    np.testing.assert_array_equal(
        result.pose, optimise(pose, keypoints, confidence, **settings | {"tolerance": 0.0, "iterations": stop}).pose
    )
    assert result.trace["moving"].tolist() == [1] * stop + [0] * (41 - stop)
    for name, values in to_the_end.trace.items():
        np.testing.assert_array_equal(result.trace[name], np.append(values[: stop + 1], [values[stop]] * (40 - stop)))


@pytest.mark.parametrize("discriminator", [None, judge])
def test_clips_stop_one_by_one_as_each_does_alone(discriminator):
    lengths = [20, 7, 33, 1, 16]
    parts = [motion(length, seed)[1:] for seed, length in enumerate(lengths)]
    arrays = [np.concatenate(column) for column in zip(*parts, strict=True)]
    settings = EXIT | dict(tolerance=0.05, discriminator=discriminator, adversarial=10.0, adversarial_every=2)
    batch = optimise(*arrays, lengths=lengths, segment_frames=16, **settings)
    single = [optimise(*part, segment_frames=16, **settings) for part in parts]
    assert batch.iterations.tolist() == [result.iterations.item() for result in single]
    assert len(set(batch.iterations)) > 2
    np.testing.assert_allclose(batch.pose, np.concatenate([result.pose for result in single]), atol=1e-9)


def test_clips_that_share_a_variable_stop_together():
    parts = [motion(length, seed) for seed, length in enumerate([20, 9])]
    _, pose, keypoints, confidence = (np.concatenate(part) for part in zip(*parts, strict=True))
    pose[:20] += 0.02 * (np.arange(17) > 0)[:, None]
    found = {}
    for tolerance in (0.0, 0.03):
        offset = torch.zeros(17, 3, dtype=torch.float64, requires_grad=True)
        move = Variables([offset], lambda offset=offset: torch.from_numpy(pose) + offset, shared=True)
        found[tolerance] = optimise(
            pose, keypoints, confidence, lengths=[20, 9], variables=move, **EXIT | {"tolerance": tolerance}
        )
    total = found[0.0].trace["total"]
    stop = next(k for k in range(1, 41) if total[k - 1] - total[k] <= 0.03 * total[k - 1])
    assert found[0.03].iterations.tolist() == [stop, stop] and stop < 40


def test_the_pose_given_as_the_variable_is_the_default():
    _, pose, keypoints, confidence = motion(20)
    settings = dict(weighting=CONSTANT, iterations=20, discriminator=judge, adversarial_every=3)
    x = torch.from_numpy(pose.copy()).requires_grad_(True)
    result = optimise(pose, keypoints, confidence, variables=Variables([x], lambda: x, shared=False), **settings)
    np.testing.assert_allclose(result.pose, optimise(pose, keypoints, confidence, **settings).pose, atol=1e-12)
    np.testing.assert_array_equal(x.detach(), result.pose)


def test_variables_that_start_elsewhere_are_told():
    _, pose, keypoints, confidence = motion(5)
    elsewhere = torch.from_numpy(pose + 0.5).requires_grad_(True)
    with pytest.raises(ValueError, match="variables: their poses are 0.5 m off `pose`; expected less than 0.001 m"):
        optimise(
            pose,
            keypoints,
            confidence,
            weighting=CONSTANT,
            variables=Variables([elsewhere], lambda: elsewhere, shared=False),
        )
    with pytest.raises(ValueError, match=r"variables: shape \(4, 17, 3\); expected \(5, 17, 3\)"):
        optimise(
            pose,
            keypoints,
            confidence,
            weighting=CONSTANT,
            variables=Variables([elsewhere], lambda: elsewhere[:4], shared=False),
        )


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
    logits = segments.logits(lambda poses: poses[:, 0, 0, 0], torch.arange(6.0)[:, None, None].expand(6, 17, 3))
    assert logits.tolist() == [0, 0, 0, 0, 2, 2]
    assert segments.logits(lambda poses: torch.tensor([3.0, 5.0]), torch.zeros(6, 17, 3)).tolist() == [3] * 4 + [5] * 2
    _, pose, keypoints, confidence = motion(6)
    settings = dict(weighting=CONSTANT, iterations=0, segment_frames=4)
    result = optimise(pose, keypoints, confidence, discriminator=lambda poses: 0 * poses[:, 0, 0, 0], **settings)
    assert result.trace["adversarial"].tolist() == pytest.approx([np.log(2)])


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
