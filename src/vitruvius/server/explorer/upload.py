"""Bring your own: what a config.json, or the header of a GGUF or safetensors file, says about an architecture.

Whatever comes in is hostile until it has been read: sizes are compared with limits before work is done, and nothing
that is unknown is passed over. A header is read from the first bytes of a file, so that no weight leaves the browser.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from math import prod
from typing import Any

from ... import catalog
from ...architectures import UnreadKeysError, read
from ...checkpoints.files import GGUF_MAGIC, parse_json
from ...checkpoints.gguf import GGUF
from ...checkpoints.gguf.config import config as gguf_config
from ...checkpoints.matching import match_gguf
from ...errors import InputError, UnknownKeysError
from ...spec import Decoder
from .data import page
from .fitting import fitting

LARGEST_CONFIG = 2**20  # bytes
LARGEST_HEADER = 64 * 2**20  # bytes of a weight file that are read
LARGEST_FILE = 2**50
DEEPEST = 16  # objects and lists inside each other
LARGEST_NUMBER = 2**53  # what a JavaScript number holds exactly
LARGEST_COUNT = 65_536  # experts, groups: what is one of many
MOST_LAYERS = 256  # the deepest known model has 126
MOST_PATTERNS = 1_000  # kinds of tensors that are listed
LONGEST_NAME = 80
MOST_KINDS = 64  # of layers; GLM-5.2 has the most, 21
ROPE_TABLE = "rope_freqs.weight"

# What tensors' names and shapes do not say.
NOT_IN_TENSORS = (
    "model_type: which equations the tensors belong to",
    "the number of heads that a projection is cut into",
    "the positions (RoPE theta and scaling) and the longest context",
    "windows: which layers see how far back",
    "activations, norm epsilons and how many experts a token uses",
)


def described(body: bytes, name: str, size: int | None = None, ignore: Collection[str] = ()) -> dict[str, Any]:
    """The page of what was dropped.

    Args:
        body: a whole config.json, or the first bytes of a weight file.
        name: the file's, which decides nothing but what the architecture is called.
        size: of the whole file.
        ignore: keys that may go unread.

    Raises InputError in one line; `UnknownKeysError` with the keys, `IncompleteError` with the bytes that are needed.
    """
    called, size = _called(name), len(body) if size is None else size
    if not len(body) <= size <= LARGEST_FILE:
        raise InputError(f"a file of {size:,} bytes cannot begin with these {len(body):,}")
    if body.startswith(GGUF_MAGIC):
        return _gguf(body, called, size, ignore)
    if name.lower().endswith(".safetensors"):
        return _safetensors(body, called, size)
    if len(body) > LARGEST_CONFIG:
        raise InputError(f"a config.json of {len(body):,} bytes is larger than {LARGEST_CONFIG:,}")
    config = parse_json(body, "the config:", str)  # "Infinity" stays a word
    return page(_read(config, called, ignore), config=config) | _told(name, sorted(ignore), [])


def _told(name: str, ignored: list[str], undetermined: list[str]) -> dict[str, Any]:
    return {"file": _printable(name), "ignored": ignored, "undetermined": undetermined}


def _read(config: Mapping[str, Any], name: str, ignore: Collection[str]) -> Decoder:
    checked(config)
    if name == "config":
        name = _printable(str(config.get("model_type", "config")))
    try:
        arch = read(config, name, catalog.implicit, ignore)
    except UnreadKeysError as error:
        raise UnknownKeysError(str(error), error.keys) from None
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from None
    except RecursionError:
        raise InputError("the config is nested too deeply") from None
    if len(set(arch.layers)) > MOST_KINDS:
        raise InputError(f"more than {MOST_KINDS} different kinds of layers are not shown")
    return arch


def checked(value: Any, key: str = "", depth: int = 0) -> None:
    """Raises InputError for a config that would take long, or cannot be meant."""
    if depth > DEEPEST:
        raise InputError(f"the config is nested more than {DEEPEST} deep")
    if isinstance(value, dict):
        for name, inner in value.items():
            checked(inner, str(name), depth + 1)
    elif isinstance(value, list):
        for inner in value:
            checked(inner, key, depth + 1)
    elif isinstance(value, str):
        _encodable(value, key)
    elif isinstance(value, (int, float)):
        _number(value, key)


def _number(value: float, key: str) -> None:
    """Layers are made one by one; experts and groups are many, but not any number."""
    shown, many = _printable(key), re.search(r"layers$|^n_layer$", key)
    if not abs(value) <= LARGEST_NUMBER:  # NaN neither
        raise InputError(f"{shown} is {str(value)[:30]}, beyond what a number here may be")
    if many and isinstance(value, int) and value > MOST_LAYERS:
        raise InputError(f"{shown} is {value:,}; architectures of more than {MOST_LAYERS:,} layers are not shown")
    if re.search(r"expert|group|head|stream|kernel|conv", key) and value > LARGEST_COUNT:
        raise InputError(f"{shown} is {value:,}, more than {LARGEST_COUNT:,}")


def _encodable(value: str, key: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{_printable(key)} holds half a character (a lone surrogate)") from None


# ------------------------------------------------------------------ weight files


def _gguf(body: bytes, name: str, size: int, ignore: Collection[str]) -> dict[str, Any]:
    gguf = GGUF.header(name, body, size)
    undetermined = []
    table = gguf.tensors.get(ROPE_TABLE)
    if table is not None and table.offset + table.nbytes > LARGEST_HEADER:
        del gguf.tensors[ROPE_TABLE]
        undetermined.append(f"the scaling of RoPE: its table {ROPE_TABLE} lies beyond what is read of the file")
    config = gguf_config(gguf, ignore)
    kinds: dict[str, list[int]] = {}
    for info in gguf.tensors.values():
        found = kinds.setdefault(info.kind, [0, 0, 0])
        for i, more in enumerate((1, prod(info.shape), info.nbytes)):
            found[i] += more
    weights = {kind: dict(zip(("tensors", "elements", "bytes"), found, strict=True)) for kind, found in kinds.items()}
    arch = _read(config, name, ())
    match_gguf(arch, gguf, ignore)
    return page(arch, config=config) | _told(name, sorted(ignore), undetermined) | {"weights": weights}


def _safetensors(body: bytes, name: str, size: int) -> dict[str, Any]:
    """What the tensors' names and shapes say, and which known architectures they fit; the rest is named."""
    from ...checkpoints.gguf import IncompleteError

    length = int.from_bytes(body[:8], "little")
    if len(body) < 8 or length > min(size - 8, LARGEST_HEADER - 8):
        raise InputError(f"a header of {length:,} bytes does not fit a safetensors file of {size:,}")
    if len(body) < 8 + length:
        raise IncompleteError(f"the header goes on after byte {len(body):,}", 8 + length)
    header = parse_json(body[8 : 8 + length], "the header:", str)
    header.pop("__metadata__", None)
    tensors = dict(_tensors(header, size - 8 - length))
    elements: Counter[str] = Counter()
    for dtype, shape in tensors.values():
        elements[dtype] += prod(shape)
    shapes = {tensor: shape for tensor, (_, shape) in tensors.items()}
    layers = {int(found[1]) for found in (re.search(r"\.(\d{1,6})\.", tensor) for tensor in tensors) if found}
    return {
        "id": None,
        "name": name,
        "tensors": _patterns(tensors),
        "parameters": elements.total(),
        "by_dtype": dict(elements),
        "layers": max(layers) + 1 if layers else None,
        "fits": fitting(shapes),
    } | _told(name, [], list(NOT_IN_TENSORS))


def _patterns(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[dict[str, Any]]:
    """Tensors that are alike but for the numbers in their names, in one line each: "layers.*.mlp.up_proj.weight"."""
    count: Counter[tuple[str, str, tuple[int, ...]]] = Counter()
    for name, (dtype, shape) in tensors.items():
        count[_printable(re.sub(r"(?<![^.])\d+(?![^.])", "*", name)), dtype, shape] += 1
    return [
        {"name": name, "dtype": dtype, "shape": list(shape), "count": times}
        for (name, dtype, shape), times in itertools.islice(count.items(), MOST_PATTERNS)
    ]


def _tensors(header: dict[str, Any], room: int) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    """name -> (dtype, shape), each checked against the file's size."""
    for name, info in header.items():
        match info:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]}:
                sound = all(type(n) is int and 0 <= n <= LARGEST_FILE for n in shape) and 0 <= start <= end <= room
                if sound and len(shape) <= 8 and prod(shape) <= 8 * LARGEST_FILE and len(dtype) <= 16:
                    _encodable(name, "a tensor's name")
                    yield name, (_printable(dtype), tuple(shape))
                    continue
        raise InputError(f"tensor {_printable(name)!r} has no sound dtype, shape and place in the file")


def _called(name: str) -> str:
    """The file's name without folder and ending."""
    stem = re.sub(r"\.(json|gguf|safetensors)$", "", name.replace("\\", "/").rpartition("/")[2], flags=re.IGNORECASE)
    return _printable(stem) or "model"


def _printable(text: str) -> str:
    """One line of at most `LONGEST_NAME` characters that can be shown anywhere."""
    shown = "".join(character if character.isprintable() else "·" for character in text[: LONGEST_NAME + 1])
    return shown if len(shown) <= LONGEST_NAME else f"{shown[: LONGEST_NAME - 1]}…"
