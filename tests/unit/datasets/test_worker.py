import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isopose.datasets.worker import Worker
from isopose.errors import UserError


def add(path, number):
    return {"sum": np.array([len(path.read_bytes()) + number]), "name": np.array(["a", "bc"])}


def crash(path):
    ctypes.string_at(0)


def hang(path):
    time.sleep(60)


def swell(path):
    return {"big": np.zeros(2**31)}


def refuse(path):
    raise UserError(f"{path}: has no joints; expected 17")


def objects(path):
    return {"code": np.array([os.system], dtype=object)}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"123")
    return path


def test_arrays_come_back_and_the_process_is_kept(file):
    with Worker() as worker:
        first = worker.read(add, file, "three bytes", 4)
        process = worker._process.pid
        worker.read(add, file, "three bytes", 5)
        assert worker._process.pid == process
    assert first["sum"].tolist() == [7]
    assert first["name"].tolist() == ["a", "bc"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (crash, r"file\.bin: its reader crashed \(exit status -11\); expected a test; copy it from the source again"),
        (hang, r"file\.bin: not read within 1 s; expected a test"),
        (swell, r"file\.bin: cannot be read \(.*MemoryError.*\); expected a test"),
        (refuse, r"file\.bin: has no joints; expected 17"),
        (objects, r"file\.bin: cannot be read \(ValueError: .*"),
    ],
)
def test_a_reader_that_fails_is_one_line_and_the_next_file_is_read(file, function, message):
    with Worker(seconds=1 if function is hang else 10, memory=2**32) as worker:
        with pytest.raises(UserError, match=message) as refused:
            worker.read(function, file, "a test")
        assert "\n" not in str(refused.value)
        worker.seconds = 10
        assert worker.read(add, file, "three bytes", 0)["sum"].tolist() == [3]


def test_a_missing_file_is_named(tmp_path):
    with Worker() as worker, pytest.raises(UserError, match=r"no\.bin: is missing; expected a test"):
        worker.read(add, tmp_path / "no.bin", "a test")


def test_a_process_that_dies_before_it_takes_the_request_is_one_line(file):
    with Worker(memory=2**20) as worker, pytest.raises(UserError, match=r"file\.bin: its reader crashed \(exit status"):
        worker.read(add, file, "three bytes", 0)


PROGRAM = """
from pathlib import Path
import numpy as np
from isopose.datasets.footage import crop_files
from isopose.datasets.worker import Worker
print("imported")
if __name__ == "__main__":
    with Worker() as worker:
        print(crop_files(Path("."), ["image.png"], np.array([[1.5, 1.5, 4]]), 4, worker).shape)
"""


def test_the_main_module_is_not_imported_by_the_reader(tmp_path):
    """A stage imports torch, for which the reader has no memory."""
    (tmp_path / "program.py").write_text(PROGRAM)
    Image.new("RGB", (4, 4)).save(tmp_path / "image.png")
    paths = os.pathsep.join([str(Path(__file__).parents[3] / "src"), str(tmp_path)])
    for how in (["program.py"], ["-m", "program"]):
        command, options = [sys.executable, *how], {"cwd": tmp_path, "capture_output": True, "text": True}
        done = subprocess.run(command, **options, check=True, env=os.environ | {"PYTHONPATH": paths})
        assert done.stdout.splitlines() == ["imported", "(1, 4, 4, 3)"]
