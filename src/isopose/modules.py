"""Which source files a stage depends on, so that editing a module reruns exactly the stages that use it."""

import ast
import functools
import os
from collections.abc import Iterator
from pathlib import Path

from isopose.errors import UserError

PACKAGE = Path(__file__).parent


def source_files(module: str) -> list[Path]:
    """Files of the package that ``module`` (such as ``isopose.training.lifter``) imports, itself included.

    Follows import statements, those inside functions too, without running anything. A file that lies beside a module
    which names it, such as a template, counts as well. Errors: UserError for a file that is no Python.
    """
    found: set[Path] = set()
    pending = [module]
    while pending:
        for path in _files_of(pending.pop()):
            if path not in found:
                imports, data = _uses(path)
                found |= {path, *data}
                pending += imports
    return sorted(found)


def _files_of(module: str) -> Iterator[Path]:
    path = PACKAGE.parent.joinpath(*module.split("."))
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.exists() and candidate != PACKAGE / "__init__.py":
            yield candidate


@functools.cache  # most modules are reached from most stages
def _uses(path: Path) -> tuple[list[str], list[Path]]:
    """What a module imports of the package, and the data files beside it that it names."""
    beside = {file.name: file for file in path.parent.iterdir() if file.is_file() and file.suffix != ".py"}
    imports, data = [], []
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in beside:
            data.append(beside[node.value])
    return [name for name in imports if name.split(".")[0] == PACKAGE.name], data


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UserError(
            f"{os.path.relpath(path)}: is no Python ({error}); expected a module that stages import; mend it, or take"
            " it from git again"
        ) from error
