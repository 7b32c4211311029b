"""What an architecture costs: parameters, state, FLOPs, memory and time, all read from the spec.

Conventions, the same everywhere in the library:

- *Parameters* are logical weight elements of the text model. A tied matrix counts once, as the head; the router's
  stored selection bias counts; multi-token prediction stands apart in `by_part` and is in no other figure here.
- *Active* are the weights that one token passes through, both embeddings included: k of E experts, all of everything
  else, the router's selection bias too.
- *Per-layer embeddings* (Gemma 3n) are a part of their own in `by_part`: they are looked up, never multiplied, so they
  may live on slower memory than the rest. Being used, they are active too.
- *State* is what generation must remember (the KV cache) at the architectural minimum: a window keeps its window. What
  engines reserve is in `policies`.
- *FLOPs* count matrix products, 2 for a multiply-add, attention's scores and sums over the visible pairs of a query and
  a key, and what a recurrence does to its memory. Norms, biases, activations, softmax and lookups are left out.
  *Prefill* is `batch` prompts of `context` tokens, the head computed for every token; *decode per token* is one new
  token of one sequence, at position `context`. An encoder reads `context` tokens too, once: it is part of prefill only.
- *Memory* and *devices*: see the modules of these names.
- *Sizes* are in bytes, and k = 1,024 wherever a context is given.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import Any

from .. import CallablePackage
from ..sharding import Layout as Layout
from ..spec import Decoder, Node
from ..spec.registry import displayed
from .counting import Flops, Parameters, counted, flops, parameters
from .devices import Device
from .dtypes import DTYPES as DTYPES
from .dtypes import bits as bits
from .fitting import Fit, fit
from .memory import Memory, needed
from .part import MTP, headed
from .policies import kept, reserved
from .quantity import count, size
from .roofline import Time, time
from .setting import Attained as Attained
from .setting import Setting, setting_for
from .state_formats import named_bits, state_bits


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


@dataclass(frozen=True, repr=False)
class Cost:
    """What `cost` found; the attributes are the keys of its JSON, and the `setting` it holds for. `time` is None
    without a device. `print` shows tables, and so does a notebook."""

    model: str
    parameters: Parameters
    state: StateSize
    flops: Flops
    memory: Memory
    time: Time | None
    setting: Setting = field(repr=False)

    def __repr__(self) -> str:
        weights, state = size(self.memory.weights_bytes), size(self.state.bytes)
        total, asked = count(self.parameters.total), self.state
        held = f"{weights} of weights, {state} of state at {asked.batch:,} × {asked.context:,} tokens"
        return f"<Cost of {self.model}: {total} parameters, {held}>"

    def __str__(self) -> str:
        return displayed(self, "text") or repr(self)

    def _repr_html_(self) -> str | None:
        return displayed(self, "html")

    @property
    def dtype(self) -> str:
        """The dtype asked for."""
        return self.setting.dtype

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and numbers, as `vitruvius cost --json` prints them."""
        return {
            "model": self.model,
            "parameters": asdict(self.parameters),
            "state": asdict(self.state),
            "flops": asdict(self.flops),
            "memory": asdict(self.memory),
            "time": None if self.time is None else asdict(self.time),
        }


def cost(
    arch: Decoder,
    context: int | None = None,
    batch: int = 1,
    dtype: str = "bf16",
    device: str | Device | None = None,
    devices: int | None = None,
    **options: Any,
) -> Cost:
    """What `arch` costs, by the conventions of this module.

    Args:
        context: tokens of each sequence, by default the longest that the model is made for.
        batch: sequences at once.
        dtype: of weights and state, where the architecture fixes no other: a key of `DTYPES`.
        device: the name of a device, or one; gives `memory.fits` and `time`.
        devices: how many of them, matrices and heads cut among all.
        options: the further ones of `setting.setting_for`.

    Raises InputError for values that cannot be.
    """
    asked = setting_for(arch, context, batch, dtype, device, devices, **options)
    weights = counted(arch)
    nodes = [(node, part) for node, part in headed(arch) if part != MTP]
    return Cost(
        model=arch.name,
        parameters=parameters(weights),
        state=_state(arch, nodes, asked),
        flops=flops(nodes, weights, asked.context, batch),
        memory=needed(arch, asked, weights),
        time=time(arch, asked),
        setting=asked,
    )


def fits(arch: Decoder, *args: Any, **options: Any) -> Fit:
    """What fits on a device, given as for `cost`: the longest context at the batch, the most sequences at the context,
    the fewest devices for both."""
    return fit(arch, setting_for(arch, *args, **options))


def _state(arch: Decoder, nodes: list[tuple[Node, str]], asked: Setting) -> StateSize:
    states = [
        (part, state, state_bits(node.spec, state, asked.state))
        for node, part in nodes
        for state in node.spec.state().values()
    ]
    if asked.serving.draft:
        entries = [pair for module in arch.draft_state().values() for pair in module.items()]
        states += [(MTP, state, named_bits(name, state, asked.state)) for name, state in entries]
    layers = kept(arch, draft=asked.serving.draft)
    held: Counter[str] = Counter()
    for part, state, each in states:
        held[part] += asked.batch * ceil(state.elements(asked.context) * each / 8)
    return StateSize(
        context=asked.context,
        batch=asked.batch,
        bytes=held.total(),
        bytes_per_token=sum(ceil(state.growth * each / 8) for _, state, each in states),
        policies=reserved(layers, asked.context, asked.state, asked.batch, asked.chunk, asked.serving),
        by_part=dict(held),
    )


sys.modules[__name__].__class__ = CallablePackage
