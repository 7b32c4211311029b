"""Tokenizers, from a Hugging Face folder or from the metadata of a GGUF file, with their chat templates.

The work is done by Hugging Face's `tokenizers`, whatever the vocabulary's file: SentencePiece's, tiktoken's and
Mistral's are translated into what that library has.
"""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path

from ..gguf import GGUF
from ..sources import weights
from .encoding import Tokenizer
from .folder import from_folder, has_tokenizer
from .gguf import from_gguf

__all__ = ["Tokenizer", "from_folder", "from_gguf", "tokenizer"]


def tokenizer(source: str | PathLike[str]) -> Tokenizer:
    """The tokenizer of a model: of a folder or a tokenizer's file, a .gguf file, a known model whose weights are at
    hand, or a hub id.

    Raises:
        InputError: the model cannot be found, or has no tokenizer.
    """
    path = Path(fspath(source))
    if has_tokenizer(path):
        return from_folder(path)
    path = weights(source)
    return from_gguf(GGUF.open(path)) if path.is_file() else from_folder(path)
