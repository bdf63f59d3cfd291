"""Reads large JSON files an element at a time, so that memory holds one element and never the file."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NoReturn

from isopose.errors import UserError

CHUNK = 1 << 18
"""Characters read at a time."""

MOST_CHARACTERS = 1 << 24
"""Longest element, characters (the longest of COCO, an outline of a crowd, has about 100,000)."""

WHOLE = ""
"""Stands for the key of a file that is itself an array."""


def read_elements(path: Path, keys: Collection[str], expected: str) -> Iterator[tuple[str, Any]]:
    """Pairs (key, element) of the arrays under some keys of a JSON object, in the file's order.

    keys: those wanted, or (``WHOLE``,) for a file that is one array. expected: what the file should be, for the
    UserError that a file of another kind, broken or cut short becomes. A NaN, which JSON does not have, is refused.
    """
    if not path.is_file():
        raise UserError(f"{path}: is missing; expected {expected}")
    try:
        with path.open(encoding="utf-8") as file:
            yield from _Reader(file).elements(keys)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: cannot be read ({reason}); expected {expected}; copy it from the source again"
        ) from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}")


class _Reader:
    def __init__(self, file: Any) -> None:
        self._file = file
        self._text, self._place, self._ended = "", 0, False
        self._decoder = json.JSONDecoder(parse_constant=_no_constant)

    def elements(self, keys: Collection[str]) -> Iterator[tuple[str, Any]]:
        if WHOLE in keys:
            yield from ((WHOLE, element) for element in self._array())
        else:
            yield from self._object(keys)
        if self._peek():
            raise ValueError("something follows the end")

    def _object(self, keys: Collection[str]) -> Iterator[tuple[str, Any]]:
        self._expect("{")
        lacking = set(keys)
        while self._peek() != "}":
            key = self._value()
            self._expect(":")
            if self._peek() == "[":
                for element in self._array():
                    if key in keys:
                        yield key, element
                lacking.discard(key)
            else:
                self._value()
            if self._peek() != "}":
                self._expect(",")
        self._expect("}")
        if lacking:
            raise ValueError(f"has no array {sorted(lacking)}")

    def _array(self) -> Iterator[Any]:
        self._expect("[")
        while self._peek() != "]":
            yield self._value()
            if self._peek() != "]":
                self._expect(",")
        self._expect("]")

    def _read(self, characters: int) -> None:
        more = self._file.read(characters)
        self._ended = not more
        self._text, self._place = self._text[self._place :] + more, 0

    def _peek(self) -> str:
        """The next character that is not a space; empty at the end."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in " \t\r\n":
                self._place += 1
            if self._place < len(self._text) or self._ended:
                return self._text[self._place : self._place + 1]
            self._read(CHUNK)

    def _expect(self, character: str) -> None:
        found = self._peek()
        if found != character:
            raise ValueError(f"has {found!r} in place of {character!r}" if found else "is cut short")
        self._place += 1

    def _value(self) -> Any:
        self._peek()
        size = CHUNK
        while True:
            error = None
            try:
                value, end = self._decoder.raw_decode(self._text, self._place)
            except json.JSONDecodeError as failure:  # perhaps because the rest is not read yet
                error = failure
            # a number that ends with the text read so far may go on: 12 of 123, 12e+ of 12e+3
            if error is None and (end + 2 < len(self._text) or self._ended):
                self._place = end
                return value
            if self._ended:
                raise ValueError(f"is cut short or broken: {error.msg}")
            if len(self._text) - self._place > MOST_CHARACTERS:
                raise ValueError(f"an element is broken or longer than {MOST_CHARACTERS} characters")
            self._read(size)
            size *= 2
