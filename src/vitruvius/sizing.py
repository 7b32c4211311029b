"""The format that a model's weights are stored in: the default of every size.

A folder or file is measured, a bare config.json says it (`quantization_config`, `dtype`), the catalog knows what was
released; a tree that comes from nowhere is taken in bf16.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from math import prod
from pathlib import Path
from typing import Any
from warnings import catch_warnings, warn

from . import catalog
from .architectures import family_of
from .checkpoints.files import settings
from .checkpoints.sources import Source, architecture, described
from .checkpoints.steps import file_shapes
from .cost import Cost
from .cost import cost as cost_of
from .cost.as_stored import FileSizes, quantized
from .cost.counting import counted
from .cost.dtypes import DTYPES
from .cost.formats import Format, Plain
from .cost.setting import tokens
from .errors import InputError, InputWarning
from .spec import Decoder, spelled

BF16 = "bf16"


def as_stored(source: Source, arch: Decoder, ignore: Collection[str] = ()) -> Format:
    """How the weights of a source are stored.

    Args:
        source: a catalog name, a folder, a config.json, a .gguf file, a config as a dict, a hub id, or a tree.
        arch: the tree that it gives.
        ignore: keys and tensors that may be left out.

    Raises InputError where its files cannot be read, or are packed by a method that is not known.
    """
    if isinstance(source, Decoder) or (isinstance(source, str) and source in catalog.names()):
        return released(arch)
    with catch_warnings(action="ignore", category=InputWarning):  # whoever read the tree has heard them
        if not isinstance(source, Mapping) and _holds_weights(Path(source)):
            try:
                return measured(source, ignore)
            except InputError as error:
                problem = error
        else:
            problem = None
        config = source if isinstance(source, Mapping) else described(source, ignore).config
    if problem:
        warn(f"{problem}; weights are sized as config.json says", InputWarning, stacklevel=3)
    return from_config(config, arch, "as config.json says")


def cost(
    source: Source,
    context: int | str | None = None,
    batch: int = 1,
    dtype: str | None = None,
    *args: Any,
    weights: str | Format | None = None,
    ignore: Collection[str] = (),
    **options: Any,
) -> Cost:
    """What a model costs: see `vitruvius.cost.cost`, whose options these are.

    Args:
        source: a tree, or whatever names one: a catalog name, a folder, a config.json, a .gguf file, a hub id.
        context: tokens of each sequence; "128k" is 131,072.
        weights: a format of weights; by default as they are stored, or in `dtype` where none are packed.
        ignore: keys of the config that may go unread.
    """
    arch = architecture(source, ignore)
    chosen = weights if isinstance(weights, Format) else format_of(source, arch, weights, dtype, ignore)
    length = tokens(context) if isinstance(context, str) else context
    return cost_of(arch, length, batch, dtype or BF16, *args, weights=chosen, **options)


def format_of(
    source: Source, arch: Decoder, weights: str | None, dtype: str | None, ignore: Collection[str] = ()
) -> str | Format:
    """The format that is asked for, else the dtype that is where nothing is packed, else as stored."""
    if weights is not None:
        return weights
    found = as_stored(source, arch, ignore)
    return dtype if dtype is not None and isinstance(found, Plain) else found


def released(arch: Decoder) -> Format:
    """As the catalog knows that the model of this name was released."""
    entry = catalog.entry(arch.name) if arch.name in catalog.names() else None
    if entry is None or entry.stored is None:
        return Plain(BF16)
    return from_config({"quantization_config": entry.stored["quantization"]}, arch, "as released")


def from_config(config: Mapping[str, Any], arch: Decoder, origin: str) -> Format:
    """What a config.json says; bf16 where it says nothing."""
    text = config.get("text_config")
    places = (config, text if isinstance(text, Mapping) else {})
    said = [
        str(value).removeprefix("torch.")
        for place in places
        for value in (place.get("dtype"), place.get("torch_dtype"))
    ]
    rest = next((dtype for dtype in said if dtype in DTYPES), BF16)
    rest = {"bfloat16": BF16, "float16": "f16", "float32": "f32"}.get(rest, rest)
    method = settings(config)
    return quantized(method, counted(arch), modules(arch), rest, origin) if method else Plain(rest)


def modules(arch: Decoder) -> dict[str, str]:
    """Canonical name of a weight -> the module that holds it, as the checkpoint names it."""
    entries = spelled(arch, family_of(arch).irregular(arch))
    return {ours: entry.theirs[0].removesuffix(".weight") for entry in entries for ours in entry.ours}


def measured(source: str | os.PathLike[str], ignore: Collection[str] = ()) -> Format:
    """The bytes that a folder's or file's tensors have, by the tree's names."""
    from .checkpoints.checkpoint import Checkpoint  # numpy, which a config.json can do without

    checkpoint = Checkpoint.open(source, ignore, strict=False)
    container, sizes, kinds = checkpoint.tensors, {}, set()
    for entry in checkpoint.plan(ignore, mtp=True).entries:
        total = sum(container.nbytes(name) for name in entry.theirs)
        elements = [prod(shape) for shape in entry.shapes]
        kinds |= {container.kind(name) for name, shape in file_shapes(entry).items() if len(shape) > 1}
        for name, own in zip(entry.ours, elements, strict=True):
            sizes[name] = -(-total * own // sum(elements))
    products = "fp8" if kinds == {"F8_E4M3"} else None
    return FileSizes(f"as stored ({', '.join(sorted(kinds))})", sizes, products)


def _holds_weights(path: Path) -> bool:
    """Whether a path has tensors, not only a config.json."""
    if path.is_dir():
        return any(path.glob("*.safetensors")) or (not (path / "config.json").exists() and any(path.glob("*.gguf")))
    return path.is_file() and path.suffix != ".json"
