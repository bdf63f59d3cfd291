import numpy as np
import pytest
import torch

from isopose.arrays import check_array


@pytest.mark.parametrize("kind", [np.zeros, torch.zeros])
def test_fitting_shapes_pass(kind):
    check_array("pose", kind((17, 3)), (..., 17, 3), finite=True)
    check_array("pose", kind((2, 5, 17, 3)), (..., "T", 17, 3), finite=True)
    check_array("pose", kind((5, 17, 3)), ("F", 17, 3), finite=True)
    check_array("pose", kind((0, 17, 3)), ("F", 17, 3), finite=True)


@pytest.mark.parametrize("kind", [np.zeros, torch.zeros])
@pytest.mark.parametrize(
    ("shape", "expected", "message"),
    [
        ((5, 16, 3), (..., 17, 3), r"pose: shape \(5, 16, 3\); expected \(..., 17, 3\)"),
        ((17, 3), (..., "T", 17, 3), r"pose: shape \(17, 3\); expected \(..., T, 17, 3\)"),
        ((2, 5, 17, 3), ("F", 17, 3), r"expected \(F, 17, 3\)"),
        ((), ("F",), r"pose: shape \(\); expected \(F,\)"),
    ],
)
def test_another_shape_is_told_with_the_expected_one(kind, shape, expected, message):
    with pytest.raises(ValueError, match=message):
        check_array("pose", kind(shape), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_counted_where_they_are_refused(value):
    pose = np.zeros((2, 17, 3))
    pose[1, 4, :2] = value
    for array in (pose, torch.from_numpy(pose)):
        check_array("pose", array, (..., 17, 3))
        with pytest.raises(ValueError, match=r"pose: 2 of 102 numbers are NaN or infinite; expected finite"):
            check_array("pose", array, (..., 17, 3), finite=True)
