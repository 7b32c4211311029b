"""What an architecture costs: parameters, state, FLOPs and memory, all read from the spec.

Conventions, the same everywhere in the library:

- *Parameters* are logical weight elements of the text model. A tied matrix counts once, as the head; the router's stored
  selection bias counts; multi-token prediction stands apart in `by_part` and is in no other figure here.
- *Active* are the weights that one token passes through, both embeddings included: k of E experts, all of everything else.
- *State* is what generation must remember (the KV cache) at the architectural minimum: a window keeps its window.
- *FLOPs* count matrix products, 2 for a multiply-add, and attention's scores and sums over the visible pairs of a query and
  a key. Norms, biases, activations, softmax and lookups are left out. *Prefill* is `batch` prompts of `context` tokens, the
  head computed for every token; *decode per token* is one new token of one sequence, at position `context`.
- *Sizes* are in bytes, and k = 1,024 wherever a context is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ..errors import InputError
from ..spec import MTP, Decoder, Node, PerToken, walk
from .part import heading

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

    `bytes_per_token` is what one more token of one sequence adds while no window is full; `policies` what engines really
    reserve, where `bytes` is the minimum.
    """

    context: int
    batch: int
    bytes: int
    bytes_per_token: int
    policies: Mapping[str, int]


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
    """What `cost` found; the attributes are the keys of its JSON. `time` is None without a device."""

    model: str
    parameters: Parameters
    state: StateSize
    flops: Flops
    memory: Memory
    time: None = None

    def to_dict(self) -> dict[str, object]:
        """Plain dicts and numbers, as `vitruvius cost --json` prints them."""
        return asdict(self)


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
    nodes = list(walk(arch, arch.width))
    parameters = _parameters(nodes)
    state = _state(nodes, context, batch, dtype)
    weights = _bytes(parameters.total, dtype)
    memory = Memory(weights_bytes=weights, state_bytes=state.bytes, total_bytes=weights + state.bytes)
    return Cost(arch.name, parameters, state, _flops(nodes, context, batch), memory)


def bits(dtype: str) -> int:
    """Bits of one element. Raises InputError for a dtype that is not known."""
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not known: it is one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _bytes(elements: int, dtype: str) -> int:
    return -(-elements * bits(dtype) // 8)


def _parameters(nodes: list[Node]) -> Parameters:
    total: Counter[str] = Counter()
    active: Counter[str] = Counter()
    for node in nodes:
        for part, elements, uses, _ in _weights(node):
            total[part] += elements
            active[part] += round(elements * uses)
    in_use = active.total() - active["mtp"]
    return Parameters(
        total=total.total() - total["mtp"],
        active=in_use,
        active_without_input_embedding=in_use - active["embedding"],
        active_without_embeddings=in_use - active["embedding"] - active["head"],
        by_part=dict(total),
    )


def _weights(node: Node) -> list[tuple[str, int, float, bool]]:
    """(part, elements, how often one token passes through them, whether that is a matrix product) of each weight."""
    weights = node.spec.weights(node.width)
    stacked = 1
    for copies in node.copies:
        stacked *= copies
    return [
        (heading(node, name, weight), stacked * weight.size, node.uses * weight.uses, weight.role == "matmul")
        for name, weight in weights.items()
    ]


def _state(nodes: list[Node], context: int, batch: int, dtype: str) -> StateSize:
    states = [(node, state) for node in nodes for state in node.spec.state().values() if not _apart(node)]
    minimum = batch * sum(_bytes(state.elements(context), state.dtype or dtype) for _, state in states)
    growing = [state for _, state in states if isinstance(state, PerToken)]
    return StateSize(
        context=context,
        batch=batch,
        bytes=minimum,
        bytes_per_token=sum(_bytes(state.elements(1), state.dtype or dtype) for state in growing),
        policies={"vitruvius": minimum},
    )


def _flops(nodes: list[Node], context: int, batch: int) -> Flops:
    prefill: Counter[str] = Counter()
    decode: Counter[str] = Counter()
    for node in nodes:
        if _apart(node):
            continue
        for part, elements, uses, product in _weights(node):
            if product:
                once = 2 * round(elements * uses)
                prefill[part] += batch * context * once
                decode[part] += once
        if last := node.spec.flops(context):
            part = f"{heading(node)} scores"
            prefill[part] += batch * node.spec.flops(context, tokens=context)
            decode[part] += last
    by_part = {"prefill": dict(prefill), "decode_per_token": dict(decode)}
    return Flops(prefill=prefill.total(), decode_per_token=decode.total(), by_part=by_part)


def _apart(node: Node) -> bool:
    return any(isinstance(spec, MTP) for spec in (node.spec, *node.above))
