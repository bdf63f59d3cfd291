"""Fetching outputs through DVC's own library: its command line reads dvc.yaml and its lock anew for every output asked
for, which takes minutes for a hundred of them.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from isopose.bridge.dvc_file import path_of
from isopose.errors import UserError


def fetch(track: str, outputs: Collection[str]) -> None:
    """Bring outputs of a track from DVC's cache or their remote into the current folder, which is the repository.

    Errors: UserError where something cannot be had; what came stays.
    """
    from dvc.repo import Repo

    paths = {str(Path(output).absolute()) for output in outputs}
    try:
        with Repo() as repo, repo.lock:
            stages = repo.stage.load_all(path_of(track).as_posix())
            wanted = [out for stage in stages for out in stage.outs if out.fs_path in paths]
            missing = _pull(repo, wanted)
            for out in wanted:
                if out.hash_info not in missing:
                    out.checkout()
    except Exception as error:  # DVC passes on whatever its remotes raise
        raise UserError(f"dvc: cannot fetch what was published ({' '.join(str(error).split())}); {_AGAIN}") from error
    if missing:
        named = [str(out) for out in wanted if out.hash_info in missing]
        raise UserError(f"dvc: {len(named)} outputs are not in DVC's remote, {named[0]} among them; {_AGAIN}")


_AGAIN = "what came stays, and to restore again goes on from there; a run from scratch needs no remote"


def _pull(repo: Any, wanted: list[Any]) -> set[Any]:
    """Bring the bytes of outputs into DVC's cache; returns the hashes of those that did not come."""
    objects: dict[Any, set[Any]] = {}
    for out in wanted:
        for remote, hashes in out.get_used_objs().items():
            objects.setdefault(remote, set()).update(hashes)
    return {lost for remote, hashes in objects.items() for lost in repo.cloud.pull(hashes, odb=remote).failed}
