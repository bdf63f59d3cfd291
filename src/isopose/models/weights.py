"""Weight files: safetensors with the model's configuration in the metadata, written whole or not at all."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from isopose.errors import UserError
from isopose.files import atomic_path

ModelT = TypeVar("ModelT", bound=nn.Module)


def save_weights(path: Path, model: nn.Module, kind: str, config: Mapping[str, Any]) -> None:
    """Write a model's weights and buffers; the same model always gives the same bytes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        # Not save_file, whose files only their owner may read.
        temporary.write_bytes(save(tensors, metadata={kind: json.dumps(config, sort_keys=True)}))


def load_weights(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the configuration and the tensors of a file that holds a model of this kind."""
    advice = f"expected weights of kind '{kind}'; delete it and run again"
    try:
        with safe_open(str(path), framework="pt") as file:
            config = (file.metadata() or {}).get(kind)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {advice}") from error
    if config is None:
        raise UserError(f"{path}: holds no {kind}; {advice}")
    return json.loads(config), tensors


def load_model(path: Path, kind: str, build: Callable[[dict[str, Any]], ModelT]) -> ModelT:
    """The model of this kind that a file holds, made by ``build`` from its configuration, ready for inference."""
    config, tensors = load_weights(path, kind)
    try:
        model = build(config)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: its configuration is not that of a {kind} ({error!r}); make it again") from error
    found, expected = _shapes(tensors), _shapes(model.state_dict())
    misfits = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if misfits:
        shapes = f"{misfits[0]} is {found.get(misfits[0], 'missing')}; expected {expected.get(misfits[0], 'none')}"
        more = f" ({len(misfits) - 1} more)" * (len(misfits) > 1)
        raise UserError(
            f"{path}: the weights of this {kind} do not fit its configuration: {shapes}{more}; make it again"
        )
    model.load_state_dict(tensors)
    return model.eval()


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
