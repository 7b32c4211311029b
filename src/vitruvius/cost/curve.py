"""Functions of the context as pieces, exactly: polynomials between breaks, some of them repeating.

State, decode FLOPs and prefill FLOPs change their form where a window or a selection is full, and repeat with chunks
and pages. `fit` finds these places in the function itself, so that nothing about windows is said twice: whoever has the
pieces can evaluate the figure at any context by adding and multiplying.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from ..errors import InputError

LAST = 2**27  # breaks are looked for up to this context; the last piece holds for all beyond
MOST = 64  # pieces of one function

Exact = int | Fraction  # a Fraction only where an int will not do: sums of ints are many times as fast


@dataclass(frozen=True)
class Piece:
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
    """A sum of functions in pieces, each a tuple of pieces in order of their `start`, the first from 1 on."""

    terms: tuple[tuple[Piece, ...], ...]

    def __call__(self, context: int) -> Exact:
        """The value at a context of at least 1."""
        return sum(_at(pieces, context)(context) for pieces in self.terms)

    def to_list(self) -> list[dict[str, Any]]:
        """For JSON: for each term {"breaks": [start …], "coefficients": [[c₀, c₁, c₂] …]}, and where something repeats
        "steps": [[[period, height] …] …]."""
        return [_term(pieces) for pieces in self.terms]


def curve(functions: Iterable[tuple[Callable[[int], Exact], int]]) -> Curve:
    """The sum of functions of the context, each taken so many times."""
    plain: list[tuple[tuple[Piece, ...], int]] = []
    repeating = []
    for function, times in functions:
        pieces = fit(function)
        if any(piece.steps for piece in pieces):
            repeating.append(_times(pieces, times))
        else:
            plain.append((pieces, times))
    terms = [merged for merged in [_merged(plain)] if any(any(piece.coefficients) for piece in merged)]
    return Curve((*terms, *repeating))


def fit(function: Callable[[int], Exact], last: int = LAST) -> tuple[Piece, ...]:
    """A function of the context as pieces of degree 2 at most, equal to it everywhere up to `last`.

    It is probed, not known: a piece reaches as far as it holds at doubling distances, then the break is bisected.
    """
    pieces: list[Piece] = []
    start = 1
    while start <= last:
        if len(pieces) == MOST:
            raise InputError(f"a cost has more than {MOST} pieces as a function of the context")
        piece = _through(function, start)
        length = _length(function, piece, last)
        for _ in range(2):  # pages of 16 tokens, and pages of 32 beside them
            flat = replace(piece, steps=(*piece.steps, (length, 0)))
            again = replace(flat, steps=(*piece.steps, (length, function(start + length) - flat(start + length))))
            if (whole := _length(function, again, last)) >= 2 * length:
                piece, length = again, whole
        pieces.append(piece)
        start += length
    return tuple(pieces)


def _through(function: Callable[[int], Exact], start: int) -> Piece:
    a, b, c = (function(start + x) for x in range(3))
    square = _exact(Fraction(c - 2 * b + a) / 2)
    coefficients: tuple[Exact, ...] = (_exact(a), _exact(b - a - square), square)
    while len(coefficients) > 1 and not coefficients[-1]:
        coefficients = coefficients[:-1]
    return Piece(start, coefficients)


def _length(function: Callable[[int], Exact], piece: Piece, last: int) -> int:
    """How many contexts the piece holds for, from its start on."""
    return _reach(lambda x: function(piece.start + x) == piece(piece.start + x), last - piece.start) + 1


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


def _at(pieces: tuple[Piece, ...], context: int) -> Piece:
    return next(piece for piece in reversed(pieces) if piece.start <= context)


def _times(pieces: tuple[Piece, ...], times: int) -> tuple[Piece, ...]:
    return tuple(
        Piece(p.start, tuple(c * times for c in p.coefficients), tuple((n, h * times) for n, h in p.steps))
        for p in pieces
    )


def _merged(terms: list[tuple[tuple[Piece, ...], int]]) -> tuple[Piece, ...]:
    """The sum of plain pieces, as pieces between all of their breaks."""

    def between(start: int) -> Piece:
        held = [(_at(pieces, start), times) for pieces, times in terms]
        return _through(lambda context: sum(times * piece(context) for piece, times in held), start)

    return tuple(between(start) for start in sorted({1, *(piece.start for pieces, _ in terms for piece in pieces)}))


def _term(pieces: tuple[Piece, ...]) -> dict[str, Any]:
    term: dict[str, Any] = {
        "breaks": [piece.start for piece in pieces],
        "coefficients": [[_number(c) for c in piece.coefficients] for piece in pieces],
    }
    if any(piece.steps for piece in pieces):
        term["steps"] = [[[period, _number(height)] for period, height in piece.steps] for piece in pieces]
    return term


def _exact(value: Exact) -> Exact:
    return value.numerator if value.denominator == 1 else value


def _number(value: Exact) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)
