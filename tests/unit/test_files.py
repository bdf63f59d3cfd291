import multiprocessing
import os
import signal

import pytest

from isopose.files import atomic_folder, atomic_path, write_text


def killed(kind, path):
    """Die as by kill -9 while a file or folder is being written; returns what is left there."""

    def write():
        with kind(path) as temporary:
            (temporary / "part" if temporary.is_dir() else temporary).write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join()
    return os.listdir(path.parent)


@pytest.mark.parametrize("kind", [atomic_path, atomic_folder])
def test_what_a_killed_process_left_is_gone_when_the_next_one_is_done(tmp_path, kind):
    path = tmp_path / "a.h5"
    assert len(killed(kind, path)) == 1 and not path.exists()
    with kind(path) as temporary:
        if kind is atomic_path:
            temporary.write_text("whole")
        else:
            (temporary / "part").write_text("whole")
    assert os.listdir(tmp_path) == ["a.h5"]


def test_the_temporary_file_of_a_running_process_stays(tmp_path):
    other = tmp_path / f".a.{os.getppid()}.csv"
    other.write_text("being written")
    write_text(tmp_path / "a.csv", "x")
    assert other.exists()


def test_files_of_other_names_stay(tmp_path):
    for name in (".a.b.csv", ".a.csv", ".ab.999999999.csv", "a.999999999.csv", ".a.999999999.md"):
        (tmp_path / name).write_text("not ours")
    before = set(os.listdir(tmp_path))
    write_text(tmp_path / "a.csv", "x")
    assert set(os.listdir(tmp_path)) == before | {"a.csv"}


@pytest.mark.parametrize("kind", [atomic_path, atomic_folder])
def test_a_failure_leaves_nothing(tmp_path, kind):
    with pytest.raises(RuntimeError), kind(tmp_path / "a") as temporary:
        if kind is atomic_path:
            temporary.write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_the_second_of_two_that_make_a_folder_keeps_the_first(tmp_path):
    path = tmp_path / "folder"
    with atomic_folder(path) as temporary:
        (temporary / "x").write_text("second")
        path.mkdir()
        (path / "x").write_text("first")
    assert (path / "x").read_text() == "first"
    assert os.listdir(tmp_path) == ["folder"]
