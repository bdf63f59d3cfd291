"""The experiment's parameters: loading params.yaml with an overlay, and refusing what the schema does not know."""

import copy
import difflib
import functools
import json
import operator
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from isopose import stage
from isopose.errors import UserError
from isopose.files import write_text


def load(path: Path, overlay: Path | None = None) -> dict[str, Any]:
    """Read params.yaml, with a track's overlay laid over it as Snakemake lays ``--configfile`` over ``configfile:``."""
    config = _read(path)
    return merge(config, _read(overlay)) if overlay else config


def _read(path: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        tracks = ", ".join(["demo", *sorted(p.parent.name for p in Path("experiments").glob("*/params.yaml"))])
        raise UserError(f"{path}: cannot be read ({error.strerror}); the tracks here are {tracks}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from error


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one configuration over another: mappings merge, anything else is replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def in_order(config: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with its keys in the order of a reference's: Snakemake puts an overlay's keys first."""
    keys = [key for key in reference if key in config] + [key for key in config if key not in reference]
    nested = (key for key in keys if isinstance(config[key], Mapping) and isinstance(reference.get(key), Mapping))
    return {key: config[key] for key in keys} | {key: in_order(config[key], reference[key]) for key in nested}


def drop_nulls(config: Mapping[str, Any], sections: tuple[str, ...]) -> dict[str, Any]:
    """Remove the entries of the named sections that an overlay has set to null."""
    kept = {name: {k: v for k, v in config[name].items() if v is not None} for name in sections if name in config}
    return dict(config) | kept


def typed(config: Mapping[str, Any], schema_path: Path) -> dict[str, Any]:
    """Numbers and booleans where the schema wants them and text has come: Snakemake's ``--config`` makes all text."""
    schema = yaml.safe_load(Path(schema_path).read_text(encoding="utf-8"))
    result = copy.deepcopy(dict(config))
    pending = list(Draft202012Validator(schema).iter_errors(config))
    while pending:
        error = pending.pop()
        pending += error.context
        if error.validator == "type" and isinstance(error.instance, str):
            value = yaml.safe_load(error.instance)
            if Draft202012Validator(error.schema).is_valid(value):
                *parents, last = error.absolute_path
                functools.reduce(operator.getitem, parents, result)[last] = value
    return result


def validate(config: Mapping[str, Any], schema_path: Path) -> None:
    """Refuse an unknown key, a wrong type or an out-of-range value by its name, with the nearest valid key."""
    schema = yaml.safe_load(Path(schema_path).read_text(encoding="utf-8"))
    validator = Draft202012Validator(schema)
    problems = sorted({line for error in validator.iter_errors(config) for line in _explain(error)})
    if problems:
        raise UserError("params: " + "; ".join(problems))


def _explain(error: ValidationError) -> Iterator[str]:
    where = ".".join(map(str, error.absolute_path))
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        for key in sorted(error.instance.keys() - set(known)):
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
            yield f"unknown parameter '{_join(where, key)}', {hint}"
    elif error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        yield f"'{_join(where, missing[0])}' is missing"
    elif error.validator in ("anyOf", "oneOf"):
        inner = min(error.context, key=lambda e: (e.validator == "type", len(e.absolute_path)))
        yield from _explain(inner)
    else:
        expected = {
            "type": lambda v: f"expected {v if isinstance(v, str) else ' or '.join(v)}",
            "enum": lambda v: f"expected one of {', '.join(map(str, v))}",
            "minimum": lambda v: f"expected at least {v}",
            "maximum": lambda v: f"expected at most {v}",
            "exclusiveMinimum": lambda v: f"expected more than {v}",
            "exclusiveMaximum": lambda v: f"expected less than {v}",
            "minItems": lambda v: f"expected at least {v} entries",
            "pattern": lambda v: f"expected a name like {v}",
        }.get(error.validator, lambda v: error.message)
        yield f"'{where}' is {error.instance!r}, {expected(error.validator_value)}"


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


app = typer.Typer(add_completion=False)


@app.command()
def main(output: Path = typer.Option(..., help="YAML file to write."), params: str = stage.PARAMS_OPTION) -> None:
    """Write the parameters that a run uses, overlay and command line included, beside its report."""
    write_text(output, yaml.safe_dump(json.loads(params), sort_keys=False, allow_unicode=True, width=120))


if __name__ == "__main__":
    stage.run(app)
