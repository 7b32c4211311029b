"""How an embedder makes one vector of a text's hidden states, as sentence-transformers' files say it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .files import read_json

Mode = Literal["last", "mean", "first"]
# sentence_transformers/models/Pooling.py: the keys of 1_Pooling/config.json, older and newer
NAMES: dict[str, Mode] = {
    "pooling_mode_lasttoken": "last",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "lasttoken": "last",
    "mean": "mean",
    "cls": "first",
}


@dataclass(frozen=True)
class Pooling:
    """What becomes of the hidden states (T, W) of a text.

    Args:
        mode: the last one, their mean, or the first one.
        normalize: whether the vector is given the length 1.
    """

    mode: Mode = "last"
    normalize: bool = True

    @staticmethod
    def normalized(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Each of (N, W) with the length 1; a row of zeros stays one."""
        return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)

    @classmethod
    def of(cls, folder: Path) -> Pooling:
        """What a folder's modules.json says; without one the last token's state, normalised, as decoders that embed
        are trained. Raises InputError for what is not done here."""
        if not (folder / "modules.json").is_file():
            return cls()
        mode: Mode = "last"
        normalize = False
        for module in _modules(folder / "modules.json"):
            kind = str(module.get("type", "")).rpartition(".")[2]
            match kind:
                case "Transformer":
                    continue
                case "Pooling":
                    mode = _mode(folder / str(module.get("path")) / "config.json")
                case "Normalize":
                    normalize = True
                case _:
                    raise InputError(f"{folder}: after the model comes a module {kind!r}, which is not run here")
        return cls(mode, normalize)


def _modules(path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: no valid JSON: {error}") from None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InputError(f"{path}: a list of modules is expected")
    return found


def _mode(path: Path) -> Mode:
    told = read_json(path)
    asked = [name for name, value in told.items() if name.startswith("pooling_mode_") and value is True]
    asked += [told["pooling_mode"]] if isinstance(told.get("pooling_mode"), str) else []
    if len(asked) != 1 or asked[0] not in NAMES:
        raise InputError(f"{path}: one of {', '.join(NAMES)} is known, got {', '.join(map(str, asked)) or 'none'}")
    return NAMES[asked[0]]
