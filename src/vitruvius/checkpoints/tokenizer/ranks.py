"""Vocabularies of tiktoken's kind, tokens of bytes with their ranks: `*.tiktoken`, `tiktoken.model`, Llama 3's and
GLM 4's `tokenizer.model`, and Mistral's `tekken.json`.

A tiktoken file says neither how a text is cut nor which tokens are special: that is in the code of a tokenizer's class,
which is never run here. It is known for some families (Qwen/Qwen-7B tokenization_qwen.py, moonshotai/Kimi-K2-Instruct
tokenization_kimi.py, meta-llama/llama-models tokenizer.py, THUDM/glm-4-9b tokenization_chatglm.py); others are refused.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from .bpe import add, ranked
from .cuts import CUTS, Cut

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

LINE = re.compile(rb"([A-Za-z0-9+/]+=*) (\d{1,9})")


@dataclass(frozen=True)
class Encoding:
    """What a tokenizer's class adds to its tiktoken file: the cut, and the special tokens after the others, unless
    tokenizer_config.json names them; `spare` is how the unnamed of `reserved` ids are called."""

    cut: Cut
    specials: tuple[str, ...] = ()
    reserved: int = 0
    spare: str = ""


LLAMA3 = (
    *("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>"),
    *("<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>"),
    *("<|eot_id|>", "<|python_tag|>", *(f"<|reserved_special_token_{i}|>" for i in range(2, 247))),
)
QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205)))
FAMILIES = {
    "QWenTokenizer": Encoding(replace(CUTS["qwen2"], whole=True), QWEN),
    "TikTokenTokenizer": Encoding(CUTS["kimi-k2"], reserved=256, spare="<|reserved_token_{}|>"),
    "ChatGLM4Tokenizer": Encoding(replace(CUTS["glm4"], whole=True)),
    "Llama3": Encoding(CUTS["llama-bpe"], LLAMA3),
}
BY_MODEL = {"qwen": "QWenTokenizer", "kimi_k2": "TikTokenTokenizer", "kimi_linear": "TikTokenTokenizer"}
BY_MODEL |= {"deepseek_v3": "TikTokenTokenizer", "chatglm": "ChatGLM4Tokenizer", "llama": "Llama3"}


def is_tiktoken(content: bytes) -> bool:
    """Whether a file's content is that of a tiktoken file."""
    return LINE.fullmatch(content[:1000].partition(b"\n")[0].strip()) is not None


def tiktoken(path: Path, content: bytes, kind: str | None, model: str | None, named: Mapping[int, str]) -> Backend:
    """The tokenizer of a tiktoken file.

    Args:
        kind: the tokenizer's class, as tokenizer_config.json has it.
        model: `model_type` of config.json.
        named: special tokens by their ids, as tokenizer_config.json has them.

    Raises InputError where the file is damaged, or its family is not known.
    """
    kind = kind or BY_MODEL.get(model or "llama", "")  # Meta's own folders hold neither file
    if kind not in FAMILIES:
        asked = kind or f"of the model type {model}"
        raise InputError(
            f"{path}: how a text is cut is in the code of its tokenizer ({asked}), which is not run and not known "
            f"(only {', '.join(FAMILIES)}); save it as tokenizer.json"
        )
    family, tokens = FAMILIES[kind], _tokens(path, content)
    first = max(tokens.values()) + 1
    names = {first + i: text for i, text in enumerate(family.specials)}
    names |= {i: family.spare.format(i) for i in range(first, first + family.reserved)}
    names |= {i: text for i, text in named.items() if i >= first}
    specials = {text: i for i, text in names.items()}
    backend = ranked(tokens, family.cut, specials)
    add(backend, specials, special=True)
    return backend


def _tokens(path: Path, content: bytes) -> dict[bytes, int]:
    tokens: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), 1):
        found = LINE.fullmatch(line.strip())
        try:
            if found:
                tokens[b64decode(found[1], validate=True)] = int(found[2])
        except Error:
            found = None
        if not found and line.strip():
            raise InputError(f"{path}: line {number} is no token in base64 with its rank; fetch the file again")
    _check(path, tokens)
    return tokens


def _check(path: Path, tokens: Mapping[bytes, int]) -> None:
    if len(set(tokens.values())) < len(tokens) or not all(bytes([byte]) in tokens for byte in range(256)):
        raise InputError(
            f"{path}: not a complete vocabulary (a byte is missing, or an id is there twice); fetch it again"
        )


@dataclass(frozen=True)
class Tekken:
    """A tekken.json: the tokenizer, and its control tokens by their ids."""

    backend: Backend
    control: Mapping[str, int]


def tekken(path: Path, content: Mapping[str, Any]) -> Tekken:
    """Mistral's own file: special tokens first, then `vocab` by rank, as many as `default_vocab_size` leaves.

    Raises InputError where it is damaged.
    """
    from tokenizers import Regex

    try:
        config = content["config"]
        count, size = config["default_num_special_tokens"], config["default_vocab_size"]
        given = content.get("special_tokens") or OLD_SPECIALS
        names = {i: f"<SPECIAL_{i}>" for i in range(count)} | {token["rank"]: token["token_str"] for token in given}
        plain = {token["token_str"] for token in given if not token["is_control"]}
        tokens = {b64decode(token["token_bytes"]): count + token["rank"] for token in content["vocab"][: size - count]}
        cut = Cut((str(config["pattern"]),), whole=True)
        Regex(cut.patterns[0])
    except (Error, KeyError, TypeError, ValueError) as error:
        problem = " ".join(str(error).split())[:100]
        raise InputError(f"{path}: not a complete tekken file ({type(error).__name__} {problem})") from None
    except Exception as error:  # tokenizers raises nothing more special for a pattern
        raise InputError(f"{path}: its pattern cannot be used: {' '.join(str(error).split())[:200]}") from None
    _check(path, tokens)
    control = {str(text): i for i, text in names.items()}
    backend = ranked(tokens, cut, control)
    add(backend, (text for text in control if text not in plain), special=True)
    add(backend, (text for text in control if text in plain), special=False)
    return Tekken(backend, control)


# What files up to version 7 leave unsaid (mistralai/mistral-common, tokens/tokenizers/tekken.py).
OLD_SPECIALS: list[dict[str, Any]] = [
    {"rank": i, "token_str": text, "is_control": True}
    for i, text in enumerate(
        """<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS]
        [TOOL_CALLS] [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT]
        [TOOL_CONTENT]""".split()
    )
]
