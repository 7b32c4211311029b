"""Adapters of a model and their files: glue between modules and checkpoints."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .checkpoints import matching
from .checkpoints.adapters import (
    PREFIX,
    TENSORS,
    AdapterFolder,
    LowRankSum,
    config_of_adapters,
    to_file,
    to_model,
    write_config,
)
from .errors import InputError
from .models import shared
from .spec import Tensors, Transpose

if TYPE_CHECKING:
    from .nn import Decoder


def save_adapter(model: Decoder, folder: str | os.PathLike[str], base: str | None = None) -> list[str]:
    """Writes the adapters of `model` as PEFT does, under the names that the checkpoint of the model has, so that other
    programs load them onto it.

    Args:
        base: what the file says it was made for; by default where the model was loaded from.

    Returns the modules. Raises InputError where the model has no adapters, or where they are on matrices that PEFT's
    format has no place for. Files are written beside their targets and renamed.
    """
    from safetensors.torch import save_file

    from .nn.adapters import adapters

    target, ours = Path(folder), adapters(model)
    if not ours:
        raise InputError("the model has no adapters to write")
    entries = _entries(model)
    parts = {path: LowRankSum(each.lora_a.detach(), each.lora_b.detach(), each.scale) for path, each in ours.items()}
    file = to_file(entries, parts, target)
    if base is None and model.origin:
        base = str(model.origin.checkpoint.path)
    transposed = any(
        isinstance(step, Transpose) for entry in entries for step in entry.steps if len(entry.shapes[0]) == 2
    )
    dropout = next(iter(ours.values())).dropout
    tensors = {f"{PREFIX}{module}.lora_A.weight": part.a for module, part in file.items()}
    tensors |= {f"{PREFIX}{module}.lora_B.weight": part.b for module, part in file.items()}
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".saving-") as temporary:
        place = Path(temporary)
        whole = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
        save_file(whole, str(place / TENSORS), metadata={"format": "pt"})
        write_config(place, config_of_adapters(entries, file, base, transposed, dropout))
        for each in sorted(place.iterdir()):
            os.replace(each, target / each.name)
    return list(file)


def load_adapter(model: Decoder, folder: str | os.PathLike[str], train: bool = False) -> list[str]:
    """Gives `model` the adapters of a folder that PEFT or `save_adapter` wrote, in place.

    Args:
        train: whether they learn on; else they are frozen too.

    Returns the matrices that have one. Raises InputError for adapters of another model or another kind.
    """
    from .nn.adapters import Adapted, adaptable, adapters

    if adapters(model):
        raise InputError("the model has adapters already: merge them first")
    opened = AdapterFolder.open(folder)
    file = {
        module: LowRankSum(shared(opened.file.stored(a)), shared(opened.file.stored(b)), scale)
        for module, (a, b, scale) in opened.tensors.items()
    }
    parts, layers = to_model(_entries(model), file, opened.path), adaptable(model)
    for path, part in parts.items():
        layer = layers.get(path)
        if layer is None:
            raise InputError(f"{opened.path}: {path} cannot have an adapter here (a router, a head or an embedding)")
        *copies, out, into = layer.weight.shape
        wanted = (*copies, part.a.shape[-2], into), (*copies, out, part.b.shape[-1])
        if (tuple(part.a.shape), tuple(part.b.shape)) != wanted:
            raise InputError(
                f"{opened.path}: the adapter of {path} is for a matrix of {part.b.shape[-2]} × {part.a.shape[-1]}, "
                f"and the model's has {out} × {into}"
            )
    model.requires_grad_(False)
    for path, part in parts.items():
        module = Adapted(layers[path], part.a.shape[-2], part.scale, float(opened.config.get("lora_dropout") or 0.0))
        module.lora_a.data.copy_(part.a)
        module.lora_b.data.copy_(part.b)
        model.set_submodule(path, module.train(model.training))
        module.lora_a.requires_grad_(train)
        module.lora_b.requires_grad_(train)
    return list(parts)


def _entries(model: Decoder) -> tuple[Tensors, ...]:
    """The names of the model's checkpoint; of a model without one those that its family has."""
    return model.origin.plan.entries if model.origin else matching.plain(model.spec)
