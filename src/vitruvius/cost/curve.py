"""Functions of the context as segments, exactly: polynomials between breaks, some of them repeating.

State, decode FLOPs and prefill FLOPs change their form where a window or a selection is full, and repeat with chunks
and pages. `fit` finds these places in the function itself, so that nothing about windows is said twice: whoever has the
segments can evaluate the figure at any context by adding and multiplying.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from ..errors import InputError

LAST = 2**27  # breaks are looked for up to this context; the last segment holds for all beyond
MOST = 64  # segments of one function

Exact = int | Fraction  # a Fraction only where an int will not do: sums of ints are many times as fast


@dataclass(frozen=True)
class Segment:
    """Σ coefficients[i] · xⁱ from context `start` on, where x = context − start.

    With `steps`, pairs of a period p and a height h, each adds h · ⌊x / p⌋, and the polynomial is of x mod the first p.
    """

    start: int
    coefficients: tuple[Exact, ...]
    steps: tuple[tuple[int, Exact], ...] = ()

    def __call__(self, context: int) -> Exact:
        """The value at a context from `start` on."""
        x = context - self.start
        value: Exact = 0
        stepped: Exact = 0
        if self.steps:
            stepped = sum(height * (x // period) for period, height in self.steps)
            x %= self.steps[0][0]
        for coefficient in reversed(self.coefficients):
            value = value * x + coefficient
        return value + stepped


@dataclass(frozen=True)
class Curve:
    """A sum of functions in segments, each a tuple of segments in order of their `start`, the first from 1 on."""

    terms: tuple[tuple[Segment, ...], ...]

    def __call__(self, context: int) -> Exact:
        """The value at a context of at least 1."""
        return sum(_at(segments, context)(context) for segments in self.terms)

    def to_list(self) -> list[dict[str, Any]]:
        """For JSON: for each term {"breaks": [start …], "coefficients": [[c₀, c₁, c₂] …]}, and where something repeats
        "steps": [[[period, height] …] …]."""
        return [_term(segments) for segments in self.terms]


def curve(functions: Iterable[tuple[Callable[[int], Exact], int]]) -> Curve:
    """The sum of functions of the context, each taken so many times."""
    plain: list[tuple[tuple[Segment, ...], int]] = []
    repeating = []
    for function, times in functions:
        segments = fit(function)
        if any(segment.steps for segment in segments):
            repeating.append(_times(segments, times))
        else:
            plain.append((segments, times))
    terms = [merged for merged in [_merged(plain)] if any(any(segment.coefficients) for segment in merged)]
    return Curve((*terms, *repeating))


def fit(function: Callable[[int], Exact], last: int = LAST) -> tuple[Segment, ...]:
    """A function of the context as segments of degree 2 at most, equal to it everywhere up to `last`.

    It is probed, not known: a segment reaches as far as it holds at doubling distances, then the break is bisected.
    """
    segments: list[Segment] = []
    start = 1
    while start <= last:
        if len(segments) == MOST:
            raise InputError(f"a cost has more than {MOST} segments as a function of the context")
        segment = _through(function, start)
        length = _length(function, segment, last)
        for _ in range(2):  # pages of 16 tokens, and pages of 32 beside them
            flat = replace(segment, steps=(*segment.steps, (length, 0)))
            again = replace(flat, steps=(*segment.steps, (length, function(start + length) - flat(start + length))))
            if (whole := _length(function, again, last)) >= 2 * length:
                segment, length = again, whole
        segments.append(segment)
        start += length
    return tuple(segments)


def _through(function: Callable[[int], Exact], start: int) -> Segment:
    a, b, c = (function(start + x) for x in range(3))
    square = _exact(Fraction(c - 2 * b + a) / 2)
    coefficients: tuple[Exact, ...] = (_exact(a), _exact(b - a - square), square)
    while len(coefficients) > 1 and not coefficients[-1]:
        coefficients = coefficients[:-1]
    return Segment(start, coefficients)


def _length(function: Callable[[int], Exact], segment: Segment, last: int) -> int:
    """How many contexts the segment holds for, from its start on."""
    return _reach(lambda x: function(segment.start + x) == segment(segment.start + x), last - segment.start) + 1


def _reach(holds: Callable[[int], bool], limit: int) -> int:
    """The largest x up to `limit` for which it holds, taken to hold from 0 to there and not beyond."""
    low, step = 0, 1
    while low + step <= limit and holds(low + step):
        low, step = low + step, 2 * step
    high = min(low + step, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _at(segments: tuple[Segment, ...], context: int) -> Segment:
    return next(segment for segment in reversed(segments) if segment.start <= context)


def _times(segments: tuple[Segment, ...], times: int) -> tuple[Segment, ...]:
    return tuple(
        Segment(p.start, tuple(c * times for c in p.coefficients), tuple((n, h * times) for n, h in p.steps))
        for p in segments
    )


def _merged(terms: list[tuple[tuple[Segment, ...], int]]) -> tuple[Segment, ...]:
    """The sum of plain segments, as segments between all of their breaks."""

    def between(start: int) -> Segment:
        held = [(_at(segments, start), times) for segments, times in terms]
        return _through(lambda context: sum(times * segment(context) for segment, times in held), start)

    return tuple(
        between(start) for start in sorted({1, *(segment.start for segments, _ in terms for segment in segments)})
    )


def _term(segments: tuple[Segment, ...]) -> dict[str, Any]:
    term: dict[str, Any] = {
        "breaks": [segment.start for segment in segments],
        "coefficients": [[_number(c) for c in segment.coefficients] for segment in segments],
    }
    if any(segment.steps for segment in segments):
        term["steps"] = [[[period, _number(height)] for period, height in segment.steps] for segment in segments]
    return term


def _exact(value: Exact) -> Exact:
    return value.numerator if value.denominator == 1 else value


def _number(value: Exact) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)
