"""Parameters by name: what a job is given, and the keys of params.yaml that it comes from.

A name is a key's path with dots, such as ``iso.iterations``. A key may hold a dot itself: in
``iso.weightings.hard_0.9.weighting`` the third key is ``hard_0.9``.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from isopose import config


@dataclass(frozen=True)
class Named:
    """A value and the names of the parameters that it comes from."""

    value: Any
    names: tuple[str, ...] = ()


class NamedText(str):
    """Text for a command line; ``names`` are those of the parameters that it comes from, sorted."""

    names: tuple[str, ...]

    def __new__(cls, string: str, names: Collection[str]) -> "NamedText":
        """Keep the names beside the text; its bytes, and its repr, are those of plain text."""
        self = super().__new__(cls, string)
        self.names = tuple(sorted(set(names)))
        return self


class Parameters:
    """The checked parameters of a track, read by name."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def value(self, name: str) -> Named:
        """A parameter that must be there. Errors: KeyError."""
        found = self.get(name)
        if not found.names:
            raise KeyError(f"params.yaml has no '{name}'")
        return found

    def get(self, name: str) -> Named:
        """A parameter that may be absent: then None, without a name."""
        keys = keys_of(self._values, name)
        return Named(at(self._values, keys), (name,)) if keys else Named(None)

    def section(
        self, name: str, without: Collection[str] = (), only: Collection[str] | None = None
    ) -> dict[str, Named]:
        """The parameters of a section by key, each with its own name; an absent section has none.

        without: keys to leave out. only: keys to take, where they are there.
        """
        keys = [key for key in self.get(name).value or {} if key not in without and (only is None or key in only)]
        return {key: self.value(f"{name}.{key}") for key in keys}


def keys_of(values: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """The keys that lead to a name, or None where it is absent."""
    if name in values:
        return (name,)
    for key, inner in values.items():
        if name.startswith(f"{key}.") and isinstance(inner, Mapping):
            rest = keys_of(inner, name[len(key) + 1 :])
            if rest:
                return (key, *rest)
    return None


def at(values: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    """The value that keys lead to. Errors: KeyError."""
    for key in keys:
        values = values[key]
    return values


def laid_over(base: Mapping[str, Named], over: Mapping[str, Named]) -> dict[str, Named]:
    """One section laid over another, as :func:`isopose.config.merge` does; a replaced value loses its name."""
    merged = dict(base)
    for key, new in over.items():
        old = base.get(key)
        both = old is not None and isinstance(old.value, Mapping) and isinstance(new.value, Mapping)
        merged[key] = derived(config.merge(old.value, new.value), old, new) if both else new
    return merged


def derived(value: Any, *sources: Named) -> Named:
    """A value that was made from others, with the names of them all."""
    return Named(value, tuple(name for source in sources for name in source.names))


def text(string: str, *sources: Named) -> NamedText:
    """Text for a command line that was made from the sources."""
    return NamedText(string, derived(None, *sources).names)


def options(*sections: Mapping[str, Any], **values: Any) -> NamedText:
    """One JSON object of parameters for a stage: whole sections, then single values; of equal keys the last counts.

    Values are named, plain (constants of the rules), or lists and mappings of both.
    """
    merged: dict[str, Any] = {}
    for section in sections:
        merged |= section
    names: list[str] = []

    def unwrap(named: Named) -> Any:
        names.extend(named.names)
        return named.value

    return NamedText(json.dumps(merged | values, sort_keys=True, default=unwrap), names)
