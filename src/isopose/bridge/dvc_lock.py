"""DVC's lock of a track against what is here: commands, inputs, parameters and outputs of every stage.

As ``dvc status`` compares them, without its start and its database. Paths are relative to the current folder, which is
the repository.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from isopose import config
from isopose.bridge import dvc_file, git_files
from isopose.bridge.graph import on_this_machine
from isopose.errors import UserError
from isopose.files import md5

_MD5 = re.compile("[0-9a-f]{32}")

# Names of what differs (a path, a parameter or a stage), and one line for each that says how.
Differences = Iterator[tuple[str, str]]


def differences(track: str) -> Differences:
    """What differs; files that are not here do not.

    Errors: UserError where dvc.yaml or the lock cannot be read.
    """
    path = dvc_file.lock_of(track)
    if not path.exists():
        yield path.as_posix(), f"{path}: is not there; expected DVC's lock beside the ledger; take it from git again"
        return
    try:
        yield from _of_stages(track, path)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error!r}); expected what DVC writes; take it from git again"
        ) from error


def mend(track: str) -> None:
    """Put back a lock that DVC was stopped in the middle of writing, which it could not read: what git has, or none."""
    path = dvc_file.lock_of(track)
    if path.exists() and not _is_whole(path):
        git_files.take_back([str(path)])
    if path.exists() and not _is_whole(path):
        path.unlink()


def check_absent(track: str, outputs: Iterable[str]) -> None:
    """Refuse outputs that are not here and of which a track's lock has nothing. Errors: UserError."""
    path, made = dvc_file.lock_of(track), set()
    if path.exists():
        made = {entry["path"] for stage in dvc_file.read(path)["stages"].values() for entry in stage.get("outs", [])}
    for output in outputs:
        if output not in made and not Path(output).exists():
            raise UserError(
                f"{output}: is not here, and {path} has nothing of it; expected the file, or the lock of when it was"
                " published: take that from git again, or make the file"
            )


def _is_whole(path: Path) -> bool:
    try:
        stages = dvc_file.read(path)["stages"].values()
        entries = [entry for stage in stages for key in ("deps", "outs") for entry in stage.get(key, [])]
        return all(_MD5.fullmatch(entry["md5"]) and isinstance(entry["size"], int) for entry in entries)
    except (UserError, AttributeError, KeyError, TypeError):
        return False


def forget(track: str) -> None:
    """Take out of the lock the stages that dvc.yaml no longer has: DVC leaves them, with inputs of another time."""
    path, stages = dvc_file.lock_of(track), dvc_file.read(dvc_file.path_of(track))["stages"]
    gone = dvc_file.read(path)["stages"].keys() - stages.keys()
    if not gone:
        return
    from dvc.utils.serialize import modify_yaml  # here: DVC's import is slow; it keeps the lock's own form

    with modify_yaml(path) as lock:
        for name in gone:
            del lock["stages"][name]


def _of_stages(track: str, path: Path) -> Differences:
    locked, stages = dvc_file.read(path)["stages"], dvc_file.read(dvc_file.path_of(track))["stages"]
    values = functools.cache(lambda file: config.load(Path(file)))
    known = functools.cache(_of_file)
    for name in dict.fromkeys([*stages, *locked]):
        if name not in locked or name not in stages:
            where = path if name in stages else dvc_file.path_of(track)
            yield name, f"{name}: is no stage of {where}; expected one"
            continue
        lock, told = locked[name], f"the stage {name} of {path} has"
        if lock["cmd"] != stages[name]["cmd"]:
            yield name, f"{name}: its command in {path} is another than in {dvc_file.path_of(track)}"
        yield from _files([*lock.get("deps", []), *lock.get("outs", [])], told, known)
        yield from _parameters(lock.get("params", {}), told, values)
    yield from _not_here([entry for lock in locked.values() for key in ("outs", "deps") for entry in lock.get(key, [])])


def _of_file(path: str) -> tuple[str, int] | None:
    """MD5 and size of a file, None where it is not here."""
    here = Path(on_this_machine(path))
    return (md5(here), here.stat().st_size) if here.is_file() else None


def _files(
    entries: Iterable[Mapping[str, Any]], told: str, known: Callable[[str], tuple[str, int] | None]
) -> Differences:
    for entry in entries:
        path, found, expected = entry["path"], known(entry["path"]), (entry["md5"], entry["size"])
        if found and found != expected:
            here, there = (f"{digest[:8]} and {size}" for digest, size in (found, expected))
            yield path, f"{path}: has md5 and bytes {here}; {told} {there}"


def _not_here(entries: Iterable[Mapping[str, Any]]) -> Differences:
    """Files that are not here, of which the lock says different things."""
    first: dict[str, str] = {}
    for entry in entries:
        path, digest = entry["path"], entry["md5"]
        if not Path(on_this_machine(path)).exists() and first.setdefault(path, digest) != digest:
            yield path, f"{path}: is not here, and DVC's lock has md5 {first[path][:8]} of it as well as {digest[:8]}"


def _parameters(
    locked: Mapping[str, Mapping[str, Any]], told: str, values: Callable[[str], Mapping[str, Any]]
) -> Differences:
    for file, parameters in locked.items():
        for name, old in parameters.items():
            now = _value(values(file), name)
            if now != old:
                parameter = name.replace("?", ".")
                yield parameter, f"{file}: {parameter} is {now!r}; {told} {old!r}"


def _value(values: Mapping[str, Any], name: str) -> Any:
    """A parameter by DVC's name, in which a question mark stands for a dot within a key; None where it is absent."""
    found: Any = values
    for part in name.split("."):
        keys = {str(key).replace(".", "?"): key for key in found} if isinstance(found, Mapping) else {}
        if part not in keys:
            return None
        found = found[keys[part]]
    return found
