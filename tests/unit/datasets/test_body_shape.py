import numpy as np

from isopose.datasets.body_shape import DIMENSIONS, reshape, sample_body
from isopose.skeleton import BONES, MIRROR, index


def test_population_has_the_published_means_and_deviations():
    bodies = [sample_body(f"person {number}") for number in range(800)]
    for name, dimension in DIMENSIONS.items():
        values = np.array([body.dimensions[name] for body in bodies])
        assert abs(values.mean() - dimension.mean) < 0.15 * dimension.deviation
        assert 0.8 < values.std() / dimension.deviation < 1.05  # draws are limited to two deviations
    statures = np.array([body.stature for body in bodies])
    assert abs(statures.mean() - 1.714) < 0.01  # ANSUR II
    assert 0.06 < statures.std() < 0.1
    thighs, shins = (np.array([body.dimensions[name] for body in bodies]) for name in ("thigh", "shin"))
    assert np.corrcoef(thighs, shins)[0, 1] > 0.5


def test_a_subject_always_has_the_same_symmetric_body():
    assert sample_body("13") == sample_body("13")
    assert sample_body("13") != sample_body("14")
    assert sample_body("13") != sample_body("13", seed=1)
    by_child = {child: length for (_, child), length in zip(BONES, sample_body("13").bone_lengths, strict=True)}
    assert all(by_child[child] == by_child[MIRROR[child]] for child in by_child)


def test_reshape_keeps_directions_sets_lengths_and_stands_on_the_floor():
    rng = np.random.default_rng(0)
    joints = rng.normal(size=(9, 17, 3))
    body = sample_body("13")
    shaped = reshape(joints, body)
    for (parent, child), length in zip(BONES, body.bone_lengths, strict=True):
        before, after = joints[:, child] - joints[:, parent], shaped[:, child] - shaped[:, parent]
        np.testing.assert_allclose(np.linalg.norm(after, axis=-1), length)
        np.testing.assert_allclose(np.cross(before, after), 0, atol=1e-12)
        assert ((before * after).sum(axis=-1) > 0).all()
    ankles = shaped[:, [index("r_ankle"), index("l_ankle")], 2].min(axis=1)
    np.testing.assert_allclose(np.percentile(ankles, 5), body.dimensions["ankle_height"])
