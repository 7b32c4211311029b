"""The tokenizer of a Hugging Face folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ..defaults import Defaults
from ..files import read_json
from .encoding import Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

LARGEST_FILE = 1 << 27  # bytes; the largest tokenizer.json have 35 MB


def from_folder(path: Path) -> Tokenizer:
    """The tokenizer of a Hugging Face folder. Raises InputError where there is none, or its files are damaged."""
    from tokenizers import Tokenizer as Backend

    file = path / "tokenizer.json"
    if not file.is_file():
        other = ", ".join(
            name for name in ("tokenizer.model", "tiktoken.model", "vocab.json") if (path / name).is_file()
        )
        hint = f"; {other} alone is not supported, save it as tokenizer.json" if other else ""
        raise InputError(f"{path}: no tokenizer (looked for tokenizer.json){hint}")
    try:
        backend = Backend.from_str(_text(file))
    except Exception as error:  # tokenizers raises nothing more special
        raise InputError(f"{file}: not a tokenizer: {' '.join(str(error).split())[:200]}") from None
    _check_ends(backend, file)
    backend.no_truncation()  # what a training run has left in the file is no fact of the tokenizer
    backend.no_padding()
    settings = _json(path / "tokenizer_config.json")
    _add_described(backend, {**_json(path / "added_tokens.json")}, settings)
    specials = _special_texts({**_json(path / "special_tokens_map.json"), **settings})
    eos = Defaults.of(path, _json(path / "config.json")).eos
    return Tokenizer(backend, str(path), eos, _templates(path, settings), specials)


def _add_described(backend: Backend, ids: dict[str, Any], settings: dict[str, Any]) -> None:
    """Adds the tokens that only the files beside tokenizer.json describe, where their ids are the next ones."""
    from tokenizers import AddedToken

    described = settings.get("added_tokens_decoder")
    tokens = {i: {"content": text, "special": True} for text, i in ids.items()}
    tokens |= described if isinstance(described, dict) else {}
    by_id = {int(i): token for i, token in tokens.items() if str(i).isdecimal() and isinstance(token, dict)}
    known = {i: token.special for i, token in backend.get_added_tokens_decoder().items()}
    for i, token in sorted(by_id.items()):
        text, special = token.get("content"), bool(token.get("special"))
        at = backend.token_to_id(text) if isinstance(text, str) and text else None
        if isinstance(text, str) and text and at in (None, i) and i not in known and (at == i or i == _size(backend)):
            flags = {name: bool(token.get(name)) for name in ("single_word", "lstrip", "rstrip", "normalized")}
            added = AddedToken(text, special=special, **flags)
            (backend.add_special_tokens if special else backend.add_tokens)([added])


def _size(backend: Backend) -> int:
    """The id that the next added token gets."""
    return int(backend.get_vocab_size())


def _check_ends(backend: Backend, file: Path) -> None:
    """Tokens that are put around a text must be described, else `tokenizers` panics when it encodes."""
    state = json.loads(backend.post_processor.__getstate__()) if backend.post_processor else {}
    for step in state.get("processors", [state]):
        for piece in (*step.get("single", ()), *step.get("pair", ())):
            name = piece.get("SpecialToken", {}).get("id")
            if name is not None and name not in step["special_tokens"]:
                raise InputError(f"{file}: the post-processor adds {name!r} without describing it; fetch it again")


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise InputError(f"{file}: {file.stat().st_size:,} bytes are more than {LARGEST_FILE:,}")
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{file}: not UTF-8; fetch it again") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None


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
