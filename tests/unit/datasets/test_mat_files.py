import h5py
import numpy as np
import pytest
from scipy.io import savemat

from isopose.datasets.mat_files import check_variables
from isopose.errors import UserError


@pytest.mark.parametrize("compressed", [False, True])
def test_a_whole_file_with_the_variables_passes_and_every_shorter_one_is_refused(tmp_path, compressed):
    path = tmp_path / "a.mat"
    savemat(path, {"x": np.arange(20.0), "name": "text"}, do_compression=compressed)
    check_variables(path, ("x", "name"))
    content = path.read_bytes()
    for keep in range(len(content)):
        path.write_bytes(content[:keep])
        with pytest.raises(UserError, match=r"a\.mat: (is|has no) .*; expected a whole MATLAB file .* with x, name"):
            check_variables(path, ("x", "name"))


def test_a_missing_variable_and_another_format_are_told(tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"x": 1.0})
    with pytest.raises(UserError, match=r"a\.mat: has no y, z; expected"):
        check_variables(path, ("x", "y", "z"))
    with h5py.File(path, "w") as file:
        file["x"] = 1.0
    with pytest.raises(UserError, match=r"a\.mat: is of another format; expected"):
        check_variables(path, ("x",))
