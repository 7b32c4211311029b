"""Loading, building and saving models: where specs, checkpoints and modules meet."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import catalog
from .architectures import text_config
from .checkpoints import matching
from .checkpoints.packed import refuse_quantized
from .checkpoints.sources import Source, architecture, eos_ids, weights
from .checkpoints.tensors import INDEX, Checkpoint, open_checkpoint
from .errors import InputError
from .spec import Decoder as Spec
from .spec import to_json

if TYPE_CHECKING:
    import torch

    from .nn import Decoder

T = TypeVar("T")
Progress = Callable[[Iterable[T], int], Iterable[T]]  # (items, how many) -> the same items, shown as they pass

# What else a folder holds that belongs to the model: its tokenizer and its defaults for generation.
COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)


@dataclass(frozen=True)
class Origin:
    """Where a loaded model's tensors came from."""

    path: Path
    plan: matching.Plan


def load(
    source: str | os.PathLike[str],
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    quantize: str | None = None,
    ignore: Collection[str] = (),
    mtp: bool = False,
    progress: Progress[Any] = lambda items, count: items,
) -> Decoder:
    """A model with the weights of a checkpoint.

    Args:
        source: a folder, a .gguf file, a catalog name whose weights are at hand, or a hub id.
        dtype: of the weights; "checkpoint" keeps each tensor as it is stored.
        device: where they go.
        quantize: not supported yet; must be None.
        ignore: config keys or tensor names (patterns) that a fine-tune adds and that may be left out.
        mtp: whether to load the layers for multi-token prediction too, where the model has any.
        progress: wraps the tensors that are read, to show how far it is.

    Raises InputError, in one line, for what cannot be found, does not match, or does not fit into memory.
    """
    import torch

    from .nn.model import assign, check_memory, dtype_of, own_dtype, skeleton, weights_of

    if quantize is not None:
        raise InputError(f"quantize={quantize!r} is not supported yet; load in float32 or bfloat16")
    path = weights(source)
    complete = architecture(path, ignore, name=None if Path(source).exists() else str(source))
    decoder = complete if mtp else replace(complete, mtp=())
    refuse_quantized(decoder)
    kind = None if dtype == "checkpoint" else dtype_of(dtype)
    check_memory(decoder, kind or dtype_of("bfloat16"), device)
    checkpoint = open_checkpoint(path)
    plan = matching.match(complete, checkpoint, ignore, mtp)
    model, declared = skeleton(decoder), weights_of(decoder)
    for entry in progress(plan.entries, len(plan.entries)):
        for name, value in matching.loaded(entry, [checkpoint.read(name) for name in entry.theirs]):
            if not value.is_floating_point() or value.dtype.itemsize < 2:
                raise InputError(f"{path}: {entry.theirs[0]} holds {value.dtype}, which cannot be loaded yet")
            # a copy, so that the model does not lean on the file's memory, which may change
            kept = torch.bfloat16 if entry.theirs[0] in checkpoint.packed else value.dtype  # what they were packed from
            wanted = own_dtype(declared[name][0], kind) if kind else kept
            assign(model, name, value.to(device, wanted, copy=True).contiguous())
    model.eos = frozenset(eos_ids(path))
    model.origin = Origin(path, plan)
    return model.eval()


def build(
    source: Source, seed: int = 0, dtype: str | torch.dtype = "float32", device: str = "cpu", mtp: bool = False
) -> Decoder:
    """A model with random weights.

    Args:
        source: a spec, or anything that `architecture` takes.
        seed: of the random numbers, which do not depend on the device.
        dtype: of the weights.
        device: where they go.
        mtp: whether to build the layers for multi-token prediction too, where the model has any.

    Raises InputError if the weights would not fit into memory.
    """
    from .nn.model import build as build_spec

    decoder = architecture(source)
    return build_spec(decoder if mtp else replace(decoder, mtp=()), seed, dtype, device)


def save(model: Decoder, folder: str | os.PathLike[str], max_shard_size: str = "5GB") -> list[str]:
    """Writes a Hugging Face folder: config.json, safetensors, and the tokenizer of the checkpoint that the model came
    from.

    An edited model, which no config.json of a known family describes, is written with its tree and canonical names.
    What the checkpoint held besides the model (vision, layers for multi-token prediction) is carried through where it
    is still at hand. Returns the names that were left out because it is not. Files are written beside their targets and
    renamed.
    """
    decoder, origin = model.spec, model.origin
    config, entries = _described(decoder, origin)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    carried = open_checkpoint(origin.path) if origin and origin.path.is_dir() else None
    unused = origin.plan.unused if origin else ()
    with tempfile.TemporaryDirectory(dir=target, prefix=".saving-") as temporary:
        _write_tensors(model, entries, carried, unused, Path(temporary), max_shard_size)
        (Path(temporary) / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        if origin and origin.path.is_dir():
            for name in COMPANIONS:
                if (origin.path / name).exists():
                    shutil.copyfile(origin.path / name, Path(temporary) / name)
        written = sorted(file.name for file in Path(temporary).iterdir())
        for stale in target.glob("model*.safetensors*"):
            if stale.name not in written:
                stale.unlink()
        for name in written:
            os.replace(Path(temporary) / name, target / name)
    return [] if carried else list(unused)


def _described(decoder: Spec, origin: Origin | None) -> tuple[Mapping[str, Any], tuple[matching.Tensors, ...]]:
    """The config.json that describes a tree, and the names that go with it."""
    original = architecture(decoder.config) if decoder.config is not None and "tree" not in decoder.config else None
    if original is not None and replace(original, mtp=decoder.mtp) == decoder:
        assert decoder.config is not None
        if origin:
            return decoder.config, origin.plan.entries
        text = text_config(decoder.config, catalog.implicit)  # of a wrapper, whose vision is not there
        return text, matching.plain(decoder)
    return {"model_type": "vitruvius", "tree": to_json(decoder)}, matching.canonical(decoder)


def _write_tensors(
    model: Decoder,
    entries: tuple[matching.Tensors, ...],
    carried: Checkpoint | None,
    unused: Collection[str],
    folder: Path,
    max_shard_size: str,
) -> None:
    """model.safetensors, or several with an index; only one shard is in memory at a time."""
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    ours = dict(model.named_parameters()) | dict(model.named_buffers())
    sources = {name: entry for entry in entries for name in entry.theirs}
    planned = {
        name: torch.empty(shape, dtype=ours[entry.ours[0]].dtype, device="meta")
        for entry in entries
        for name, shape in matching.stored(entry).items()
    }
    if carried:
        planned |= {name: carried.read(name).to("meta") for name in unused}
    shards = split_torch_state_dict_into_shards(planned, max_shard_size=max_shard_size)
    for file, names in shards.filename_to_tensors.items():
        tensors: dict[str, torch.Tensor] = {}
        for name in names:
            if name in tensors:
                continue
            if name in sources:
                entry = sources[name]
                made = matching.saved(entry, [ours[path].detach() for path in entry.ours])
                tensors |= {key: value.cpu().contiguous().clone() for key, value in made if key in names}
            elif carried:
                tensors[name] = carried.read(name)
        save_file(tensors, str(folder / file), metadata={"format": "pt"})
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")
