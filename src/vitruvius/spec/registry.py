"""What other packages add: nouns, and their twins, lowerings and descriptions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal, TypeVar

from .base import Spec

K = TypeVar("K")
V = TypeVar("V")
S = TypeVar("S", bound=type[Spec])


@dataclass(frozen=True)
class Display:
    """How a thing shows itself: as text for `print`, as HTML in a notebook."""

    text: Callable[[Any], str]
    html: Callable[[Any], str]


class Registry(dict[K, V]):
    """Things by their key, ours and those of other packages. An entry point of `group` names a module, which registers
    what it has when it is imported; that is done once, when a key is not known."""

    def __init__(self, group: str) -> None:
        super().__init__()
        self.group, self._complete = group, False

    def find(self, key: K) -> V | None:
        """What is registered, None if there is nothing. Raises ValueError for a module that cannot be imported."""
        if key not in self and not self._complete:
            for entry in metadata.entry_points(group=self.group):
                try:
                    entry.load()
                except (ImportError, AttributeError) as error:
                    raise ValueError(f"{entry.value}, which {self.group} names, cannot be imported: {error}") from None
            self._complete = True
        return self.get(key)


# how things show themselves in a notebook and in print: the modules that know are of other parts of the package
DISPLAYS: Registry[type[Any], Display] = Registry("vitruvius.displays")


def displayed(thing: Any, form: Literal["text", "html"]) -> str | None:
    """A thing as text or HTML, None where nobody knows how."""
    display = DISPLAYS.find(type(thing))
    return None if display is None else getattr(display, form)(thing)


NOUNS: Registry[str, type[Spec]] = Registry("vitruvius.nouns")


def noun(cls: S) -> S:
    """Registers a class of parts by its name, under which saved trees have it. Raises ValueError for the name of
    another one."""
    other = NOUNS.setdefault(cls.__name__, cls)
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"a noun is called {cls.__name__} already, in {other.__module__}")
    NOUNS[cls.__name__] = cls  # perhaps written anew, in a notebook
    return cls
