"""The tokenizer of a run: any that a model has, bytes, or one that is trained on the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints.tokenizer import Tokenizer, tokenizer
from ..errors import InputError
from .texts import Document

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

END = "<|endoftext|>"
ENOUGH = 1 << 26  # characters that a tokenizer is trained on at most


def of_bytes() -> Tokenizer:
    """A token for each of the 256 bytes, and one that ends a text."""
    return _byte_level([], 257, "bytes")


def trained(documents: Iterable[Document], vocab: int) -> Tokenizer:
    """Byte-level BPE (Radford et al. 2019, section 2.2) of so many tokens, trained on the first documents.

    Raises InputError for fewer tokens than the 256 bytes, one that ends a text, and one more.
    """
    return _byte_level(_enough(_plain(document) for document in documents), vocab, f"train (vocab={vocab})")


def named(source: str) -> Tokenizer:
    """The tokenizer of a file, folder or model. Raises InputError where there is none."""
    path = Path(source).expanduser()
    try:
        return tokenizer(path if path.exists() else source)
    except InputError as error:
        raise InputError(f"tokenizer: {error}") from None


def restored(file: Path) -> Tokenizer:
    """One that `of_bytes` or `trained` gave, from its tokenizer.json."""
    from tokenizers import Tokenizer as Backend

    return _wrapped(Backend.from_file(str(file)), str(file))


def _byte_level(texts: Iterable[str], vocab: int, source: str) -> Tokenizer:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return _wrapped(backend, source)


def _wrapped(backend: Backend, source: str) -> Tokenizer:
    return Tokenizer(backend, source, specials={"eos_token": END, "bos_token": END})


def _enough(texts: Iterable[str]) -> Iterator[str]:
    count = 0
    for text in texts:
        if count >= ENOUGH:
            return
        count += len(text)
        yield text


def _plain(document: Document) -> str:
    return document if isinstance(document, str) else "\n".join(message["content"] for message in islice(document, 100))
