"""What files a checkpoint may have, and the JSON among them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError

LARGEST_CONFIG = 16 * 2**20  # bytes; a config.json is some kilobytes
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def pickle_refused(path: Path) -> str:
    """Why a pickle is not opened, and what to do."""
    return f"{path}: a pickle can run any code and is never opened; convert it to safetensors first"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises InputError where it is missing, too large, or no JSON."""
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise InputError(f"{path}: {path.stat().st_size:,} bytes are too large for a JSON file of this kind")
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: an object is expected, not {type(value).__name__}")
    return value


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
