"""What may be changed of a part: a number within limits, or one of a few choices, and the edits that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class TreeEdit:
    """A field below a part, "" for the part itself, and its new value; `code` is the value in Python where its repr is
    none."""

    field: str
    new: Any
    code: str = ""


@dataclass(frozen=True)
class Knob:
    """A property of a part that the explorer lets one change.

    Args:
        name: unique in the part.
        label: what it is called.
        value: what it is now, as it is written in a box, or the name of the choice.
        edits: what follows from a number, or from the name of a choice.
        choices: name -> what it is called; empty for a number.
        least, most: of a number.
    """

    name: str
    label: str
    value: str
    edits: Callable[[Any], Sequence[TreeEdit]]
    choices: Mapping[str, str] | None = None
    least: int = 1
    most: int = 1

    def read(self, text: str) -> Sequence[TreeEdit]:
        """The edits for what somebody has written. Raises InputError in one line, with what may be written."""
        if self.choices is not None:
            if text not in self.choices:
                raise InputError(f"{self.label} is {text[:40]!r}, not one of {', '.join(self.choices)}")
            return self.edits(text)
        plain = text.strip().replace(",", "")
        if not (plain.isascii() and plain.isdecimal() and len(plain) < 10 and self.least <= int(plain) <= self.most):
            raise InputError(f"{self.label} is {text[:40]!r}, not a whole number from {self.least:,} to {self.most:,}")
        return self.edits(int(plain))


def number_knob(name: str, label: str, value: int, field: str, most: int, least: int = 1) -> Knob:
    """A number that stands in one field."""
    return Knob(name, label, str(value), lambda new: [TreeEdit(field, new)], least=least, most=most)


def choice_knob(name: str, label: str, value: str, choices: Mapping[str, tuple[str, Sequence[TreeEdit]]]) -> Knob:
    """A choice: name -> what it is called, and its edits."""
    labels = {key: words for key, (words, _) in choices.items()}
    return Knob(name, label, value, lambda key: choices[key][1], choices=labels)
