"""An architecture with some of its properties changed, by the edits that `vt.replace` makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from ..errors import InputError
from ..spec import Branch, Decoder, Spec, edit
from .knob import Knob, TreeEdit
from .nouns import describe

MOST_CHANGES = 24


@dataclass(frozen=True)
class PlacedKnob:
    """A knob, and what it turns: layers, "" for the model itself, and the slot below each of them."""

    knob: Knob
    slot: str = ""
    layers: tuple[int, ...] = ()
    of: int = 0

    @property
    def key(self) -> str:
        """What it goes by in an address: "mixer.body.kv_heads", with the first layer where not all have it alike."""
        name = f"{self.slot}.{self.knob.name}" if self.slot else self.knob.name
        return name if len(self.layers) == self.of else f"{self.layers[0]}.{name}"

    def pattern(self, field: str) -> str:
        """The path pattern of a field, as `vt.replace` takes it."""
        if not self.of:
            return field
        layers = "*" if len(self.layers) == self.of else ",".join(map(str, self.layers))
        return ".".join(filter(None, ("layers", layers, self.slot, field)))


@dataclass(frozen=True)
class ChangedDecoder:
    """The result, and the lines of Python that make it from one called `arch`."""

    decoder: Decoder
    imports: tuple[str, ...]
    code: tuple[str, ...]


def knobs(arch: Decoder) -> tuple[PlacedKnob, ...]:
    """All that may be changed: of the model, then of its layers; layers that have a property alike have one knob."""
    found: dict[tuple[str, str, str, str], list[tuple[Knob, int]]] = {}
    for index, layer in enumerate(arch.layers):
        for slot, spec in _slots(layer.branches):
            for knob in describe(spec).knobs:
                found.setdefault((slot, type(spec).__name__, knob.name, knob.value), []).append((knob, index))
    placed = [
        PlacedKnob(turned[0][0], slot, tuple(index for _, index in turned), len(arch.layers))
        for (slot, *_), turned in found.items()
    ]
    return (*(PlacedKnob(knob) for knob in describe(arch).knobs), *placed)


def _slots(branches: Sequence[Branch], above: str = "") -> Iterator[tuple[str, Spec]]:
    """The branches and their bodies by their slots, those side by side too."""
    for branch in branches:
        slot = f"{above}{branch.name}"
        yield slot, branch
        if inner := describe(branch.body).picture.side_by_side:
            yield from _slots(inner, f"{slot}.body.")
        else:
            yield f"{slot}.body", branch.body


def changed(arch: Decoder, wanted: Mapping[str, str]) -> ChangedDecoder:
    """`arch` with these values: key of a knob -> what somebody has written. Fields come first, then what replaces a
    whole part, then the model's own, so that everything wanted holds. Raises InputError in one line for what is unknown
    or contradicts itself."""
    if len(wanted) > MOST_CHANGES:
        raise InputError(f"{len(wanted)} changes at once; at most {MOST_CHANGES}")
    known = {placed.key: placed for placed in knobs(arch)}
    if unknown := [key for key in wanted if key not in known]:
        raise InputError(f"there is no {unknown[0][:60]!r} to change here; there are {', '.join(known)}")
    read = {key: known[key].knob.read(text) for key, text in wanted.items()}
    result, edits, lines = arch, list[TreeEdit](), list[str]()

    def make(placed: PlacedKnob, each: TreeEdit) -> None:
        nonlocal result
        pattern = placed.pattern(each.field)
        try:
            result = edit(result, pattern, each.new)
        except ValueError as error:
            raise InputError(f"{placed.knob.label} cannot be changed so: {error}") from None
        edits.append(each)
        lines.append(f'arch = vt.replace(arch, "{pattern}", {each.code or repr(each.new)})')

    for key, some in read.items():
        for each in some:
            if known[key].of and each.field:
                make(known[key], each)
    for key, some in read.items():
        if known[key].of and any(not each.field for each in some):
            for placed, each in _whole_parts(result, known[key], wanted[key]):
                make(placed, each)
    for key, some in read.items():
        for each in some if not known[key].of else ():
            make(known[key], each)
    return ChangedDecoder(replace(result, name=f"{arch.name}, changed"), tuple(_imports(edits)), tuple(lines))


def _whole_parts(arch: Decoder, placed: PlacedKnob, text: str) -> list[tuple[PlacedKnob, TreeEdit]]:
    """The edits that replace parts as they are by now; those that are equal at once."""
    layers: dict[Spec, list[int]] = {}
    for index in placed.layers:
        layers.setdefault(dict(_slots(arch.layers[index].branches))[placed.slot], []).append(index)
    found = []
    for spec, indices in layers.items():
        knob = next(each for each in describe(spec).knobs if each.name == placed.knob.name)
        found += [(replace(placed, layers=tuple(indices)), each) for each in knob.read(text)]
    return found


def _imports(edits: Sequence[TreeEdit]) -> list[str]:
    names = {name for each in edits if not each.code for name in _nouns(each.new)}
    return [f"from vitruvius.spec import {', '.join(sorted(names))}"] if names else []


def _nouns(value: object) -> Iterator[str]:
    """The classes that the repr of a value names."""
    if isinstance(value, Spec):
        yield type(value).__name__
        for each in fields(value):
            yield from _nouns(getattr(value, each.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _nouns(item)
