"""What generation asks of whatever runs a model: the torch modules and the native engine answer alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..spec import Decoder


class Memory(Protocol):
    """What a runner remembers of a batch of sequences."""

    @property
    def capacity(self) -> int:
        """The most tokens that a sequence may have."""
        ...

    @property
    def recurrent(self) -> bool:
        """Whether it can only return to snapshots and to the beginning."""
        ...

    def reach(self, length: int) -> int:
        """The longest prefix, of at most `length` tokens, that every sequence can return to."""
        ...

    def rewind(self, length: int) -> None:
        """Forgets all but the first `length` tokens of every sequence, which `reach` allows."""
        ...

    def snapshot(self) -> None:
        """Keeps a copy of what is recurrent, so that `rewind` can return here."""
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

    def new_state(
        self, batch: int = 1, capacity: int | None = None, slack: int = 0, encoder_capacity: int | None = None
    ) -> Memory:
        """An empty memory: see `nn.Decoder.new_state`."""
        ...

    def feed(self, rows: Sequence[Sequence[int]], state: Any) -> NDArray[np.float32]:
        """Adds new tokens, at least one for each row, to the memory; returns the logits after the last of each, (B,
        V)."""
        ...

    def encode(self, prompts: Sequence[Sequence[int]], state: Any) -> list[list[int]]:
        """Gives the prompts to the encoder of a model that has one; returns what the decoder goes on from."""
        ...
