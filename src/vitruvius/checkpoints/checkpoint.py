"""A checkpoint as one object: what a folder or a .gguf file says and holds.

Containers (safetensors, GGUF) give tensors by the file's names; codecs (`codecs`, `dequantize`) present what is stored
in a few bits as ordinary tensors; names (`matching`) say which of them become which of the model's. Both executors load
from here.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import warn

from ..errors import InputWarning
from ..spec import Decoder
from .classes import base_class
from .codecs import Unpacked, refuse_unknown
from .defaults import Defaults
from .files import settings
from .gguf import GGUF
from .matching import LoadPlan, headless, match, match_gguf, other_head
from .safetensors import Safetensors
from .sources import described, weights

if TYPE_CHECKING:
    from .stored import Container
    from .tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a folder or a .gguf file holds.

    Args:
        path: the folder, or the file.
        config: its config.json, or what a GGUF file's metadata amount to.
        spec: the architecture, with all its layers for multi-token prediction.
        defaults: what its files say about writing with it.
    """

    path: Path
    config: Mapping[str, Any]
    spec: Decoder
    defaults: Defaults

    @classmethod
    def open(cls, source: str | os.PathLike[str], ignore: Collection[str] = (), strict: bool = True) -> Checkpoint:
        """The checkpoint of a folder, a .gguf file, a catalog name whose weights are at hand, or a hub id. No tensor is
        read yet.

        Args:
            ignore: keys of the config that may go unread.
            strict: whether others are refused, as where a model is to run, or only named.

        Raises InputError, in one line, for what cannot be found or understood.
        """
        path = weights(source)
        opened = GGUF.open(path) if path.is_file() else None  # kept, so that its header is read only once
        found = described(path, ignore, name=None if Path(source).exists() else str(source), strict=strict)
        checkpoint = cls(path, found.config, found.spec, Defaults.of(path, found.config))
        if opened:
            checkpoint.__dict__["tensors"] = opened
        elif "tree" not in found.config and other_head(found.spec, checkpoint.tensors):
            warn(
                f"{path}: tie_word_embeddings says that head and embedding are one matrix, and the file holds two that "
                "differ; they are loaded as two, as transformers does",
                InputWarning,
                stacklevel=3,
            )
            untied = {**found.config, "tie_word_embeddings": False}
            found = described(untied, ignore, name=found.spec.name, strict=strict)
            checkpoint = replace(checkpoint, config=found.config, spec=found.spec)
        elif "tree" not in found.config and headless(found.spec, checkpoint.tensors):
            warn(f"{path}: no head in its tensors: it gives hidden states, as embedders do", InputWarning, stacklevel=3)
            bare = {**found.config, "architectures": [base_class(found.config)]}
            found = described(bare, ignore, name=found.spec.name, strict=strict)
            checkpoint = replace(checkpoint, config=found.config, spec=found.spec)
        return checkpoint

    @cached_property
    def tensors(self) -> Container:
        """Its tensors by the file's names. Raises InputError where files are missing or damaged."""
        if self.path.is_file():
            return GGUF.open(self.path)
        return Unpacked(Safetensors(self.path), settings(self.config))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Raises InputError where there is none."""
        from .tokenizer import tokenizer

        return tokenizer(self.path)

    def plan(self, ignore: Collection[str] = (), mtp: bool = False) -> LoadPlan:
        """How its tensors fill the model.

        Args:
            ignore: names or patterns of tensors that may be left out.
            mtp: whether the layers for multi-token prediction are wanted too.

        Raises InputError for a format that cannot be loaded, and where names or shapes do not match.
        """
        refuse_unknown(self.config, self.spec.name)
        if isinstance(self.tensors, GGUF):
            return match_gguf(self.spec, self.tensors, ignore, mtp)
        return match(self.spec, self.tensors, self.config, ignore, mtp)
