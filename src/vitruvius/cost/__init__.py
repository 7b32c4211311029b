"""What an architecture costs: parameters, state, FLOPs and memory, all read from the spec.

Conventions, the same everywhere in the library:

- *Parameters* are logical weight elements of the text model. A tied matrix counts once, as the head; the router's
  stored selection bias counts; multi-token prediction stands apart in `by_part` and is in no other figure here.
- *Active* are the weights that one token passes through, both embeddings included: k of E experts, all of everything
  else, the router's selection bias too.
- *Per-layer embeddings* (Gemma 3n) are a part of their own in `by_part`: they are looked up, never multiplied, so they
  may live on slower memory than the rest. Being used, they are active too.
- *State* is what generation must remember (the KV cache) at the architectural minimum: a window keeps its window.
- *FLOPs* count matrix products, 2 for a multiply-add, attention's scores and sums over the visible pairs of a query and
  a key, and what a recurrence does to its memory. Norms, biases, activations, softmax and lookups are left out.
  *Prefill* is `batch` prompts of `context` tokens, the head computed for every token; *decode per token* is one new
  token of one sequence, at position `context`. An encoder reads `context` tokens too, once: it is part of prefill only.
- *Sizes* are in bytes, and k = 1,024 wherever a context is given.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from types import ModuleType
from typing import Any

from ..errors import InputError
from ..spec import Decoder, Node, PerToken
from .part import MTP, headed, weightless

# bits of one element; the longer names are PyTorch's
DTYPES: Mapping[str, int] = {
    **dict.fromkeys(("f32", "fp32", "float32"), 32),
    **dict.fromkeys(("bf16", "bfloat16", "f16", "fp16", "float16"), 16),
    **dict.fromkeys(("fp8", "float8", "int8"), 8),
    **dict.fromkeys(("fp4", "int4"), 4),
}


@dataclass(frozen=True)
class Parameters:
    """Counts of weight elements. `by_part` sums to `total`, but for "mtp", which stands apart."""

    total: int
    active: int
    active_without_input_embedding: int
    active_without_embeddings: int
    by_part: Mapping[str, int]


@dataclass(frozen=True)
class StateSize:
    """Bytes of state of `batch` sequences of `context` tokens.

    `bytes_per_token` is what one more token of one sequence adds while no window is full; `policies` what engines
    really reserve, where `bytes` is the minimum, which `by_part` splits (an indexer's keys stand beside attention's).
    """

    context: int
    batch: int
    bytes: int
    bytes_per_token: int
    policies: Mapping[str, int]
    by_part: Mapping[str, int]


@dataclass(frozen=True)
class Flops:
    """Floating-point operations; `by_part` splits both figures, each split summing to its figure."""

    prefill: int
    decode_per_token: int
    by_part: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Memory:
    """Bytes of weights and state. `fits` says whether a device holds them, None without one."""

    weights_bytes: int
    state_bytes: int
    total_bytes: int
    fits: bool | None = None


@dataclass(frozen=True)
class Cost:
    """What `cost` found; the attributes are the keys of its JSON, and the `dtype` asked for. `time` is None without a
    device."""

    model: str
    parameters: Parameters
    state: StateSize
    flops: Flops
    memory: Memory
    dtype: str
    time: None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and numbers, as `vitruvius cost --json` prints them."""
        return {key: value for key, value in asdict(self).items() if key != "dtype"}


def cost(
    arch: Decoder, context: int | None = None, batch: int = 1, dtype: str = "bf16", device: str | None = None
) -> Cost:
    """What `arch` costs, by the conventions of this module.

    Args:
        context: tokens of each sequence, by default the longest that the model is made for.
        batch: sequences at once.
        dtype: of weights and state, where the architecture fixes no other: a key of `DTYPES`.
        device: must be None so far.

    Raises InputError for values that cannot be.
    """
    context = arch.context if context is None else context
    for name, value in (("context", context), ("batch", batch)):
        if type(value) is not int or value < 1:
            raise InputError(f"{name} must be a whole number from 1 on, got {value!r}")
    if device is not None:
        raise InputError(f"device {device!r}: costs on devices are not there yet; leave the device out")
    bits(dtype)
    whole = list(headed(arch))
    main = [(node, part) for node, part in whole if part != MTP]
    weights = [weight for node, part in whole for weight in _weights(node, part)]
    state = _state(main, context, batch, dtype)
    stored = sum(_bytes(w.elements, w.dtype or dtype) for w in weights if w.part != MTP)
    memory = Memory(weights_bytes=stored, state_bytes=state.bytes, total_bytes=stored + state.bytes)
    return Cost(arch.name, _parameters(weights), state, _flops(main, weights, context, batch), memory, dtype)


def bits(dtype: str) -> int:
    """Bits of one element. Raises InputError for a dtype that is not known."""
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not known: it is one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _bytes(elements: int, dtype: str) -> int:
    return -(-elements * bits(dtype) // 8)


@dataclass(frozen=True)
class _Counted:
    """Weights of one name, all copies; `uses` says how often one token passes through each element."""

    part: str
    elements: int
    uses: float
    product: bool
    once: bool  # on the encoder's tokens
    dtype: str | None

    @property
    def passes(self) -> int:
        """Elements that one token passes through, each time counted; exact, since k of E experts are equal."""
        return round(self.elements * self.uses)

    @property
    def active(self) -> int:
        return min(self.passes, self.elements)


def _weights(node: Node, part: str) -> list[_Counted]:
    """The part's own weights; what is stored but not trained is named ("router correction")."""
    return [
        _Counted(
            part=f"{part} {name}" if weight.role == "buffer" and part != MTP else part,
            elements=prod(node.copies) * weight.size,
            uses=node.uses * weight.uses,
            product=weight.role == "matmul",
            once=_once(node),
            dtype=weight.dtype,
        )
        for name, weight in node.spec.weights(node.width).items()
        if weight.role != "constant"
    ]


def _parameters(weights: list[_Counted]) -> Parameters:
    total: Counter[str] = Counter()
    active: Counter[str] = Counter()
    for weight in weights:
        total[weight.part] += weight.elements
        active[weight.part] += weight.active
    in_use = active.total() - active[MTP]
    return Parameters(
        total=total.total() - total[MTP],
        active=in_use,
        active_without_input_embedding=in_use - active["embedding"],
        active_without_embeddings=in_use - active["embedding"] - active["head"],
        by_part=dict(total),
    )


def _state(nodes: list[tuple[Node, str]], context: int, batch: int, dtype: str) -> StateSize:
    states = [(part, state) for node, part in nodes for state in node.spec.state().values()]
    held: Counter[str] = Counter()
    for part, state in states:
        held[part] += batch * _bytes(state.elements(context), state.dtype or dtype)
    growing = [state for _, state in states if isinstance(state, PerToken)]
    return StateSize(
        context=context,
        batch=batch,
        bytes=held.total(),
        bytes_per_token=sum(_bytes(state.elements(1), state.dtype or dtype) for state in growing),
        policies={"vitruvius": held.total()},
        by_part=dict(held),
    )


def _flops(nodes: list[tuple[Node, str]], weights: list[_Counted], context: int, batch: int) -> Flops:
    prefill: Counter[str] = Counter()
    decode: Counter[str] = Counter()
    for weight in weights:
        if weight.product and weight.part != MTP:
            prefill[weight.part] += 2 * weight.passes * context * batch
            decode[weight.part] += 0 if weight.once else 2 * weight.passes
    for node, part in nodes:
        if whole := node.spec.flops(context, tokens=context):
            prefill[weightless(part)] += whole * batch
            decode[weightless(part)] += 0 if _once(node) else node.spec.flops(context)
    by_part = {"prefill": dict(prefill), "decode_per_token": dict(decode)}
    return Flops(prefill=prefill.total(), decode_per_token=decode.total(), by_part=by_part)


def _once(node: Node) -> bool:
    """Whether the part works on the encoder's tokens, once for a sequence."""
    return any(spec.once for spec in (*node.above, node.spec))


class _Callable(ModuleType):
    """Lets `vitruvius.cost(arch)` be the function, though `vitruvius.cost` is this package."""

    def __call__(self, *args: Any, **kwargs: Any) -> Cost:
        return cost(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
