"""A process of its own that reads foreign binary files: libraries in C crash or hang on broken ones, so it has limits.

What it reads comes back as named arrays, never as pickled objects: a file that takes over the reader gains nothing.
"""

import io
import multiprocessing
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np

from isopose.errors import UserError

Arrays = Mapping[str, np.ndarray]

READ_SECONDS = 10.0
"""The longest that one file may take."""

MEMORY_BYTES = 4 * 2**30
"""Address space of the process."""

START_SECONDS = 60.0
"""The longest that the process may take to start and to import the reader: of a busy machine, and no file's fault."""

_TAKEN, _ARRAYS, _REFUSED, _FAILED = b"taken", b"arrays:", b"refused", b"failed:"


class Worker:
    """Reads files in another process; a context manager. After a crash or a time-out the next file gets a new one."""

    def __init__(self, seconds: float = READ_SECONDS, memory: int = MEMORY_BYTES) -> None:
        self.seconds, self.memory = seconds, memory
        self._process: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def read(
        self, function: Callable[..., Arrays], path: Path, expected: str, *arguments: Any
    ) -> dict[str, np.ndarray]:
        """What ``function(path, *arguments)`` returns: named arrays, of numbers or strings.

        function: importable by name. expected: what the file should be, for the message of the UserError that any
        failure becomes; a UserError of the function itself passes as it is.
        """
        if not path.is_file():
            raise UserError(f"{path}: is missing; expected {expected}")
        if self._process is None:
            self._start()
        self._pipe.send((function, path, arguments))
        advice = f"expected {expected}; copy it from the source again"
        self._receive(path, START_SECONDS, advice)
        answer = self._receive(path, self.seconds, advice)
        kind, content = answer[: len(_ARRAYS)], answer[len(_ARRAYS) :]
        if kind == _REFUSED:
            raise UserError(content.decode())
        if kind == _FAILED:
            raise UserError(f"{path}: cannot be read ({content.decode()}); {advice}")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def _receive(self, path: Path, seconds: float, advice: str) -> bytes:
        if not self._pipe.poll(seconds):
            self._stop()
            raise UserError(f"{path}: not read within {seconds:g} s; {advice}")
        try:
            return self._pipe.recv_bytes()
        except (EOFError, ConnectionError):  # the second where it dies before it has taken the request
            self._process.join()
            code = self._process.exitcode
            self._stop()
            raise UserError(f"{path}: its reader crashed (exit status {code}); {advice}") from None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, remote = context.Pipe()
        self._process = context.Process(target=_serve, args=(remote, self.memory), daemon=True)
        with _no_main_module():
            self._process.start()
        remote.close()  # so that the other end's death is noticed

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
        self._process = self._pipe = None


@contextmanager
def _no_main_module() -> Iterator[None]:
    """A process started meanwhile does not import the main module again: a stage imports torch, which alone would fill
    the reader's address space."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(pipe: Connection, memory: int) -> None:
    """The process: answer every request until the other end is gone."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            function, path, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send_bytes(_TAKEN)
        pipe.send_bytes(_answer(function, path, arguments))


def _answer(function: Callable[..., Arrays], path: Path, arguments: tuple) -> bytes:
    try:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **function(path, *arguments))
        return _ARRAYS + buffer.getvalue()
    except UserError as error:
        return _REFUSED + str(error).encode()
    except Exception as error:  # whatever a library raises on a broken file becomes one line
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return _FAILED + reason[:300].encode()
