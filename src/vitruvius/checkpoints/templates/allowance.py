"""The work that a template may do, and how what it does is counted."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sized, ValuesView
from itertools import chain
from typing import Any

# Units of work, each some 0.5 µs or 256 bytes at worst: so many in any case, so many for each that reading the
# conversation takes, and at most so many. Real templates spend 100 to 400 on a message, and on a long one some eight
# times its reading; some look at each message again for each other one (Gemma 4).
ALLOWANCE, SHARE, MOST = 1_000_000, 4_000, 40_000_000
CHARACTERS, ITEMS = 64, 16  # that are copied or compared in one unit
LONGEST_TEXT = 1 << 24  # characters, of any text on the way and of the result
LARGEST_INTEGER = 4096  # bits
WIDEST = 999  # characters, of a padded field or an indentation
DEEPEST = 900  # lists in lists; Python itself goes no deeper
SCALARS = frozenset((int, float, bool, type(None)))


class TooMuchError(Exception):
    """The template asks for more than any honest one needs."""


class Allowance:
    """What is left of the work that one rendering may do, and of the text that it may write."""

    def __init__(self) -> None:
        self.left = ALLOWANCE
        self.length = 0

    def grant(self, variables: Any) -> None:
        """More for a long conversation: for each unit that reading it takes."""
        self.compared(variables)
        self.left = min(ALLOWANCE + SHARE * (ALLOWANCE - self.left), MOST)

    def spend(self, units: int) -> None:
        """Takes from the allowance."""
        self.left -= units
        if self.left < 0:
            raise TooMuchError("it needs more work than a conversation can need")

    def enter(self, units: int, characters: int) -> None:
        """A block is entered that has so many expressions and writes so many characters of its own."""
        self.spend(units)
        if characters:
            self.grow(characters)

    def grow(self, characters: int) -> None:
        """Counts what is written, be it to the result or to a macro's."""
        self.length += characters
        self.spend(characters // CHARACTERS)
        if self.length > LONGEST_TEXT:
            raise TooMuchError(f"it writes more than {LONGEST_TEXT:,} characters")

    def glanced(self, value: Any) -> Any:
        """A value is looked at, or an iterator used up item by item."""
        self.spend(1)
        return self.counted(value) if isinstance(value, Iterator) else value

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        """Items are passed on one by one."""
        for item in items or ():
            self.spend(1)
            yield item

    def copied(self, value: Any) -> Any:
        """A text or collection is gone through, but not what is inside."""
        size = len(value) // (CHARACTERS if isinstance(value, str) else ITEMS) if isinstance(value, Sized) else 0
        self.spend(1 + size)
        return value

    def compared(self, value: Any) -> Any:
        """A value is gone through to its leaves, each as often as it occurs; an iterator is used up item by item."""
        kind = type(value)
        if kind is str:
            self.spend(1 + len(value) // CHARACTERS)
        elif kind in SCALARS:
            self.spend(1)
        elif isinstance(value, Iterator):
            self.spend(1)
            return self.counted(value)
        else:
            self.leaves(value)
        return value

    def leaves(self, value: Any) -> None:
        """Spends for all that is in a value. Most of a long conversation's work is here: `type` is quick."""
        units, open_ = 0, [iter((value,))]
        while open_:
            for item in open_[-1]:
                kind = type(item)
                if kind is str:
                    units += 1 + len(item) // CHARACTERS
                elif kind in SCALARS:
                    units += 1
                elif isinstance(item, Mapping | list | tuple | set | KeysView | ItemsView | ValuesView):
                    units += 1 + len(item) // ITEMS
                    open_.append(chain(item, item.values()) if isinstance(item, Mapping) else iter(item))
                    break
                else:
                    units += 1 + (len(item) // CHARACTERS if isinstance(item, Sized) else 0)
            else:
                open_.pop()
            if units > self.left or len(open_) > DEEPEST:
                break
        self.spend(units)
        if open_:
            raise RecursionError

    def ordered(self, value: Any) -> Any:
        """The items of a value are compared with each other."""
        self.spend(4 * len(value) if isinstance(value, Sized) else 1)
        return self.compared(value)

    def searched(self, value: Any) -> Any:
        """Something is looked up in a value."""
        return value if isinstance(value, Mapping) else self.compared(value)

    def fits(self, characters: int) -> None:
        """A text of this length is about to be made."""
        if characters > LONGEST_TEXT:
            raise TooMuchError(f"it makes a text of {characters:,} characters")
        self.spend(1 + characters // CHARACTERS)
