"""Writing a model as a Hugging Face folder, which other programs load."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import catalog
from .architectures import text_config
from .checkpoints import matching
from .checkpoints.classes import class_of
from .checkpoints.files import FORMAT_KEYS
from .checkpoints.safetensors import INDEX, RAW
from .checkpoints.sources import config_of
from .checkpoints.steps import file_shapes, saved
from .checkpoints.stored import Stored
from .errors import InputError
from .exported import code, export
from .models import Origin, shared
from .spec import Decoder as Spec
from .spec import Tensors

if TYPE_CHECKING:
    import torch

    from .checkpoints.stored import Container
    from .checkpoints.tokenizer import Tokenizer
    from .nn import Decoder

# What else a folder holds that belongs to the model: its tokenizer and its defaults for generation.
COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "tekken.json",
    "tiktoken.model",
    "qwen.tiktoken",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


def save(model: Decoder, folder: str | os.PathLike[str], max_shard_size: str = "5GB") -> list[str]:
    """Writes a Hugging Face folder with all that other programs need: config.json, safetensors, and, of the checkpoint
    that the model came from, the tokenizer, the chat template and the defaults for generation.

    An edited model, which no config.json of a known family describes, is written with its tree and the code by which
    other programs run it (see `exported`).
    What the checkpoint held besides the model (vision, layers for multi-token prediction) is carried through where it
    is still at hand. Returns the names that were left out because it is not. Files are written beside their targets and
    renamed.
    """
    decoder, origin = model.spec, model.origin
    config, entries = _described(decoder, origin)
    target, source = Path(folder), origin and origin.checkpoint.path
    target.mkdir(parents=True, exist_ok=True)
    carried = origin.checkpoint.tensors if origin and source and (source / "config.json").exists() else None
    unused = origin.plan.unused if origin else ()
    with tempfile.TemporaryDirectory(dir=target, prefix=".saving-") as temporary:
        place = Path(temporary)
        _write_tensors(model, entries, carried, unused, place, max_shard_size)
        _write_json(place / "config.json", _completed(config, model))
        for name, text in code(config) if "tree" in config else ():
            (place / name).write_text(text, "utf-8")
        _write_companions(place, source, config)
        written = sorted(file.name for file in place.iterdir())
        for stale in target.glob("model*.safetensors*"):
            if stale.name not in written:
                stale.unlink()
        for name in written:
            os.replace(place / name, target / name)
    return [] if carried else list(unused)


def runs(model: Decoder) -> str:
    """Which programs run what `save` writes of a model, in one line."""
    config, _ = _described(model.spec, model.origin)
    if "tree" not in config:
        return f"transformers, vLLM and SGLang run it where they know {_completed(config, model)['architectures'][0]}"
    made = export(model.spec)
    if made.reason is None:
        by = "transformers, vLLM and SGLang run it by the code in the folder (trust_remote_code)"
    elif "auto_map" in made.config:
        by = f"transformers runs it by vitruvius (trust_remote_code), engines do not, since {made.reason}"
    else:
        by = f"only vitruvius runs it, since {made.reason}"
    return f"an edited architecture: {by}"


def _completed(config: Mapping[str, Any], model: Decoder) -> dict[str, Any]:
    """The config.json with what other programs look for: the class that runs the model, and the dtype of its
    weights."""
    known = {"architectures": [class_of(str(config.get("model_type")))], **config}
    dtype = str(model.dtype).removeprefix("torch.")
    return known | {"dtype" if "dtype" in config else "torch_dtype": dtype}


def _write_companions(folder: Path, source: Path | None, config: Mapping[str, Any]) -> None:
    """The tokenizer and the defaults for generation: the source's own files, or what a GGUF file amounts to."""
    if source and source.is_dir():
        for name in COMPANIONS:
            if (source / name).exists():
                shutil.copyfile(source / name, folder / name)
    elif source and (words := _tokenizer(source)):
        words.save(folder)
    ids = {key: config[key] for key in SPECIAL_IDS if config.get(key) is not None}
    if ids and not (folder / "generation_config.json").exists():
        _write_json(folder / "generation_config.json", {"_from_model_config": True, **ids})


def _tokenizer(source: Path) -> Tokenizer | None:
    """The tokenizer in a GGUF file, None where it has none that is known."""
    from .checkpoints.tokenizer import tokenizer

    try:
        return tokenizer(source)
    except InputError:
        return None


def _whole(container: Container, name: str) -> torch.Tensor:
    """A tensor of the file as it is, what is in blocks in float32."""
    stored = container.stored(name)
    return shared(stored if stored.kind in RAW else Stored("F32", stored.floats()))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")


def _described(decoder: Spec, origin: Origin | None) -> tuple[Mapping[str, Any], tuple[Tensors, ...]]:
    """The config.json that describes a tree, and the names that go with it."""
    found = origin.checkpoint if origin and replace(origin.checkpoint.spec, mtp=decoder.mtp) == decoder else None
    config = found.config if found else config_of(decoder)
    if config is None or "tree" in config:
        made = export(decoder)
        special = {key: origin.checkpoint.config.get(key) for key in SPECIAL_IDS} if origin else {}
        return {**made.config, **special}, made.names
    if found and origin and (found.path / "config.json").exists():
        return {key: value for key, value in config.items() if key not in FORMAT_KEYS}, origin.plan.entries
    return text_config(config, catalog.implicit), matching.plain(decoder)  # of a wrapper, whose vision is not there


def _write_tensors(
    model: Decoder,
    entries: tuple[Tensors, ...],
    carried: Container | None,
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
        for name, shape in file_shapes(entry).items()
    }
    if carried:
        planned |= {name: _whole(carried, name).to("meta") for name in unused}
    shards = split_torch_state_dict_into_shards(planned, max_shard_size=max_shard_size)
    for file, names in shards.filename_to_tensors.items():
        tensors: dict[str, torch.Tensor] = {}
        for name in names:
            if name in tensors:
                continue
            if name in sources:
                entry = sources[name]
                made = saved(entry, [ours[path].detach() for path in entry.ours])
                tensors |= {key: value.cpu().contiguous().clone() for key, value in made if key in names}
            elif carried:
                tensors[name] = _whole(carried, name)
        save_file(tensors, str(folder / file), metadata={"format": "pt"})
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        _write_json(folder / INDEX, index)
