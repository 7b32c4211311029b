"""GGUF's metadata as a config.json, from which the same architecture function makes the spec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import InputError, UnknownKeysError
from .keys import dense, gemma, mixtures, recurrent
from .metadata import Metadata

if TYPE_CHECKING:
    from collections.abc import Collection

    from .container import GGUF


def config(gguf: GGUF, ignored: Collection[str] = ()) -> dict[str, Any]:
    """The config.json that a Hugging Face folder of this model would have, as transformers 5 writes it.

    Args:
        gguf: an open file.
        ignored: metadata keys that may go unread.

    Raises:
        InputError: the architecture is not supported, or a key is missing, impossible, or would be ignored.
    """
    meta = Metadata(gguf)
    parts = gguf.metadata.get("split.count", 1)
    if isinstance(parts, int) and parts > gguf.parts:  # only its header is here
        raise InputError(f"{gguf.path}: one of {parts} parts of a model; join them with llama-gguf-split --merge")
    result = ARCHITECTURES[known(gguf)](meta)
    for key in ("bos", "eos"):
        if (token := gguf.metadata.get(f"tokenizer.ggml.{key}_token_id")) is not None:
            result[f"{key}_token_id"] = token
    if unread := sorted(meta.unread() - set(ignored)):
        raise UnknownKeysError(
            f"{gguf.path}: unknown {'keys' if len(unread) > 1 else 'key'} {', '.join(unread)}", unread
        )
    return result


def known(gguf: GGUF) -> str:
    """The file's `general.architecture`. Raises InputError where it is missing or none of ours, and for a file that
    holds no model of its own."""
    refuse_additions(gguf)
    architecture = gguf.metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise InputError(f"{gguf.path}: general.architecture is missing; the model cannot be known without it")
    if architecture not in ARCHITECTURES:
        raise InputError(
            f"{gguf.path}: GGUF architecture {architecture[:60]!r} is not supported (only {', '.join(ARCHITECTURES)}); "
            "use the model's Hugging Face folder instead"
        )
    return architecture


# `general.type` of what goes with a model's file
ADDITIONS = {
    "adapter": "an adapter (LoRA); give the model that it was made for, or merge both with llama-export-lora",
    "mmproj": "the image or sound part of a model; give the .gguf file of its text model",
    "imatrix": "statistics for quantization; give the model's own .gguf file",
}


def refuse_additions(gguf: GGUF) -> None:
    """Raises InputError for a file that goes with a model and is none, naming what it is and what to give."""
    kind = gguf.metadata.get("general.type", "mmproj" if gguf.metadata.get("general.architecture") == "clip" else None)
    if isinstance(kind, str) and kind in ADDITIONS:
        raise InputError(f"{gguf.path}: {ADDITIONS[kind]}")


ARCHITECTURES = dense.ARCHITECTURES | gemma.ARCHITECTURES | mixtures.ARCHITECTURES | recurrent.ARCHITECTURES
