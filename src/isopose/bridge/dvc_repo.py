"""What DVC itself does for the bridge, through its own library: commit, push, fetch.

Its command line cannot commit where intermediates are not here, and reads dvc.yaml and its lock anew for every output
that it is asked for, which takes minutes for a hundred of them.
"""

import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isopose.bridge.dvc_file import path_of
from isopose.errors import UserError
from isopose.files import md5
from isopose.stage import track_progress

_AGAIN = "what came stays, and to restore again goes on from there; a run from scratch needs no remote"
_NOT_WHOLE = (
    "what is published is not whole: type the same command again, once that is mended, before anything is committed"
)


@contextmanager
def _repository(what: str, then: str) -> Iterator[Any]:
    """DVC's repository in the current folder; UserError of all that it raises: it passes on what its remotes raise.

    what: what fails then; then: what is to be known.
    """
    from dvc.repo import Repo  # here: its import takes seconds

    logging.getLogger("dvc").setLevel(logging.ERROR)  # it warns of each file that it lacks, by MD5
    try:
        with Repo() as repo:
            yield repo
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"dvc: cannot {what} ({' '.join(str(error).split())}); {then}") from error


def commit(track: str) -> None:
    """Put a track's outputs into DVC's cache and lock; those that are not here keep what the lock has of them.

    The files themselves stay as they are. Errors: UserError.
    """
    with _repository("commit", _NOT_WHOLE) as repo, repo.lock:
        stages = repo.stage.load_all(path_of(track).as_posix())
        for stage in track_progress(stages, "DVC's cache"):
            # The run cache takes stages as a whole.
            stage.save(allow_missing=True, run_cache=all(file.exists for file in [*stage.deps, *stage.outs]))
            stage.commit(allow_missing=True, relink=False)
        stages[0].dvcfile.dump_stages(stages, update_pipeline=False)


def push(track: str) -> None:
    """Send a track's outputs to their remote. Errors: UserError."""
    with _repository("push", _NOT_WHOLE) as repo:
        repo.push(path_of(track).as_posix())


def fetch(track: str, outputs: Collection[str]) -> None:
    """Bring outputs of a track from DVC's cache or their remote into the current folder, in the place of what is there.

    Errors: UserError where something cannot be had; what came stays, and so does what nothing came for.
    """
    paths = {str(Path(output).absolute()) for output in outputs}
    with _repository("fetch what was published", _AGAIN) as repo, repo.lock:
        stages = repo.stage.load_all(path_of(track).as_posix())
        wanted = [out for stage in stages for out in stage.outs if out.fs_path in paths]
        missing = _pull(repo, wanted)
        for out in wanted:
            if out.hash_info not in missing:
                out.checkout(force=True)
    if missing:
        named = [str(out) for out in wanted if out.hash_info in missing]
        raise UserError(f"dvc: {len(named)} outputs are not in DVC's remote, {named[0]} among them; {_AGAIN}")


def in_cache(paths: Iterable[str]) -> set[str]:
    """Those of some files whose bytes DVC's cache has, so that they can be had again. Errors: UserError."""
    with _repository("look into its cache", _AGAIN) as repo:
        return {path for path in paths if repo.cache.local.exists(md5(path))}


def _pull(repo: Any, wanted: list[Any]) -> set[Any]:
    """Bring the bytes of outputs into DVC's cache; returns the hashes of those that are not there then."""
    objects: dict[Any, set[Any]] = {}
    for out in wanted:
        for remote, hashes in out.get_used_objs().items():
            objects.setdefault(remote, set()).update(hashes)
    for remote, hashes in objects.items():
        repo.cloud.pull(hashes, odb=remote)
    hashes = {out.hash_info for out in wanted}  # an empty one where the lock lacks a stage
    return {each for each in hashes if not each or not repo.cache.local.exists(each.value)}
