"""DVC's lock of a track against what is here: commands, inputs, parameters and outputs of every stage.

As ``dvc status`` compares them, without its start and its database. Paths are relative to the current folder, which is
the repository.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from isopose import config
from isopose.bridge import dvc_file
from isopose.bridge.graph import on_this_machine
from isopose.files import md5

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
    locked, stages = dvc_file.read(path)["stages"], dvc_file.read(dvc_file.path_of(track))["stages"]
    digest, values = functools.cache(md5), functools.cache(lambda file: config.load(Path(file)))
    for name in dict.fromkeys([*stages, *locked]):
        if name not in locked or name not in stages:
            where = path if name in stages else dvc_file.path_of(track)
            yield name, f"{name}: is no stage of {where}; expected one"
            continue
        lock, told = locked[name], f"the stage {name} of {path} has"
        if lock.get("cmd") != stages[name]["cmd"]:
            yield name, f"{name}: its command in {path} is another than in {dvc_file.path_of(track)}"
        yield from _files([*lock.get("deps", []), *lock.get("outs", [])], told, digest)
        yield from _parameters(lock.get("params", {}), told, values)


def _files(entries: Iterable[Mapping[str, Any]], told: str, digest: Callable[[str], str]) -> Differences:
    for entry in entries:
        here = on_this_machine(entry["path"])
        if Path(here).is_file() and digest(here) != entry["md5"]:
            yield entry["path"], f"{entry['path']}: has md5 {digest(here)[:8]}; {told} {entry['md5'][:8]}"


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
