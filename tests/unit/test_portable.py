import re
from pathlib import Path

import numpy as np
import pytest
import torch

from isopose import portable
from isopose.portable import square_root


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tensor_has_the_arrays_square_roots_to_two_units_in_the_last_place(dtype):
    x = np.abs(np.random.default_rng(1).normal(size=100_001)).astype(dtype)
    expected = np.sqrt(x)
    np.testing.assert_array_equal(square_root(x), expected)
    np.testing.assert_array_max_ulp(square_root(torch.from_numpy(x)).numpy(), expected, 2)


def test_of_zero_and_of_what_has_none():
    found = square_root(torch.tensor([0.0, np.inf, np.nan, -1.0]))
    assert found[:2].tolist() == [0, np.inf] and found[2:].isnan().all()


def test_its_gradient():
    x = torch.rand(10, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.1
    assert torch.autograd.gradcheck(square_root, x.requires_grad_())


def test_no_module_takes_torchs_own():
    for path in Path(portable.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\.sqrt\(\)|torch\.sqrt|torch\.atan\(|\.atan\(\)", text), path
        assert text.count("optim.Adam") == text.count("fused=True"), path
