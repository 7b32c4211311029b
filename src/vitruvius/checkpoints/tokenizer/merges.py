"""GPT-2's two files, `vocab.json` and `merges.txt`. How a text is cut, they do not say: the tokenizer's class does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from .bpe import Merges, byte_level
from .cuts import CUTS, Cut

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend


@dataclass(frozen=True)
class Class:
    """A tokenizer's class: how it cuts, and the special tokens that it has where the files name none."""

    cut: Cut
    specials: Mapping[str, str]
    around: bool = False  # <s> and </s> around every text


END = "<|endoftext|>"
GPT2 = Class(CUTS["gpt-2"], {"bos_token": END, "eos_token": END, "unk_token": END})
QWEN2 = Class(CUTS["qwen2"], {"eos_token": END, "unk_token": END, "pad_token": END})
ROBERTA = Class(
    CUTS["gpt-2"],
    {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"},
    around=True,
)
# transformers, models/*/tokenization_*.py
KINDS = {"GPT2Tokenizer": GPT2, "CodeGenTokenizer": GPT2, "GPTNeoXTokenizer": GPT2, "Qwen2Tokenizer": QWEN2}
KINDS |= dict.fromkeys(("RobertaTokenizer", "BartTokenizer", "LongformerTokenizer", "LEDTokenizer"), ROBERTA)


def kind_of(path: Path, name: str | None, model: str | None) -> Class:
    """The tokenizer's class by its name, else by `model_type` of config.json. Raises InputError where it is not
    known."""
    name = name or ("Qwen2Tokenizer" if (model or "").startswith("qwen") else "GPT2Tokenizer")
    if name not in KINDS:
        known = ", ".join(KINDS)
        raise InputError(f"{path}: how {name} cuts a text is not known (only {known}); save it as tokenizer.json")
    return KINDS[name]


def read(path: Path, vocabulary: Mapping[str, Any], merges: str, kind: Class, prefix: bool) -> Backend:
    """The tokenizer of both files' contents.

    Args:
        path: of merges.txt, for messages.
        prefix: a text that does not begin with a space gets one.

    Raises InputError where they are damaged.
    """
    from tokenizers import pre_tokenizers

    if not vocabulary or not all(type(i) is int and i >= 0 for i in vocabulary.values()):
        raise InputError(f"{path.parent / 'vocab.json'}: not tokens with their ids; fetch it again")
    backend = byte_level(vocabulary, _merges(path, vocabulary, merges), kind.cut)
    if prefix:
        if kind.cut != CUTS["gpt-2"]:
            raise InputError(f"{path.parent}: add_prefix_space is not known with this tokenizer's class")
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)  # which cuts as GPT-2 does
    return backend


def _merges(path: Path, vocabulary: Mapping[str, Any], text: str) -> Merges:
    merges = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        left, _, right = line.rstrip("\r").partition(" ")
        if not (left in vocabulary and right in vocabulary and left + right in vocabulary):
            raise InputError(f"{path}: line {number}, {line[:60]!r}, does not join two tokens to a third")
        merges.append((left, right))
    return merges
