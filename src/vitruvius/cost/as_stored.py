"""The size of weights as a checkpoint stores them: by its files' own bytes, or by what its config.json says of them.

A `quantization_config` (MLX: `quantization`) says which matrices are packed and how; everything else is at the
checkpoint's dtype. Sources: transformers 5.23, quantizers/ and utils/quantization_config.py; vllm-project/compressed-
tensors, quantization/; NVIDIA/Model-Optimizer, hf_quant_config.json; ml-explore/mlx-lm, utils.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InputError
from .counting import Counted
from .dtypes import stored
from .formats import PACKED, PackedFormat

FP8 = PackedFormat("fp8", 8, (None, None), 32, products="fp8")
NF4, NF4_NESTED = PACKED["nf4"], replace(PACKED["nf4-nested"], name="nf4")
INT8 = PackedFormat("int8", 8, (1, None), 32, products="int8")


@dataclass(frozen=True, eq=False)
class AsStored:
    """Each weight in its own form.

    Args:
        name: what the whole is called, with the reason.
        forms: canonical name -> how it is packed; all others are at `rest`.
        rest: the checkpoint's dtype.
        products: the dtype of products, None for that of the activations.
    """

    name: str
    forms: Mapping[str, PackedFormat]
    rest: str
    products: str | None = None

    def compute(self, dtype: str) -> str:
        """The dtype of the factors of matrix products."""
        return self.products or dtype

    def stored(self, weight: Counted, dtype: str) -> int:
        """Bytes of all copies."""
        form = self.forms.get(canonical(weight))
        return form.packed(weight, self.rest) if form else stored(weight.elements, weight.dtype or self.rest)

    def tile_of(self, weight: Counted) -> tuple[int | None, int | None] | None:
        """Rows and columns that share a scale and that engines refuse to cut, None for all of them; None for a weight
        without such."""
        form = self.forms.get(canonical(weight))
        return form.tile if form and not form.padded else None


@dataclass(frozen=True, eq=False)
class FileSizes:
    """The bytes that a checkpoint's files have for each weight.

    Args:
        name: what the whole is called.
        sizes: canonical name -> bytes; what the files do not have is none.
        products: the dtype of products, None for that of the activations.
    """

    name: str
    sizes: Mapping[str, int]
    products: str | None = None

    def compute(self, dtype: str) -> str:
        """The dtype of the factors of matrix products."""
        return self.products or dtype

    def stored(self, weight: Counted, dtype: str) -> int:
        """Bytes of all copies."""
        return self.sizes.get(canonical(weight), 0)

    def tile_of(self, weight: Counted) -> tuple[int | None, int | None] | None:
        """Rows and columns that share a scale and that engines refuse to cut, None for all of them; None for a weight
        without such."""
        return None  # files are measured, not asked


def canonical(weight: Counted) -> str:
    """The weight's name in the tree."""
    return f"{weight.node.path}.{weight.name}" if weight.node.path else weight.name


def quantized(
    settings: Mapping[str, Any], weights: Iterable[Counted], modules: Mapping[str, str], rest: str, origin: str
) -> AsStored:
    """What a config.json's settings give each weight.

    Args:
        settings: the `quantization_config`, or MLX's `quantization`.
        weights: of the model.
        modules: canonical name of a weight -> the module that holds it, as the checkpoint names it.
        rest: the checkpoint's dtype.
        origin: where this is said, for the name.

    Raises InputError for a method that is not known.
    """
    rule, called = _rule(settings)
    forms = {}
    for weight in weights:
        module = modules.get(canonical(weight))
        matrix = weight.weight.role in ("matmul", "table") and len(weight.weight.shape) == 2 and weight.dtype is None
        if module is not None and matrix and (form := rule(weight, spellings(module))):
            forms[canonical(weight)] = form
    kinds = {form.products for form in forms.values()}
    return AsStored(f"{called}, {origin}", forms, rest, kinds.pop() if len(kinds) == 1 else None)


def spellings(module: str) -> tuple[str, ...]:
    """The names of a text model's module: its own, and those that multimodal wrappers give it."""
    inner = module.removeprefix("model.")
    return (module, f"model.language_model.{inner}", f"language_model.{module}", f"language_model.model.{inner}")


Rule = Callable[[Counted, tuple[str, ...]], PackedFormat | None]


def _rule(settings: Mapping[str, Any]) -> tuple[Rule, str]:
    """Which form a weight of a module has, and what the format is called."""
    method = str(settings.get("quant_method", "mlx" if "group_size" in settings else ""))
    if method == "compressed-tensors":
        return _groups(settings)
    if method == "modelopt" or "quant_algo" in settings:
        return _modelopt(settings)
    if method == "mlx":
        return _mlx(settings), f"{_size(settings, 'bits', 4)} bits in groups of {_size(settings, 'group_size')}"
    form = _form(method, settings)
    skipped = [*_texts(settings, "modules_to_not_convert"), *_texts(settings, "llm_int8_skip_modules"), "lm_head"]
    dynamic = settings.get("dynamic")
    negative = [key[2:] for key in dynamic if str(key).startswith("-:")] if isinstance(dynamic, Mapping) else []

    def rule(weight: Counted, names: tuple[str, ...]) -> PackedFormat | None:
        if not form.packs(weight) or _any(_names, skipped, names) or _any(re.match, negative, names):
            return None
        return form

    return rule, form.name


def _form(method: str, settings: Mapping[str, Any]) -> PackedFormat:
    """The form of all matrices that a method packs."""
    bits = _size(settings, "bits" if "bits" in settings else "w_bit", 4)
    group = settings.get("group_size", settings.get("q_group_size"))
    group = group if type(group) is int and group > 0 else None  # −1: the whole row
    match method:
        case "fp8":
            block = _block(settings, "weight_block_size")
            static = 32 if settings.get("activation_scheme") == "static" else 0
            if block:
                return replace(PACKED["fp8-block"], name=f"fp8 in blocks of {block[0]} × {block[1]}", tile=block)
            return replace(FP8, name="fp8", whole=static)
        case "fbgemm_fp8":
            return replace(FP8, name="fp8 by row", tile=(1, None))
        case "mxfp4":
            return PACKED["mxfp4"]
        case "gptq":
            return PackedFormat(f"gptq, {bits} bits", bits, (1, group), 16 + bits, column=32)
        case "awq":
            return PackedFormat(f"awq, {bits} bits", bits, (1, group), 16 + bits)
        case "bitsandbytes" if settings.get("load_in_8bit"):
            return replace(INT8, name="int8 by bitsandbytes")
        case "bitsandbytes":
            nested = settings.get("bnb_4bit_use_double_quant")
            return replace(NF4_NESTED if nested else NF4, name=f"{settings.get('bnb_4bit_quant_type', 'fp4')}")
    raise InputError(f"weights are quantized with {method or 'an unnamed method'}: say their size with --weights")


def _groups(settings: Mapping[str, Any]) -> tuple[Rule, str]:
    """compressed-tensors: groups of modules, each with its own form, and what is left alone."""
    groups = settings.get("config_groups")
    ignored, found = _texts(settings, "ignore"), []
    for group in groups.values() if isinstance(groups, Mapping) else ():
        if isinstance(group, Mapping) and isinstance(weights := group.get("weights"), Mapping):
            found.append(
                (_texts(group, "targets"), _compressed(weights, str(group.get("format") or settings.get("format"))))
            )
    if not found:
        raise InputError("compressed-tensors without config_groups: say the weights' size with --weights")

    def rule(weight: Counted, names: tuple[str, ...]) -> PackedFormat | None:
        if weight.weight.role != "matmul" or _any(_regular, ignored, names):
            return None
        linear = ("Linear",) if not weight.node.spec.unpacked else ()
        for targets, form in found:
            if any(target in linear for target in targets) or _any(_regular, targets, names):
                return form
        return None

    return rule, " and ".join(dict.fromkeys(form.name for _, form in found))


def _compressed(weights: Mapping[str, Any], form: str) -> PackedFormat:
    bits, kind, strategy = _size(weights, "num_bits", 8), weights.get("type", "int"), weights.get("strategy", "tensor")
    group = _size(weights, "group_size") if "group" in str(strategy) else None
    block = _block(weights, "block_structure")
    tiles = {"tensor": (None, None), "channel": (1, None), "group": (1, group), "tensor_group": (1, group)}
    if strategy != "block" and strategy not in tiles:
        raise InputError(f"weights are packed by {strategy!r}, which is not known: say their size with --weights")
    tile = (block or (128, 128)) if strategy == "block" else tiles[strategy]
    if kind == "float" and bits == 4:
        return replace(PACKED["nvfp4"], name="nvfp4")
    if kind == "float":
        return PackedFormat(f"fp8 by {strategy}", 8, tile, None, products="fp8")
    zero = 0 if weights.get("symmetric", True) else bits
    whole = 128 if form == "pack-quantized" else 0  # its shape, two integers of 64 bits
    products = "int8" if form == "int-quantized" else None
    return PackedFormat(f"{bits} bits by {strategy}", bits, tile, None, zero=zero, whole=whole, products=products)


def _modelopt(settings: Mapping[str, Any]) -> tuple[Rule, str]:
    """ModelOpt: one algorithm for all, or one for each module."""
    inner = settings.get("quantization")
    settings = inner if isinstance(inner, Mapping) else settings
    algorithms = {"FP8": FP8, "NVFP4": PACKED["nvfp4"], "FP8_PB_WO": PACKED["fp8-block"]}
    algorithms |= {"W4A16_AWQ": PACKED["awq"], "INT4_AWQ": PACKED["awq"], "W4A8_AWQ": PACKED["awq"]}
    algorithms |= {
        "NVFP4_AWQ": PACKED["nvfp4"],
        "W4A16_NVFP4": PACKED["nvfp4"],
        "W8A8_SQ_PER_CHANNEL": INT8,
        "MXFP8": PackedFormat("mxfp8", 8, (1, 32), 8),
    }
    layers, algorithm = settings.get("quantized_layers"), str(settings.get("quant_algo"))
    excluded = [
        *_texts(settings, "exclude_modules"),
        *_texts(settings, "ignore"),
        *_texts(settings, "modules_to_not_convert"),
    ]
    known = (
        [algorithm, *(str(each.get("quant_algo")) for each in layers.values())]
        if isinstance(layers, Mapping)
        else [algorithm]
    )
    for each in known:
        if each not in algorithms and not (each == "MIXED_PRECISION" and layers):
            raise InputError(f"weights are quantized with ModelOpt's {each}: say their size with --weights")

    def rule(weight: Counted, names: tuple[str, ...]) -> PackedFormat | None:
        if weight.weight.role != "matmul" or _any(_star, excluded, names):
            return None
        if isinstance(layers, Mapping):
            own = next((layers[part] for name in names for part in _and_above(name) if part in layers), None)
            return algorithms[str(own.get("quant_algo"))] if isinstance(own, Mapping) else None
        return None if weight.node.spec.unpacked else algorithms[algorithm]

    return rule, f"ModelOpt {algorithm}"


def _mlx(settings: Mapping[str, Any]) -> Rule:
    """MLX: every linear layer and embedding, a scale and a bias for each group, some modules apart."""

    def rule(weight: Counted, names: tuple[str, ...]) -> PackedFormat | None:
        own = next((settings[name] for name in names if name in settings), settings)
        if own is False or not isinstance(own, Mapping):
            return None
        bits = _size(own, "bits", _size(settings, "bits", 4))
        group = _size(own, "group_size", _size(settings, "group_size"))
        if weight.weight.shape[-1] % group:
            return None
        return PackedFormat(f"{bits} bits", bits, (1, group), None, scales=2)

    return rule


def _size(settings: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A whole number above 0. Raises InputError for others."""
    value = settings.get(key, default)
    if type(value) is not int or value < 1:
        raise InputError(f"{key} of the quantisation must be a whole number above 0, got {value!r}")
    return value


def _block(settings: Mapping[str, Any], key: str) -> tuple[int, int] | None:
    """Rows and columns of a block, None where there is none. Raises InputError for what is no block."""
    match settings.get(key):
        case None:
            return None
        case [int(rows), int(columns)] if rows > 0 and columns > 0:
            return rows, columns
    raise InputError(f"{key} of the quantisation must be two whole numbers above 0, got {settings[key]!r}")


def _texts(settings: Mapping[str, Any], key: str) -> list[str]:
    value = settings.get(key)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _any(matches: Callable[[str, str], object], patterns: Iterable[str], names: tuple[str, ...]) -> bool:
    """Whether one of the patterns says one of a module's names."""
    return any(matches(pattern, name) for pattern in patterns for name in names)


def _and_above(module: str) -> Iterator[str]:
    """A module's name, and those of the modules that it is in, as ModelOpt names the experts of a layer as one."""
    while module:
        yield module
        module = module.rpartition(".")[0]


def _names(pattern: str, module: str) -> bool:
    """Whether a module is named so, as transformers has it: from its beginning, or at its end."""
    try:
        return (
            bool(re.match(rf"{pattern}(\.|$)", module))
            or f".{module}".endswith(f".{pattern}")
            or f".{pattern}." in f".{module}"
        )
    except re.error:
        return False


def _regular(name: str, module: str) -> bool:
    """Whether a module has this name, or is matched by "re:…"."""
    if not name.startswith("re:"):
        return name == module
    try:
        return re.match(name[3:], module) is not None
    except re.error:
        return False


def _star(pattern: str, module: str) -> bool:
    parts = ".*".join(map(re.escape, pattern.split("*")))
    return re.fullmatch(rf"{parts}(\..*)?", module) is not None
