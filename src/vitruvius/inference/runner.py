"""What inference asks of whatever runs a model: the torch modules and the native engine answer alike."""

from __future__ import annotations

from collections import abc
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..spec import Decoder

Wanted = Literal["last", "all", "none"]  # of the new tokens of a sequence: whose logits are wanted
Logits = NDArray[np.float32]


class Sequence(Protocol):
    """What a model remembers of one text."""

    @property
    def capacity(self) -> int:
        """The most tokens that it may have."""
        ...

    @property
    def length(self) -> int:
        """The tokens that it has."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        ...

    @property
    def recurrent(self) -> bool:
        """Whether it can only return to snapshots and to the beginning."""
        ...

    @property
    def windowed(self) -> bool:
        """Whether layers forget what lies behind a window, so that it can only return to what is near."""
        ...

    def reach(self, length: int) -> int:
        """The longest prefix, of at most `length` tokens, that it can return to."""
        ...

    def rewind(self, length: int) -> None:
        """Forgets all but the first `length` tokens, which `reach` allows."""
        ...

    def snapshot(self) -> None:
        """Keeps a copy of what is recurrent, so that `rewind` can return here."""
        ...

    def grow(self, capacity: int) -> None:
        """Room for `capacity` tokens, where it has less."""
        ...

    def fork(self) -> Any:
        """Another sequence with the same tokens; what both share is kept once."""
        ...


@runtime_checkable
class Runner(Protocol):
    """A model with its weights, ready to read and to be asked what comes next."""

    @property
    def spec(self) -> Decoder:
        """Its architecture."""
        ...

    @property
    def eos(self) -> frozenset[int]:
        """The token ids that end a text."""
        ...

    @property
    def drafts(self) -> bool:
        """Whether it has layers for multi-token prediction that can draft."""
        ...

    def sequence(
        self, capacity: int | None = None, slack: int = 0, *, draft: bool = False, most: int | None = None
    ) -> Any:
        """An empty `Sequence` of at most `capacity` tokens (the model's context, if None); `slack` is how many tokens
        windowed layers keep beyond their window, so that `rewind` can go back that far; with `draft` the layers for
        multi-token prediction have a state too; `most` is how far `capacity` may grow (not at all, if None)."""
        ...

    def sequence_bytes(
        self, capacity: int, slack: int, snapshots: int, *, draft: bool = False, most: int | None = None
    ) -> int:
        """The most bytes that such a sequence can hold, with so many snapshots."""
        ...

    def step(self, parts: abc.Sequence[tuple[Any, abc.Sequence[int], Wanted]]) -> abc.Sequence[Logits | None]:
        """Adds new tokens to sequences of its own, any number to each; returns the logits that are wanted of each: (1,
        V) after the last of them, (T, V) after all, or None."""
        ...

    def draft(self, entries: abc.Iterable[tuple[Any, int]], count: int) -> list[list[int]]:
        """At most `count` tokens that the layers for multi-token prediction expect in each sequence (made with
        draft=True) after the given token, which comes next in it and was not stepped yet."""
        ...

    def encode(self, prompt: abc.Sequence[int], capacity: int) -> tuple[Any, list[int]]:
        """For models with an encoder: a sequence, of at most `capacity` tokens, that remembers what the encoder has
        made of the prompt, and the ids that the decoder begins with."""
        ...
