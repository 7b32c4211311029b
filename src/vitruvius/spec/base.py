"""What every part of an architecture answers: its parts, weights, state and work.

A spec is a tree of frozen dataclasses. It holds shapes and choices and nothing else: no tensors, no dtype of a run, no
kernel. Parameters, FLOPs, cache bytes, names in a checkpoint, drawings and the PyTorch modules are all read from the
four questions that `Spec` asks, so they cannot disagree.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import cache
from math import isfinite, prod
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

Size = Annotated[int, "at least 1"]  # a count or width; checked when a spec is made
Role = Literal["matmul", "table", "vector", "buffer", "constant"]
SNAPSHOTS = 8  # of what is recurrent in a sequence, the latest: how many an executor keeps
DRAFTS = 8  # tokens that windowed layers keep beyond their window at least in a sequence that drafts, to go back
Cut = Literal["heads", "kv_heads", "groups", "hidden", "vocabulary", "experts", "replicated"]
CUTS: tuple[Cut, ...] = get_args(Cut)


@dataclass(frozen=True)
class Axis:
    """`count` units of `unit` channels: 32 heads of 128 are `Axis("heads", 32, 128, cut="heads")`.

    `cut` says what happens to it when devices share a layer; there is no default. Cuts lie between units.

        heads        each device has some of the heads, and all that belongs to them
        kv_heads     keys or values that several heads share: as heads; copied, where they are fewer than devices
        groups       what a group of a recurrence's heads shares: as kv_heads
        hidden       channels that meet no other before the next matrix sums over them
        vocabulary   rows of tokens
        experts      whole experts, each on one device, where they are spread
        replicated   whole on every device: all heads, channels or tokens need it
    """

    name: str
    count: int
    unit: int = 1
    cut: Cut = field(kw_only=True)

    def __post_init__(self) -> None:
        if self.cut not in CUTS:
            raise ValueError(f"axis {self.name!r} must say how it is cut, one of {', '.join(CUTS)}, got {self.cut!r}")

    @property
    def size(self) -> int:
        return self.count * self.unit


Dimension = tuple[Axis, ...]  # the segments that lie side by side along one dimension of a tensor


@dataclass(frozen=True)
class Drawn:
    """Random numbers that an untrained model starts from, where they are not normal: uniform between `low` and `high`,
    or

        log                what the logarithm makes of such numbers
        log_steps          log 1, log 2, log 3, …, which is not random
        inverse_softplus   b with softplus(b) between `low` and `high`, evenly over the logarithms
    """

    low: float = 0.0
    high: float = 1.0
    through: Literal["", "log", "log_steps", "inverse_softplus"] = ""


@dataclass(frozen=True)
class Weight:
    """One stored tensor.

    Args:
        dimensions: outermost first; a matrix is (out, in), as in `torch.nn.Linear`.
        role: `matmul` multiplies every token, `table` is looked up (no FLOPs), `vector` scales or shifts,
            `buffer` is stored but not trained (a router's selection bias), `constant` neither trained nor counted.
        uses: how often one token passes through it.
        initial: the constant that an untrained model starts from, or None for normal(0, σ), with the σ of the family.
        drawn: random numbers around it, where papers begin with such.
        dtype: where it is not the model's, as PyTorch calls it.
    """

    dimensions: tuple[Dimension, ...]
    role: Role = "matmul"
    uses: float = 1.0
    initial: float | None = None
    dtype: str | None = None
    drawn: Drawn | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(sum(axis.size for axis in dimension) for dimension in self.dimensions)

    @property
    def size(self) -> int:
        return prod(self.shape)


def width_axis(width: int) -> Dimension:
    """The residual stream's channels."""
    return (Axis("width", width, cut="replicated"),)


def linear(name: str, out: Dimension, into: Dimension, bias: bool = False) -> dict[str, Weight]:
    """The weights of y = x Wᵀ + b under `name`."""
    weights = {f"{name}.weight": Weight((out, into))}
    if bias:
        weights[f"{name}.bias"] = vector(out, initial=0.0)
    return weights


def vector(dimension: Dimension, initial: float, drawn: Drawn | None = None) -> Weight:
    """A weight that scales or shifts channels."""
    return Weight((dimension,), role="vector", initial=initial, drawn=drawn)


@dataclass(frozen=True)
class StateEntry(ABC):
    """One thing that generation must remember, for one sequence.

    Args:
        dimensions: of one entry, outermost first, as a weight's.
        dtype: where the architecture fixes it; else the model's.
    """

    dimensions: tuple[Dimension, ...]
    dtype: str | None = field(default=None, kw_only=True)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(sum(axis.size for axis in dimension) for dimension in self.dimensions)

    @property
    @abstractmethod
    def window(self) -> int | None:
        """How many of the last tokens have an entry; None if all have."""

    @property
    @abstractmethod
    def stride(self) -> int | None:
        """Tokens that share an entry; None where entries are not tokens'."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What engines may keep otherwise."""

    @property
    @abstractmethod
    def growth(self) -> Fraction:
        """Elements that one more token adds on average, while no window is full."""

    @abstractmethod
    def elements(self, context: int) -> int:
        """Elements that are kept of `context` tokens."""

    @abstractmethod
    def moved(self, context: int) -> int:
        """Elements that the token at position `context` reads and writes."""


@dataclass(frozen=True)
class PerToken(StateEntry):
    """State that grows with the sequence: an entry for each `stride` of the last `window` tokens (of all, if None), the
    newest perhaps of fewer. `kind` names what some engine keeps otherwise than plain keys and values: those of a chunk,
    keys and values in one, an indexer's keys, hidden states."""

    window: int | None = None
    stride: int = field(default=1, kw_only=True)
    kind: Literal["keys", "chunk", "unified", "indexer", "hidden"] = field(default="keys", kw_only=True)

    @property
    def growth(self) -> Fraction:
        return Fraction(prod(self.shape), self.stride)

    def elements(self, context: int) -> int:
        tokens = context if self.window is None else min(context, self.window)
        return prod(self.shape) * -(-tokens // self.stride)

    def moved(self, context: int) -> int:
        return self.elements(context) + prod(self.shape)


@dataclass(frozen=True)
class Fixed(StateEntry):
    """State of constant size, however long the sequence: a recurrence's memory, or a convolution's last inputs (inputs,
    channels)."""

    kind: Literal["memory", "inputs"] = field(default="memory", kw_only=True)

    window: ClassVar[int | None] = None
    stride: ClassVar[int | None] = None
    growth: ClassVar[Fraction] = Fraction(0)

    def elements(self, context: int) -> int:
        return prod(self.shape)

    def moved(self, context: int) -> int:
        return 2 * prod(self.shape)


@dataclass(frozen=True)
class Static(StateEntry):
    """State that is filled once and then only read: one entry for each token that an encoder has read, of which there
    are `context` wherever a context is given."""

    window: ClassVar[int | None] = None
    stride: ClassVar[int | None] = 1
    kind: ClassVar[str] = "keys"
    growth: ClassVar[Fraction] = Fraction(0)

    def elements(self, context: int) -> int:
        return prod(self.shape) * context

    def moved(self, context: int) -> int:
        return self.elements(context)


@dataclass(frozen=True)
class Exchange:
    """What devices that share a part tell each other of every token, after what is in `slot` (after all of it, if
    None).

    "reduce": each holds a part of a sum over `channels`, all need the sum. "gather": each holds some of the channels,
    all need all. "spread": a token goes to the devices that hold its `active` experts, and what they make of it back.
    `when` says with which placing of experts: always, cut like other matrices, or spread whole over devices.
    """

    kind: Literal["reduce", "gather", "spread"]
    channels: int
    active: int = 0
    when: Literal["always", "cut", "spread"] = "always"
    slot: str | None = None


@dataclass(frozen=True)
class Edge:
    """What a part reads of an earlier layer: its keys and values, which keys its indexer has selected, or its bias for
    relative positions."""

    kind: Literal["key_values", "selection", "bias"]
    layer: int


@dataclass(frozen=True)
class Part:
    """A child in its slot: the width it works on, and the leading axis along which its copies are stacked (experts)."""

    spec: Spec
    width: int
    copies: Axis | None = None
    uses: float = 1.0  # how many of the copies' passes one token makes, per copy: k/E for experts


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One part of an architecture. `width` is that of the stream it works on; it is not repeated in every part."""

    part: ClassVar[str | None] = None  # the heading under which cost counts it and what it contains
    mixes: ClassVar[bool] = False  # whether tokens meet here, so that its module takes the call that they share
    reads_ids: ClassVar[bool] = False  # whether it reads the tokens' ids too, which its module finds in the call
    encoder_side: ClassVar[bool] = False  # whether it works on the encoder's tokens, once a sequence; so all below
    spelling: ClassVar[
        Mapping[str, str]
    ] = {}  # own slot or weight -> its usual Hugging Face name, relative to this part
    headings: ClassVar[Mapping[str, str]] = {}  # slot -> the heading under which cost counts everything below it
    unpacked: ClassVar[bool] = False  # whether packed formats leave its own matrices alone
    quantized: ClassVar[Mapping[str, str | None]] = {}  # own matrix -> what llama.cpp's rules call it; None: float32
    rerun: ClassVar[bool] = False  # whether activation checkpointing keeps its input and runs it again as a whole
    gguf_spelling: ClassVar[Mapping[str, str]] = {}  # the same in GGUF (ggml-org/llama.cpp, gguf-py/gguf/constants.py)

    def parts(self, width: int) -> dict[str, Part]:
        """slot -> child."""
        return {}

    def weights(self, width: int) -> dict[str, Weight]:
        """name -> weight, of this part only, without its children's."""
        return {}

    def state(self) -> dict[str, StateEntry]:
        """name -> what generation must remember, for one sequence."""
        return {}

    def edges(self) -> tuple[Edge, ...]:
        """What it reads of earlier layers, besides the stream."""
        return ()

    def flops(self, context: int, tokens: int = 1, form: str | None = None) -> int:
        """The work that no weight explains (attention scores, recurrences), for the `tokens` tokens that end at
        position `context`, counted from 1. A multiply-add is 2. `form` names the algorithm where a part has two."""
        return 0

    def forms(self, context: int, tokens: int = 1) -> dict[str, int]:
        """form -> operations that no weight explains, for the `tokens` tokens that end at position `context`, also what
        a form does again for those before them; empty where there is one form."""
        return {}

    def work_axis(self) -> Axis | None:
        """The axis among whose units the work that no weight explains is cut; None where all of it is done whole."""
        return None

    def reads(self, context: int) -> list[tuple[StateEntry, int]]:
        """What the token at position `context` reads and writes of state, its own or another's: entries, and how many
        elements of each."""
        return [(state, state.moved(context)) for state in self.state().values()]

    def exchanges(self, width: int) -> tuple[Exchange, ...]:
        """What devices must tell each other where the axes of this part, and of all below it, are cut."""
        return ()

    def activations(self, width: int) -> int:
        """Elements for one token that the backward pass needs, beside what own and lower matrices take and give."""
        return 0

    def gguf_shapes(self, name: str) -> tuple[tuple[int, ...], ...]:
        """Shapes of the tensors that GGUF has for the weight `name`, where they are not its own; else empty."""
        return ()

    def __post_init__(self) -> None:
        cls: Any = type(self)
        for name, kind, optional in _checked(cls):
            value = getattr(self, name)
            if value is None and optional:
                continue
            if kind is Size and not (type(value) is int and value > 0):
                raise ValueError(f"{cls.__name__}.{name} must be a positive integer, got {value!r}")
            if kind is float and not (type(value) in (int, float) and isfinite(value)):
                raise ValueError(f"{cls.__name__}.{name} must be a finite number, got {value!r}")
            if value is None:
                raise ValueError(f"{cls.__name__}.{name} must be given, got None")
        self.check()

    def check(self) -> None:
        """Raises ValueError where fields contradict each other."""


@cache
def hints(cls: Any) -> Mapping[str, Any]:
    """field -> its type, whether its module writes types or their names. Raises TypeError for names that are not there
    when a part is made (imported for type checkers only, or defined in a function)."""
    try:
        return get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise TypeError(f"the types of {cls.__name__}'s fields cannot be read: {error}") from None


def options(hint: Any) -> tuple[Any, ...]:
    """The types of which a value may have any."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


@cache
def _checked(cls: Any) -> tuple[tuple[str, Any, bool], ...]:
    """(field, Size or float where its values are such, whether it may be None)."""
    found = []
    for name in (f.name for f in fields(cls)):
        kinds = set(options(hints(cls)[name]))
        kind = next((kind for kind in (Size, float) if kinds - {NoneType} == {kind}), None)
        found.append((name, kind, bool(kinds & {NoneType, Any})))
    return tuple(found)


@dataclass(frozen=True)
class Node:
    """A part where it stands in the tree.

    `path` is its canonical name ("layers.3.mixer.body"); `copies` the leading axes that its weights are stacked along;
    `uses` how often one token passes through one copy; `above` its ancestors, the root first.
    """

    path: str
    spec: Spec
    width: int
    copies: tuple[Axis, ...] = ()
    uses: float = 1.0
    above: tuple[Spec, ...] = field(default=(), repr=False)

    def weights(self) -> Iterator[tuple[str, Weight, tuple[int, ...]]]:
        """(canonical name, weight, shape with the stacked axes in front)."""
        for name, weight in self.spec.weights(self.width).items():
            yield (
                f"{self.path}.{name}" if self.path else name,
                weight,
                tuple(axis.size for axis in self.copies) + weight.shape,
            )


def walk(spec: Spec, width: int, path: str = "") -> Iterator[Node]:
    """Every part of the tree, parents before children, in the order of computation."""
    yield from _walk(Node(path, spec, width))


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for slot, part in node.spec.parts(node.width).items():
        copies = node.copies if part.copies is None else (*node.copies, part.copies)
        path = f"{node.path}.{slot}" if node.path else slot
        yield from _walk(Node(path, part.spec, part.width, copies, node.uses * part.uses, (*node.above, node.spec)))


def slots(width: int, **children: Spec | None) -> dict[str, Part]:
    """Parts that all work on `width`; the empty slots are left out."""
    return {name: Part(spec, width) for name, spec in children.items() if spec is not None}
