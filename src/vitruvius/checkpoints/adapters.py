"""Adapters as PEFT keeps them: adapter_config.json, and adapter_model.safetensors with two tensors a module.

A file may keep as one matrix what is several here (queries, keys and values in one), or the other way round. The sum
that an adapter adds, B A, is then cut or joined as its matrix is: B goes through the same operations as the weight, and
where several meet, their ranks lie side by side. huggingface/peft, docs/source/developer_guides/checkpoint.md.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..spec import Join, Reorder, Reshape, Split, Stack, Tensors, Transpose
from .files import read_json
from .safetensors import Mapped
from .steps import loaded, saved

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# What changes an adapter's meaning and is not read here: key -> values that say nothing.
UNREAD: Mapping[str, tuple[Any, ...]] = {
    "use_dora": (False, None),
    "lora_bias": (False, None),
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, [], {}),
    "layer_replication": (None, []),
    "use_qalora": (False, None),
    "alora_invocation_tokens": (None, []),
}


@dataclass(frozen=True)
class LowRankSum:
    """What an adapter adds to one matrix: scale · b a.

    Args:
        a: (…, rank, in). b: (…, out, rank). Arrays of numpy or PyTorch.
    """

    a: Any
    b: Any
    scale: float


@dataclass(frozen=True)
class AdapterFolder:
    """What an adapter's folder says.

    Args:
        tensors: module of the file -> the names of its A and B in `file`, and their scale.
    """

    path: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, tuple[str, str, float]]
    file: Mapped

    @property
    def base(self) -> str | None:
        """The model that it was made for, by name or path; None where it does not say."""
        found = self.config.get("base_model_name_or_path")
        return found if isinstance(found, str) and found else None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> AdapterFolder:
        """Raises InputError for what is no adapter of the plain kind."""
        folder = Path(path).expanduser()
        if not (folder / CONFIG).is_file():
            raise InputError(f"{folder}: no adapter is there (a folder with {CONFIG} and {TENSORS})")
        if not (folder / TENSORS).is_file():
            raise InputError(f"{folder}: {TENSORS} is missing; adapters in pickle files are not opened")
        config = read_json(folder / CONFIG)
        if config.get("peft_type") != "LORA":
            raise InputError(f"{folder}: adapters of the kind {config.get('peft_type')!r} are not known, only LORA")
        for key, silent in UNREAD.items():
            if config.get(key) not in silent:
                raise InputError(f"{folder / CONFIG}: {key}={config[key]!r} is not supported")
        file = Mapped(folder / TENSORS)
        return cls(folder, config, dict(_modules(file, config, folder)), file)


def _modules(file: Mapped, config: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, tuple[str, str, float]]]:
    for name in file.shapes:
        head, kind, _ = name.partition(".lora_A.")
        if not kind:
            if ".lora_B." not in name:
                raise InputError(f"{folder}: {name} is not part of a plain adapter")
            continue
        other = name.replace(".lora_A.", ".lora_B.")
        a, b = file.shapes[name], file.shapes.get(other)
        if b is None or len(a) != 2 or len(b) != 2 or a[0] != b[1]:
            raise InputError(f"{folder}: {name} has the shape {a}, and {other} {b}: their ranks must be one")
        module = head.removeprefix(PREFIX)
        alpha = _of_module(config.get("alpha_pattern"), module, config.get("lora_alpha", 8))
        rank = a[0]
        scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
        yield module, (name, other, float(scale))


def _of_module(patterns: Any, module: str, otherwise: Any) -> Any:
    """What a pattern says of a module: PEFT's, the end of its name or a regular expression for it."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise


# ------------------------------------------------------------------ names


def to_model(entries: Iterable[Tensors], file: Mapping[str, LowRankSum], where: Path) -> dict[str, LowRankSum]:
    """Canonical path of a matrix -> its adapter, from those of a file's modules.

    Raises InputError for modules that the model does not have, or that lie in it otherwise than adapters can.
    """
    left = dict(file)
    found: dict[str, LowRankSum] = {}
    for entry in entries:
        names = [name.removesuffix(".weight") for name in entry.theirs]
        given = [left.pop(name, None) for name in names]
        if not any(given):
            continue
        _check(entry, where)
        if _stacked(entry):
            found[entry.ours[0].removesuffix(".weight")] = _stack(given, names, where)
            continue
        whole, columns = _beside(given, _file_rows(entry), entry.theirs, where)
        thin = _thin(entry, whole)
        for path, b in loaded(thin, columns):
            found[path.removesuffix(".weight")] = LowRankSum(whole.a, b, whole.scale)
    if left:
        shown = ", ".join(list(left)[:3]) + (", …" if len(left) > 3 else "")
        raise InputError(f"{where}: the model has no matrices for {shown}")
    return found


def to_file(entries: Iterable[Tensors], ours: Mapping[str, LowRankSum], where: Path) -> dict[str, LowRankSum]:
    """Module of the file -> its adapter: `to_model` backwards."""
    found: dict[str, LowRankSum] = {}
    for entry in entries:
        given = [ours.get(name.removesuffix(".weight")) for name in entry.ours]
        if not any(given):
            continue
        _check(entry, where)
        names = [name.removesuffix(".weight") for name in entry.theirs]
        if _stacked(entry):
            (part,) = given
            assert part is not None
            found |= {name: LowRankSum(part.a[i], part.b[i], part.scale) for i, name in enumerate(names)}
            continue
        whole, columns = _beside(given, [shape[0] for shape in entry.shapes], entry.ours, where)
        thin = _thin(entry, whole)
        for name, b in saved(thin, columns):
            found[name.removesuffix(".weight")] = LowRankSum(whole.a, b, whole.scale)
    return found


def _beside(
    parts: Sequence[LowRankSum | None], rows: Sequence[int], names: Sequence[str], where: Path
) -> tuple[LowRankSum, list[Any]]:
    """Several adapters of one input as one, whose ranks lie side by side: `a` (Σ rank, in) and the first one's scale;
    and the `b` of each, (its rows, Σ rank)."""
    there = [part for part in parts if part]
    whole = there[0]
    for part, count, name in zip(parts, rows, names, strict=True):
        if part and (part.b.shape[0], part.a.shape[1]) != (count, whole.a.shape[1]):
            raise InputError(
                f"{where}: the adapter of {name} is for a matrix of {part.b.shape[0]} × {part.a.shape[1]}, and the "
                f"model's has {count} rows"
            )
    if len(parts) == 1:
        return whole, [whole.b]
    library = _library(whole.a)
    whole = LowRankSum(library.concatenate([part.a for part in there], 0), None, whole.scale)
    begin, columns = 0, []
    for part, count in zip(parts, rows, strict=True):
        wide = library.zeros((count, whole.a.shape[0]), dtype=whole.a.dtype)
        if part is not None:
            rank = part.b.shape[1]
            wide[:, begin : begin + rank] = part.b * (part.scale / whole.scale)
            begin += rank
        columns.append(wide)
    return whole, columns


def _thin(entry: Tensors, whole: LowRankSum) -> Tensors:
    """The operations on rows, of matrices with as many columns as there are ranks. Whether a file stores a matrix
    transposed does not matter to its adapter."""
    shapes = tuple((shape[0], whole.a.shape[0]) for shape in entry.shapes)
    return replace(entry, shapes=shapes, steps=_of_rows(entry))


def _stacked(entry: Tensors) -> bool:
    return any(isinstance(step, Stack) for step in entry.steps)


def _stack(given: Sequence[LowRankSum | None], names: Sequence[str], where: Path) -> LowRankSum:
    """The adapters of all experts as one."""
    parts = [part for part in given if part]
    if len(parts) < len(given) or len({(tuple(part.a.shape), part.scale) for part in parts}) > 1:
        raise InputError(f"{where}: the experts of {names[0]} … must all have an adapter, of one rank and scale")
    library = _library(parts[0].a)
    return LowRankSum(library.stack([p.a for p in parts]), library.stack([p.b for p in parts]), parts[0].scale)


def _check(entry: Tensors, where: Path) -> None:
    """Raises InputError where a file keeps a matrix such that an adapter of it is not an adapter of ours."""
    rows = all(
        isinstance(step, Transpose | Stack)
        or (isinstance(step, Split | Join | Reorder) and step.axis == 0 and not _stacked(entry))
        for step in entry.steps
    )
    flat = all(len(shape) == 2 + _stacked(entry) for shape in entry.shapes) and not any(
        isinstance(step, Reshape) for step in entry.steps
    )
    if not rows or not flat:
        raise InputError(
            f"{where}: {entry.theirs[0]} cannot have an adapter of its own in PEFT's format: leave "
            f"{', '.join(entry.ours)} out"
        )


def _of_rows(entry: Tensors) -> tuple[Any, ...]:
    return tuple(step for step in entry.steps if not isinstance(step, Transpose))


def _file_rows(entry: Tensors) -> list[int]:
    """Rows of each of the file's matrices."""
    rows = [shape[0] for shape in entry.shapes]
    for step in reversed(_of_rows(entry)):
        if isinstance(step, Split):
            rows = [sum(rows)]
        elif isinstance(step, Join):
            rows = list(step.sizes)
    return rows


def _library(array: Any) -> Any:
    """numpy or torch, which name these functions alike."""
    from importlib import import_module

    return import_module(type(array).__module__.partition(".")[0])


# ------------------------------------------------------------------ writing


def config_of_adapters(
    entries: Iterable[Tensors], file: Mapping[str, LowRankSum], base: str | None, transposed: bool, dropout: float
) -> dict[str, Any]:
    """The adapter_config.json of these modules of a model with these names. Rank and alpha are those of most modules;
    others are named. Modules are given by the end of their name where all that have it are meant."""
    ranks = {module: part.a.shape[-2] for module, part in file.items()}
    alphas = {module: _plain(part.scale * ranks[module]) for module, part in file.items()}
    rank, alpha = (max(set(each.values()), key=list(each.values()).count) for each in (ranks, alphas))
    others = {name.removesuffix(".weight") for entry in entries for name in entry.theirs} - file.keys()
    ambiguous = {module.rpartition(".")[2] for module in others}
    leaves = {module.rpartition(".")[2] for module in file}
    targets = sorted(leaves - ambiguous) + [m for m in file if m.rpartition(".")[2] in ambiguous]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": targets,
        "rank_pattern": {re.escape(m): r for m, r in ranks.items() if r != rank},
        "alpha_pattern": {re.escape(m): a for m, a in alphas.items() if a != alpha},
        "bias": "none",
        "fan_in_fan_out": transposed,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
        "modules_to_save": None,
    }


def _plain(alpha: float) -> float | int:
    return round(alpha) if abs(alpha - round(alpha)) < 1e-6 else alpha


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Writes adapter_config.json."""
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
