"""What a run starts from: an architecture with random weights, or a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.sources import architecture
from ..checkpoints.tokenizer import Tokenizer
from ..errors import InputError
from ..spec import Decoder
from .recipe import Recipe

# What `vitruvius train` trains when nothing is said: of Llama's kind, 10.2M parameters with a vocabulary of 2,048.
SMALL: Mapping[str, Any] = {
    "model_type": "llama",
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}


def from_checkpoint(recipe: Recipe) -> bool:
    """Whether the run starts from trained weights: where it says so, or `model` is the path of some."""
    if recipe.start is not None or not isinstance(recipe.model, str):
        return recipe.start == "checkpoint"
    path = Path(recipe.model).expanduser()
    return path.suffix == ".gguf" or (path.is_dir() and any(path.glob("*.safetensors")))


def opened(recipe: Recipe) -> tuple[Checkpoint, Tokenizer | None]:
    """The checkpoint that a run starts from, with its tokenizer, if it has one."""
    assert isinstance(recipe.model, str)
    checkpoint = Checkpoint.open(Path(recipe.model).expanduser() if Path(recipe.model).exists() else recipe.model)
    try:
        return checkpoint, checkpoint.tokenizer
    except InputError:
        return checkpoint, None


def described(recipe: Recipe, tokenizer: Tokenizer) -> Decoder:
    """The architecture of a run from random weights.

    Raises InputError where it has fewer tokens than the tokenizer, or a shorter context than the rows.
    """
    if recipe.model is None or isinstance(recipe.model, Mapping):
        ends = {} if not tokenizer.eos_ids else {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_ids[0]}
        small = {**SMALL, "max_position_embeddings": max(1024, recipe.sequence)}
        given = {"vocab_size": tokenizer.vocab_size, **ends, **(small if recipe.model is None else recipe.model)}
        arch = architecture(given, name="small" if recipe.model is None else None)
    else:
        arch = architecture(recipe.model)
    check(arch, recipe, tokenizer)
    return arch


def check(arch: Decoder, recipe: Recipe, tokenizer: Tokenizer | None) -> None:
    """Raises InputError for what cannot be trained so."""
    if not isinstance(arch, Decoder) or arch.encoder is not None or arch.head is None:
        raise InputError(f"model: {arch.name} is no decoder that writes tokens, and only such are trained")
    if tokenizer is not None and tokenizer.vocab_size > arch.embedding.vocab:
        raise InputError(
            f"tokenizer: its {tokenizer.vocab_size:,} tokens are more than the {arch.embedding.vocab:,} of {arch.name}"
        )
    if arch.positions is not None and recipe.sequence > arch.context:
        raise InputError(f"sequence: {recipe.sequence} is longer than the {arch.context} positions of {arch.name}")
