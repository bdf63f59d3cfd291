"""Why a job would run again, in words: what differs between a job as it is now and Snakemake's record of its outputs.

Paths are relative to the current folder, which is the repository.
"""

import ast
import functools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import filterfalse, zip_longest
from pathlib import Path
from typing import Any

from isopose.bridge import records
from isopose.bridge.graph import Job, on_this_machine
from isopose.bridge.ledger import REFUSED
from isopose.bridge.records import Record
from isopose.files import sha256

_LONGEST_VALUE = 100  # signs of a value that are shown


def explanation(jobs: Iterable[Job]) -> str:
    """A block for each job that would run for a reason of its own; those that only follow are counted together."""
    digest = functools.cache(sha256)
    running = [job for job in jobs if job.needs_run and job.outputs]
    made_again = {output for job in running for output in job.outputs}
    blocks: list[str] = []
    others: Counter[str] = Counter()
    for job in running:
        reasons = _reasons(job, made_again, digest)
        if reasons:
            blocks.append("\n    ".join([" ".join([job.rule, *_wildcards(job)]), *reasons]))
        else:
            others[job.rule] += 1
    if others:
        counts = ", ".join(f"{rule} {count}" for rule, count in others.items())
        blocks.append(f"{others.total()} more because of these: {counts}")
    return "\n".join(blocks) or "nothing would run"


def declared(job: Job, record: Record) -> list[str]:
    """What a job's rule and parameters say otherwise than a record: parameters, inputs, command, software."""
    if record.code == REFUSED:
        return [REFUSED]
    found = list(_parameters(job, record))
    found += [f"input {path} is new" for path in job.inputs if path not in record.inputs]
    found += [f"input {path} is no longer one" for path in record.inputs if path not in job.inputs]
    if record.code != job.code:
        found.append(f"the command of the rule {job.rule} has changed")
    if record.software_stack_hash != job.software_stack_hash:
        found.append("the software environment has changed")
    return found


def changed_inputs(job: Job, record: Record, digest: Callable[[str], str]) -> dict[str, str]:
    """Inputs that are here with other bytes than a record says, whenever they changed: what to say of each by path.

    digest: the SHA-256 of a file by its path.
    """
    found = {}
    for path in job.inputs:
        old, here = record.inputs.get(path), on_this_machine(path)
        if old and Path(here).is_file() and digest(here) != old:
            kind = "module" if path.endswith(".py") else "input"
            found[path] = f"{kind} {path}: sha256 {old[:8]} -> {digest(here)[:8]}"
    return found


def objects(params: Iterable[str]) -> list[Mapping[str, Any]]:
    """The JSON objects among a job's parameters, which are given as reprs."""
    return list(filter(_is_mapping, map(_parsed, params)))


def parameters(job: Job, values: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What is inside JSON objects of a job's parameters, as shown, by its name in params.yaml."""
    return {_name(job, keys): _shown(text) for value in values for keys, text in _leaves(value)}


def _reasons(job: Job, made_again: Collection[str], digest: Callable[[str], str]) -> list[str]:
    """Reasons of a job's own, each once; none for a job that only follows another.

    made_again: files that other jobs would make, whose bytes now are no reason.
    """
    found: list[str] = []
    for output in job.outputs:
        record, here = records.read(output), Path(output).exists()
        if not here and not job.follows:
            found.append(f"{output} is missing")
        if here and records.is_incomplete(output):
            found.append(f"{output} may be incomplete: its job has not ended")
        if record:
            found += declared(job, record)
            changed = changed_inputs(job, record, digest)
            found += [change for path, change in changed.items() if path not in made_again]
        elif here:
            found.append(f"{output} has no record")
    if not found and not job.follows:
        found.append(job.reason)
    return list(dict.fromkeys(found))


def _wildcards(job: Job) -> list[str]:
    return [f"{key}={value}" for key, value in job.wildcards.items()]


def _parameters(job: Job, record: Record) -> Iterator[str]:
    """Differences of parameters: key by key within JSON objects, which have names, and whole for other arguments."""
    before, now = Counter(record.params), Counter(job.params)
    old, new = (list(map(_parsed, texts.elements())) for texts in (before - now, now - before))
    for pair in zip_longest(filter(_is_mapping, old), filter(_is_mapping, new), fillvalue={}):
        a, b = (dict(_leaves(value)) for value in pair)
        for keys in dict.fromkeys([*a, *b]):
            if a.get(keys) != b.get(keys):
                yield f"parameter {_name(job, keys)}: {_shown(a.get(keys))} -> {_shown(b.get(keys))}"
    for pair in zip_longest(filterfalse(_is_mapping, old), filterfalse(_is_mapping, new)):
        yield "argument: {} -> {}".format(*(_shown(None if value is None else _json(value)) for value in pair))


def _parsed(text: str) -> Any:
    """The value of a parameter's repr: what a JSON object holds, another value as it is, or the repr itself."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    try:
        inside = json.loads(value)
    except (TypeError, ValueError):
        return value
    return inside if _is_mapping(inside) else value


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _leaves(value: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Values inside mappings, and inside lists of mappings, as JSON (1 is not 1.0) by the keys that lead there."""
    if isinstance(value, list) and value and all(map(_is_mapping, value)):
        value = {str(number): entry for number, entry in enumerate(value)}
    if _is_mapping(value) and (value or not keys):
        for key, inner in value.items():
            yield from _leaves(inner, (*keys, key))
    else:
        yield keys, _json(value)


def _name(job: Job, keys: tuple[str, ...]) -> str:
    """The name in params.yaml of a key within a job's JSON, or the key itself where the job's names do not tell."""
    for length in range(len(keys), 0, -1):
        start, rest = ".".join(keys[:length]), keys[length:]
        names = [name for name in job.parameters if name == start or name.endswith(f".{start}")]
        if names:
            return " or ".join(".".join([name, *rest]) for name in names)
    return ".".join(keys)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)


def _shown(text: str | None) -> str:
    """A value's JSON, cut where it is long; None where there is no value."""
    text = "absent" if text is None else text
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
