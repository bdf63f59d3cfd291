"""What every stage shares: its parameters, threads, seeds, progress, and how an error reaches the user."""

import difflib
import errno
import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import typer
from tqdm import tqdm

from isopose.errors import UserError

T = TypeVar("T")

_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What no program can help: a full disk, a folder that may not be written."""

PARAMS_OPTION = typer.Option(..., "--params", help="This stage's parameters as a JSON object, see params.yaml.")
STORE_OPTION = typer.Option(..., "--store", help="A labelled sequence store as source=path; repeat for each source.")

MLFLOW_OPTION = typer.Option(
    None, "--mlflow", envvar="MLFLOW_TRACKING_URI", help="MLflow's address; none: record only."
)


def parse_params(text: str, expected: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """Parse a stage's JSON parameters, refusing missing, unknown and wrongly typed keys by name."""
    try:
        params = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"--params: not valid JSON ({error}); expected an object with {sorted(expected)}") from error
    if not isinstance(params, dict):
        raise UserError(f"--params: is {type(params).__name__}; expected an object with {sorted(expected)}")
    for key in params.keys() - expected.keys():
        near = difflib.get_close_matches(key, list(expected), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known: {sorted(expected)}"
        raise UserError(f"--params: unknown parameter '{key}'{hint}")
    for key, kinds in expected.items():
        if key not in params:
            raise UserError(f"--params: parameter '{key}' is missing; known: {sorted(expected)}")
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        kinds = (*kinds, int) if float in kinds else kinds
        if not isinstance(params[key], kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise UserError(f"--params: '{key}' is {params[key]!r}; expected {names}")
    return params


def parse_named(pairs: Iterable[str], option: str = "--store") -> dict[str, str]:
    """Turn repeated ``name=path`` options into a dict."""
    named = {}
    for pair in pairs:
        name, separator, path = pair.partition("=")
        if not separator or not name or not path:
            raise UserError(f"{option}: got '{pair}'; expected name=path")
        named[name] = path
    return named


def set_threads(threads: int) -> None:
    """Fix torch's threads: results depend on their number, so it is a parameter and never the machine's choice."""
    import torch

    torch.set_num_threads(threads)


def seed_everything(seed: int) -> None:
    """Seed torch's global generator (weight initialisation) and demand deterministic algorithms."""
    import torch

    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    # No operation here reads memory that it has not written; filling it first costs a fifth of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False


def track_progress(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """Iterate with a progress bar that shows the time left; quiet updates when written to a log file."""
    interval = 0.5 if sys.stderr.isatty() else 10.0
    return tqdm(items, desc=description, total=total, mininterval=interval, dynamic_ncols=True, file=sys.stderr)


def run(app: typer.Typer) -> None:
    """Run a stage's command line; a UserError, and what the machine refuses, becomes one line and exit status 1."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        print(f"error: {refusal(error)}", file=sys.stderr)
        sys.exit(1)


def refusal(error: OSError) -> str:
    """What a machine refuses, in a line."""
    return (
        f"{error.filename or 'a file'}: {error.strerror or error}; expected free space and the right to read and write;"
        " mend that and type the same command again: what is finished is kept"
    )
