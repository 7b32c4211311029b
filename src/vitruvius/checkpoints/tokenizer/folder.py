"""The tokenizer of a Hugging Face folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ..defaults import Defaults
from ..files import parse_json, read_json, refuse_pointer
from . import merges, ranks, sentencepiece
from .bpe import add, surround
from .encoding import Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

LARGEST_FILE = 1 << 27  # bytes; the largest tokenizer.json have 35 MB


def from_folder(path: Path) -> Tokenizer:
    """The tokenizer of a Hugging Face folder: of the first of `FILES` that is there, or of the one that is given.

    Raises InputError where there is none, its files are damaged, or of a kind that is not supported.
    """
    file = path if path.is_file() else _vocabulary(path)
    if file is None:
        raise InputError(f"{path}: no tokenizer (looked for {', '.join(FILES)} with merges.txt)")
    path = file.parent
    backend, specials = _read(file)
    backend.no_truncation()  # what a training run has left in the file is no fact of the tokenizer
    backend.no_padding()
    settings = _json(path / "tokenizer_config.json")
    _add_described(backend, _json(path / "added_tokens.json"), settings)
    named = _json(path / "special_tokens_map.json") | settings
    specials |= _special_texts(named)
    extra = named.get("additional_special_tokens")
    texts = [*specials.values(), *(extra if isinstance(extra, list) else [])]
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    add(backend, (text for text in texts if _is_token(backend, text) and text not in known), special=True)
    eos = Defaults.of(path, _json(path / "config.json")).eos
    return Tokenizer(backend, str(path), eos, _templates(path, settings), specials)


# What may hold a vocabulary, the most complete first: only tokenizer.json says all that there is to say.
FILES = (
    *("tokenizer.json", "tekken.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("tokenizer.model.v*", "*.tiktoken", "tiktoken.model", "vocab.json"),
)


def has_tokenizer(path: Path) -> bool:
    """Whether a folder holds a file with a vocabulary, or a file may be one."""
    if path.is_file():
        return any(path.match(pattern) for pattern in FILES)
    return path.is_dir() and _vocabulary(path) is not None


def _vocabulary(path: Path) -> Path | None:
    """The file that holds a folder's vocabulary."""
    found = (file for pattern in FILES for file in sorted(path.glob(pattern)) if file.is_file())
    return next((f for f in found if f.name != "vocab.json" or (path / "merges.txt").is_file()), None)


def _read(file: Path) -> tuple[Backend, dict[str, str]]:
    """The tokenizer of a file, and the special tokens that its kind has."""
    path = file.parent
    if file.name == "tokenizer.json":
        return _whole(file), {}
    settings, config = _json(path / "tokenizer_config.json"), _json(path / "config.json")
    kind, model = settings.get("tokenizer_class"), config.get("model_type")
    kind = kind.removesuffix("Fast") if isinstance(kind, str) and kind != "PreTrainedTokenizerFast" else None
    if file.name == "vocab.json":
        return _merged(path, kind, model, settings)
    if file.name == "tekken.json":
        control = ranks.tekken(file, parse_json(_bytes(file), f"{file}:"))
        _surround(control.backend, settings, ("<s>", "</s>"), (True, False))
        names = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>"}
        return control.backend, {f"{key}_token": text for key, text in names.items() if text in control.control}
    content = _bytes(file)
    if ranks.is_tiktoken(content):
        backend = ranks.tiktoken(file, content, kind, model, _described(settings))
        first, last = "<|begin_of_text|>", "<|end_of_text|>"
        if not _is_token(backend, first):
            return backend, {}
        _surround(backend, settings, (first, last), (True, False))
        return backend, {"bos_token": first, "eos_token": last}
    return _sentencepiece(file, content, kind, settings)


def _whole(file: Path) -> Backend:
    from tokenizers import Tokenizer as Backend

    try:
        backend = Backend.from_str(_text(file))
    except InputError:
        raise
    except Exception as error:  # tokenizers raises nothing more special
        raise InputError(f"{file}: not a tokenizer: {' '.join(str(error).split())[:200]}") from None
    _check_ends(backend, file)
    return backend


def _merged(
    path: Path, name: str | None, model: str | None, settings: dict[str, Any]
) -> tuple[Backend, dict[str, str]]:
    file = path / "merges.txt"
    kind = merges.kind_of(path, name, model)
    prefix = settings.get("add_prefix_space") is True
    backend = merges.read(file, _json(path / "vocab.json"), _text(file), kind, prefix)
    named = _special_texts(_json(path / "special_tokens_map.json") | settings)
    specials = {key: text for key, text in ({**kind.specials, **named}).items() if _is_token(backend, text)}
    ends = specials.get("bos_token", ""), specials.get("eos_token", "")
    _surround(backend, settings, ends, (kind.around, kind.around))
    return backend, specials


# Classes that give the pieces of their file other ids, or add tokens in code (transformers, models/*).
OTHER_IDS = {
    *("XLMRobertaTokenizer", "CamembertTokenizer", "MBartTokenizer", "MBart50Tokenizer", "NllbTokenizer"),
    *("BarthezTokenizer", "PegasusTokenizer", "XGLMTokenizer", "SeamlessM4TTokenizer", "PLBartTokenizer"),
    *("M2M100Tokenizer", "XLNetTokenizer", "AlbertTokenizer", "BigBirdTokenizer", "DebertaV2Tokenizer"),
    *("ChatGLMTokenizer", "FNetTokenizer", "RemBertTokenizer", "Speech2TextTokenizer", "MarianTokenizer"),
}


def _sentencepiece(
    file: Path, content: bytes, kind: str | None, settings: dict[str, Any]
) -> tuple[Backend, dict[str, str]]:
    if kind in OTHER_IDS or file.name == "sentencepiece.bpe.model":
        raise InputError(f"{file}: {kind or 'its class'} gives other ids than this file has; save it as tokenizer.json")
    found = sentencepiece.read(file, content)
    backend = sentencepiece.backend(found)
    specials = {f"{name}_token": found.pieces[i].text for name, i in found.names.items()}
    if kind in ("T5Tokenizer", "MT5Tokenizer"):
        count = settings.get("extra_ids", 100)
        add(backend, (f"<extra_id_{i}>" for i in range(count if type(count) is int else 0)[::-1]), special=True)
    # as llama.cpp has it (src/llama-vocab.cpp): byte pairs begin with a token, T5's unigrams end with one
    otherwise = (True, False) if found.model == "bpe" else (False, True)
    _surround(backend, settings, (specials.get("bos_token", ""), specials.get("eos_token", "")), otherwise)
    return backend, specials


def _surround(backend: Backend, settings: dict[str, Any], ends: tuple[str, str], otherwise: tuple[bool, bool]) -> None:
    """Begins and ends texts as tokenizer_config.json says, or `otherwise`."""
    around: list[dict[str, int]] = []
    for key, text, wanted in zip(("add_bos_token", "add_eos_token"), ends, otherwise, strict=True):
        i = backend.token_to_id(text) if text and settings.get(key, wanted) is True else None
        around.append({} if i is None else {text: i})
    surround(backend, *around)


def _is_token(backend: Backend, text: object) -> bool:
    return isinstance(text, str) and backend.token_to_id(text) is not None


def _described(settings: dict[str, Any]) -> dict[int, str]:
    """The tokens of `added_tokens_decoder` by their ids."""
    found = settings.get("added_tokens_decoder")
    tokens = found.items() if isinstance(found, dict) else ()
    return {int(i): t["content"] for i, t in tokens if str(i).isdecimal() and isinstance(t, dict) and t.get("content")}


def _add_described(backend: Backend, ids: dict[str, Any], settings: dict[str, Any]) -> None:
    """Adds the tokens that only the files beside the vocabulary describe, where their ids are the next ones."""
    from tokenizers import AddedToken

    described = settings.get("added_tokens_decoder")
    tokens = {i: {"content": text, "special": True} for text, i in ids.items()}
    tokens |= described if isinstance(described, dict) else {}
    by_id = {int(i): token for i, token in tokens.items() if str(i).isdecimal() and isinstance(token, dict)}
    known = {i: token.special for i, token in backend.get_added_tokens_decoder().items()}
    for i, token in sorted(by_id.items()):
        text, special = token.get("content"), bool(token.get("special"))
        at = backend.token_to_id(text) if isinstance(text, str) and text else None
        next_id = backend.get_vocab_size()
        if isinstance(text, str) and text and i not in known and (at == i or (at is None and i == next_id)):
            flags = {name: bool(token.get(name)) for name in ("single_word", "lstrip", "rstrip", "normalized")}
            added = AddedToken(text, special=special, **flags)
            (backend.add_special_tokens if special else backend.add_tokens)([added])


def _check_ends(backend: Backend, file: Path) -> None:
    """Tokens that are put around a text must be described, else `tokenizers` panics when it encodes."""
    state = json.loads(backend.post_processor.__getstate__()) if backend.post_processor else {}
    for step in state.get("processors", [state]):
        for piece in (*step.get("single", ()), *step.get("pair", ())):
            name = piece.get("SpecialToken", {}).get("id")
            if name is not None and name not in step["special_tokens"]:
                raise InputError(f"{file}: the post-processor adds {name!r} without describing it; fetch it again")


def _bytes(file: Path) -> bytes:
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise InputError(f"{file}: {file.stat().st_size:,} bytes are more than {LARGEST_FILE:,}")
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    refuse_pointer(file, content)
    return content


def _text(file: Path) -> str:
    try:
        return _bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{file}: not UTF-8; fetch it again") from None


def _json(file: Path) -> dict[str, Any]:
    """The object in a file, empty where there is no such file."""
    return read_json(file) if file.is_file() else {}


def _special_texts(settings: dict[str, Any]) -> dict[str, str]:
    """`bos_token` and its like; each is a text, or an object with `content`."""
    texts = {}
    for key, value in settings.items():
        text = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(text, str):
            texts[key] = text
    return texts


def _templates(path: Path, settings: dict[str, Any]) -> dict[str, str]:
    """Chat templates by name: in a file of their own, or in tokenizer_config.json, where there may be several."""
    if (file := path / "chat_template.jinja").is_file():
        return {"default": _text(file)}
    found = _json(path / "chat_template.json").get("chat_template") or settings.get("chat_template")
    if isinstance(found, str):
        return {"default": found}
    named = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    return {str(item.get("name")): item["template"] for item in named if isinstance(item.get("template"), str)}
