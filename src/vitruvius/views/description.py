"""What there is to say about a noun: one object from which every view takes its words.

`views/nouns/` mirrors `spec/` file by file and holds a description of each noun, registered with `describes`. The text
and the SVG drawing, the comparison, the names of layer kinds, the explorer's inspector, cards and filters all read it.
A noun that nobody has described yet is described by its class and its fields, so its trees can be seen and compared at
once.

This module knows no noun. Whoever draws or compares imports `describe` from `views.nouns`, which has them registered.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from math import isclose
from typing import Any, TypeVar, cast

from ..cost.quantity import number
from ..spec import Branch, Spec
from ..spec.registry import Registry
from .knob import Knob

Names = Mapping[str, str | tuple[str, str]]  # field -> what it is called, or (what, whose); in the order of reading


@dataclass(frozen=True)
class Callout:
    """A short phrase beside a part in a drawing, and the fields that it shows, relative to the part (none: the part
    itself). A `quiet` one appears only where it differs."""

    text: str
    fields: tuple[str, ...] = ()
    quiet: bool = False

    def within(self, slot: str) -> Callout:
        """The same for the owner that has the part in this slot."""
        return Callout(self.text, tuple(f"{slot}.{name}" for name in self.fields) or (slot,), self.quiet)

    def paths(self, part: str) -> tuple[str, ...]:
        """The full paths of its fields, of a part that stands at `part`."""
        return tuple(f"{part}.{name}" for name in self.fields) or (part,)


def callout(text: str, fields: str, quiet: bool = False) -> Callout:
    """A callout whose fields are names separated by spaces."""
    return Callout(text, tuple(fields.split()), quiet)


@dataclass(frozen=True)
class Aspect:
    """One comparable property of a part: a row of a comparison.

    Args:
        label: what it is called: "expert width", "norm eps"; empty for a place that another aspect puts into words.
            "{role}" stands for the part's role.
        value: a part, a number, a word, or None for what is not there.
        fields: where it is held, as paths below the part; a drawing highlights them.
        role: whose it is, shown where the same label means several things and only some differ: "query", "final".
        show: value -> text.
        done: of a part, the fields that its owner's aspects cover already.
        mutual: whether it is compared only where both sides have it; else a side without it has "none".
    """

    label: str
    value: Any
    fields: tuple[str, ...]
    role: str = ""
    show: Callable[[Any], str] = field(default_factory=lambda: shown)
    done: frozenset[str] = frozenset()
    mutual: bool = False


@dataclass(frozen=True)
class Inner:
    """A part whose own inset is drawn beside that of its owner: its place below the owner, and what it is there."""

    slot: str
    spec: Spec
    words: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """How a noun is drawn.

    Args:
        label: what stands in its box; the title with a capital, if empty.
        callouts: what stands beside the box; the facts, if None.
        heading: of the card that shows its inside; the label, if empty.
        inset: draws its inside on a card of its own: (Inside, width, letters, highlight) -> Region, see drawing/card.
        look: the noun without what its inset does not show: nouns of one look share an inset; None is the noun itself.
        inner: parts inside it that have insets too.
        side_by_side: the branches that it puts beside each other, if it does.
        steps: how it is drawn inside its owner's inset, as that one asks.
        frame: whether it is drawn around others, not as a box of its own.
        reference: the field that holds the number of another layer; layers that differ in nothing else are drawn once.
        pill: whether it is drawn as small as a number: a factor.
        looks_across: whether it reads what the encoder has made.
    """

    label: str = ""
    heading: str = ""
    callouts: Sequence[Callout] | None = None
    inset: Callable[..., Any] | None = None
    look: Spec | None = None
    inner: Sequence[Inner] = ()
    side_by_side: Sequence[Branch] = ()
    steps: Any = None
    frame: bool = False
    reference: str = ""
    pill: bool = False
    looks_across: bool = False


@dataclass(frozen=True, kw_only=True)
class Description:
    """All that there is to say about one noun with its values.

    Args:
        title: what it is called, without its numbers: "grouped-query attention", "window".
        short: the same where there is little room ("GQA"); the title, if empty.
        facts: what there is to say about it and those inside, in the words of a paper: "softcap 50".
        equation: what it computes, with the terms of this one only, in the letters of `vitruvius.spec`.
        names: what its fields are called in a comparison; others go by their own names.
        aspects: what is compared and is not simply a field.
        marks: what tells one kind of layer from another, the most telling first: {"mask": "window 4"}.
        tags: what sets a model apart that has it: "QK norm". The explorer filters and searches by them.
        contrasts: name -> this one's side; a model whose layers are on several sides has the name as a tag.
        filters: what the explorer filters by: {"attention": "GQA", "memory": "recurrent"}.
        figures: key figures by name: {"experts": 256}.
        knobs: what the explorer lets one change of it.
        picture: how it is drawn.
    """

    title: str
    short: str = ""
    facts: Sequence[str] = ()
    equation: str | None = None
    names: Names = field(default_factory=dict)
    aspects: Sequence[Aspect] = ()
    marks: Mapping[str, str] | None = None
    tags: Sequence[str] = ()
    contrasts: Mapping[str, str] = field(default_factory=dict)
    filters: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, int] = field(default_factory=dict)
    knobs: Sequence[Knob] = ()
    picture: Picture = Picture()


S = TypeVar("S", bound=Spec)
_DESCRIBED: Registry[type[Spec], Callable[[Any], Description]] = Registry("vitruvius.descriptions")


def describes(noun: type[S]) -> Callable[[Callable[[S], Description]], Callable[[S], Description]]:
    """Registers the function that describes a class of nouns: its name, its numbers, how it is drawn and compared."""

    def register(function: Callable[[S], Description]) -> Callable[[S], Description]:
        _DESCRIBED[noun] = function
        for cache in _CACHES:
            cache.cache_clear()
        return function

    return register


F = TypeVar("F", bound=Callable[..., Any])
_CACHES: list[Any] = []


def cached(function: F) -> F:
    """Remembers what a function has made of descriptions, until another one is registered."""
    _CACHES.append(lru_cache(4096)(function))
    return cast(F, _CACHES[-1])


@cached
def describe(spec: Spec) -> Description:
    """What there is to say about a noun; of one without a description, what its class and its fields say."""
    return (_DESCRIBED.find(type(spec)) or _generic)(spec)


def described() -> frozenset[type[Spec]]:
    """The nouns that have a description of their own."""
    return frozenset(_DESCRIBED)


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*")


def _generic(spec: Spec) -> Description:
    """The class's name, the first sentence of its docstring, and its fields."""
    cls = type(spec)
    facts = [first] if (first := first_sentence(cls)) else []
    for each in fields(spec):
        value = getattr(spec, each.name)
        if isinstance(value, Spec):
            facts.append(phrase(value))
        elif isinstance(value, tuple) and all(isinstance(item, Spec) for item in value):
            facts += [phrase(item) for item in value]
        elif value is not None and value is not False and each.compare:
            name = each.name.replace("_", " ")
            facts.append(name if value is True else f"{name} {shown(value)}")
    title = " ".join(word if word.isupper() else word.lower() for word in _WORD.findall(cls.__name__))
    return Description(title=title, facts=facts)


def about(noun: type[Spec]) -> str:
    """A class's docstring as one line without markup and arguments, "" where nobody wrote one."""
    text = inspect.cleandoc(noun.__dict__.get("__doc__") or "")
    if text.startswith(f"{noun.__name__}("):  # what dataclasses write
        return ""
    return re.sub(r"\*(\w[^*]*)\*|`([^`]+)`", r"\1\2", " ".join(re.split(r"\n\s*Args:", text)[0].split()))


def first_sentence(noun: type[Spec]) -> str:
    """The first sentence of a class's docstring, without its full stop."""
    return re.split(r"\.(?=\s+[A-Z`]|$)", about(noun))[0]


# What the views ask most


def title(spec: Spec) -> str:
    """What a part is called, without its numbers."""
    return describe(spec).title


def facts(spec: Spec) -> Sequence[str]:
    """What there is to say about a part and those inside it, in short phrases."""
    return describe(spec).facts


def phrase(spec: Spec) -> str:
    """Title and facts in one line: "RoPE theta 10,000, interleaved"."""
    return f"{title(spec)} {', '.join(facts(spec))}".strip()


def marks(spec: Spec) -> Mapping[str, str]:
    """What tells one kind of layer from another, the most telling first."""
    known = describe(spec)
    return {"": known.short or known.title} if known.marks is None else known.marks


def label(spec: Spec) -> str:
    """What stands in the box of a part."""
    return describe(spec).picture.label or capital(title(spec))


def heading(spec: Spec) -> str:
    """What stands over the card of a part's inside."""
    return describe(spec).picture.heading or label(spec)


def callouts(spec: Spec) -> Sequence[Callout]:
    """What a drawing says beside a part."""
    own = describe(spec).picture.callouts
    return [Callout(fact) for fact in facts(spec)] if own is None else own


def look(spec: Spec) -> Any:
    """A part without what its inset does not show."""
    return describe(spec).picture.look or spec


# Words


def shown(value: object) -> str:
    """A field's value as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, Spec):
        return title(value)
    if isinstance(value, tuple):
        return ", ".join(map(shown, value))
    return "none" if value is None else str(value)


def root(value: float) -> str:
    """A factor that is a whole number, the root of one, or one over either is written so: "12", "√5,376", "1/√128"."""
    if isclose(value, round(value), rel_tol=1e-9):
        return number(round(value))
    if value and isclose(1 / value, round(1 / value), rel_tol=1e-9):
        return f"1/{number(round(1 / value))}"
    square = value * value
    for whole, text in ((square, "√{}"), (1 / square if square else 0.0, "1/√{}")):
        if whole > 1.5 and isclose(whole, round(whole), rel_tol=1e-9):
            return text.format(number(round(whole)))
    return number(value)


def factor(value: float) -> str:
    """What a factor does, as it stands on a stream: "× 12", "÷ √128"."""
    text = root(value)
    return f"÷ {text[2:]}" if text.startswith("1/") else f"× {text}"


def times(factor: float, rest: str) -> str:
    """factor · rest, without a factor of one."""
    return rest if factor == 1.0 else f"{root(factor)} · {rest}"


def counted(count: int, noun: str) -> str:
    """1 head, 8 heads."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def capital(text: str) -> str:
    """The text with a capital at its start."""
    return text[:1].upper() + text[1:]
