"""What becomes of an axis among devices: the rule of each kind, and the share of a tensor that one device holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from ..spec import Axis, Cut
from ..spec.base import Dimension
from .layout import Layout


@dataclass(frozen=True)
class Rule:
    """Of one kind of axis.

    Args:
        cut: whether tensor parallelism cuts it, a whole unit at a time.
        copied: whether units that are fewer than devices are copied, as what several heads share must be.
        even: whether engines refuse what does not come out even; else the last device has less.
    """

    cut: bool = True
    copied: bool = False
    even: bool = True


RULES: Mapping[Cut, Rule] = {
    "heads": Rule(),
    "kv_heads": Rule(copied=True),
    "groups": Rule(copied=True),
    "hidden": Rule(),
    "vocabulary": Rule(even=False),  # engines pad it
    "experts": Rule(cut=False),  # whole ones are spread instead, or what is inside them is cut
    "replicated": Rule(cut=False),
}


def parts(axis: Axis, tensor: int) -> int:
    """In how many parts `tensor` devices cut it."""
    return min(axis.count, tensor) if RULES[axis.cut].cut else 1


def fullest(axis: Axis, tensor: int) -> int:
    """Its units on the fullest of `tensor` devices."""
    return -(-axis.count // tensor) if RULES[axis.cut].cut else axis.count


@cache
def share(dimensions: tuple[Dimension, ...], tensor: int) -> Fraction:
    """How much of a tensor the fullest of `tensor` devices holds."""
    return min((share_of(dimension, tensor) for dimension in dimensions), default=Fraction(1))


def share_of(dimension: Dimension, tensor: int) -> Fraction:
    """How much of one dimension the fullest of `tensor` devices holds."""
    size = sum(axis.size for axis in dimension)
    return Fraction(sum(a.unit * fullest(a, tensor) for a in dimension), size) if size else Fraction(1)


def on_one(dimensions: tuple[Dimension, ...], copies: tuple[Axis, ...], layout: Layout) -> Fraction:
    """How much of a weight, with all its copies, the fullest device of a stage holds."""
    spread = layout.spread
    if spread is None or not any(axis.cut == "experts" for axis in copies):
        return share(dimensions, layout.tensor)
    held = Fraction(1)
    for axis in copies:
        held *= Fraction(-(-axis.count // spread), axis.count) if axis.cut == "experts" else 1
    return held


def refusal(axis: Axis, tensor: int) -> str | None:
    """Why engines refuse to cut it among `tensor` devices; None where they do not."""
    rule, count = RULES[axis.cut], axis.count
    if not rule.cut or not rule.even or count % tensor == 0:
        return None
    if rule.copied and tensor % count == 0:
        return None
    return f"{count:,} {axis.name.replace('_', ' ')} do not divide among {tensor} devices"


def copied(axis: Axis, tensor: int) -> str | None:
    """What is copied of it, where `tensor` devices are more than its units."""
    if not RULES[axis.cut].copied or axis.count >= tensor or tensor % axis.count:
        return None
    return (
        f"{axis.count} {axis.name.replace('_', ' ')} are fewer than {tensor} devices: each is on {tensor // axis.count}"
    )
