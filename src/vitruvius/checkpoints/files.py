"""What files a checkpoint may have, and the JSON among them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError

LARGEST_CONFIG = 16 * 2**20  # bytes; a config.json is some kilobytes
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
GGUF_MAGIC = b"GGUF"
POINTER = b"version https://git-lfs.github.com/spec/"  # what git has of a file that git-lfs keeps


def pickle_refused(path: Path) -> str:
    """Why a pickle is not opened, and what to do."""
    return f"{path}: a pickle can run any code and is never opened; convert it to safetensors first"


def beginning(path: Path, count: int) -> bytes:
    """The first bytes of a file. Raises InputError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def write_whole(path: Path, text: str) -> None:
    """Writes a file beside its target and renames it, so that it is whole or not there. Raises InputError where that
    cannot be."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, "utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def is_gguf(path: Path) -> bool:
    """Whether a file is GGUF: by what it begins with, whatever it is called, or meant to be by its name."""
    return path.is_file() and (path.suffix.lower() == ".gguf" or beginning(path, len(GGUF_MAGIC)) == GGUF_MAGIC)


def refuse_pointer(path: Path, first: bytes) -> None:
    """Raises InputError where a file's first bytes are those of a git-lfs pointer."""
    if first.startswith(POINTER):
        raise InputError(f"{path}: only a git-lfs pointer to the file; fetch the file itself with `git lfs pull`")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, as `parse_json`. Raises InputError where it is missing or too large too."""
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise InputError(f"{path}: {path.stat().st_size:,} bytes are too large for a JSON file of this kind")
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    refuse_pointer(path, content)
    return parse_json(content, f"{path}:")


def parse_json(content: bytes, what: str, constant: Callable[[str], Any] = float) -> dict[str, Any]:
    """A JSON object in UTF-8, with the mark that Windows writes before it or without.

    Args:
        what: what it is, with which messages begin.
        constant: what becomes of NaN and Infinity, which Python writes into JSON.

    Raises InputError where it is none, and where a key has two values.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            for key, value in pairs:
                if value != found[key]:
                    raise InputError(f"{what} key {key[:60]!r} is there twice, with different values; remove one")
        return found

    try:
        value = json.loads(content.decode("utf-8-sig"), object_pairs_hook=once, parse_constant=constant)
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{what} not valid JSON (nested too deeply)") from None
    except ValueError as error:
        raise InputError(f"{what} not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{what} an object is expected, not {type(value).__name__}")
    return value


MODELOPT = "hf_quant_config.json"  # where NVIDIA's ModelOpt says the format, which its config.json may leave out


def read_config(path: Path) -> dict[str, Any]:
    """A config.json, with the format of the weights where that stands in a file beside it."""
    config = read_json(path)
    beside = path.parent / MODELOPT
    if path.name == "config.json" and not settings(config) and beside.is_file():
        config["quantization_config"] = {"quant_method": "modelopt", **read_json(beside)}
    return config


FORMAT_KEYS = ("quantization_config", "compression_config", "quantization")  # of config.json


def settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a config.json says of the format of its weights: `quantization_config`, of a wrapper or of its text model,
    or MLX's `quantization`."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for key in FORMAT_KEYS:
            if isinstance(found := part.get(key), Mapping) and found:
                return found
    return {}
