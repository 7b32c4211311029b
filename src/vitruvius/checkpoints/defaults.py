"""What a checkpoint's files say about writing with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from .files import is_gguf, read_json


@dataclass(frozen=True)
class Defaults:
    """The token ids that end a text, the usual one first, what an encoder–decoder's answer begins with, and how the
    next token should be chosen: options of `Sampler`, none where the files ask for no sampling."""

    eos: tuple[int, ...] = ()
    decoder_start: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, config: Mapping[str, Any]) -> Defaults:
        """Of a folder or .gguf file with that config.json; generation_config.json comes first, and the sampling of a
        GGUF file's metadata. Raises InputError for ids that are none."""
        file = path / "generation_config.json"
        configs: list[Mapping[str, Any]] = [read_json(file)] if path.is_dir() and file.exists() else []
        sampling = _sampling(configs[0]) if configs else _sampling(_of_gguf(path)) if is_gguf(path) else {}
        text = config.get("text_config")
        configs += [config, text if isinstance(text, dict) else {}]
        ids = first(configs, "eos_token_id")
        ids = ids if isinstance(ids, list) else [] if ids is None else [ids]
        if not all(type(item) is int for item in ids):
            raise InputError(f"{path}: eos_token_id must be token ids, got {ids}")
        start = first(configs, "decoder_start_token_id")
        ids = [i for i in ids if i >= 0]  # −1 says that there is none
        return cls(tuple(ids), start if type(start) is int else None, sampling)


# What llama.cpp's converter calls options of generation_config.json (gguf-py, gguf/constants.py).
GGUF_NAMES = {"temperature": "temp", "repetition_penalty": "penalty_repeat"}


def _of_gguf(path: Path) -> dict[str, Any]:
    """The `general.sampling` of a GGUF file, as a generation_config.json has it."""
    from .gguf import GGUF

    metadata = GGUF.open(path).metadata
    return {name: metadata.get(f"general.sampling.{GGUF_NAMES.get(name, name)}") for name in SAMPLING}


SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


def _sampling(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a generation_config.json, as transformers reads them: a temperature of 1 where it only says that
    tokens are sampled, and 0 or less of `top_k` for all of them."""
    if config.get("do_sample") is False:
        return {}
    options = {name: value for name in SAMPLING if (value := config.get(name)) is not None}
    if type(options.get("top_k")) is int and options["top_k"] <= 0:
        del options["top_k"]
    sampled = config.get("do_sample") or options.keys() - {"repetition_penalty"}
    return {"temperature": 1.0, **options} if sampled else options


def first(configs: list[Mapping[str, Any]], key: str) -> Any:
    """The first value that is there and not null."""
    return next((value for config in configs if (value := config.get(key)) is not None), None)
