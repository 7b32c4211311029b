"""Generation's view of the torch models: the prompt in chunks, then one token at a time, with the state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from . import interim
from .interim import InterimSequence

if TYPE_CHECKING:
    from ..nn import Batch, Decoder
    from ..spec import Decoder as Spec

CHUNK = 512  # tokens of a prompt that go through the model together: enough to be fast, and memory stays bounded


class TorchRunner:
    """See `Runner`."""

    def __init__(self, model: Decoder) -> None:
        self.model = model

    @property
    def spec(self) -> Spec:
        """Its architecture."""
        return self.model.spec

    @property
    def eos(self) -> frozenset[int]:
        """The token ids that end a text."""
        return self.model.eos

    def new_state(
        self, batch: int = 1, capacity: int | None = None, slack: int = 0, encoder_capacity: int | None = None
    ) -> Batch:
        """See `nn.Decoder.new_state`."""
        return self.model.new_state(batch, capacity, slack, encoder_capacity)

    def sequence(self, capacity: int | None = None, slack: int = 0) -> InterimSequence:
        """See `Runner`."""
        return InterimSequence(self, capacity or self.spec.context, slack)

    def step(self, parts: Sequence[Any]) -> list[Any]:
        """See `Runner`."""
        return interim.step(self, parts)

    def sequence_bytes(self, capacity: int, slack: int, snapshots: int) -> int:
        """See `Runner`."""
        return interim.sequence_bytes(self, capacity, slack, snapshots)

    def feed(self, rows: Sequence[Sequence[int]], state: Any) -> NDArray[np.float32]:
        """Adds new tokens to the state of each row, a chunk at a time; only the last goes through the head."""
        logits = np.empty((len(rows), self.model.spec.head.vocab), np.float32)
        for at in range(0, max(map(len, rows)), CHUNK):
            going = [i for i, row in enumerate(rows) if at < len(row)]
            wanted = ["last" if len(rows[i]) <= at + CHUNK else "none" for i in going]
            parts = [
                (state.sequences[i], rows[i][at : at + CHUNK], want) for i, want in zip(going, wanted, strict=True)
            ]
            for i, out in zip(going, self.model.step(parts), strict=True):
                if out is not None:
                    logits[i] = out[0].float().cpu().numpy()
        return logits

    def encode(self, prompt: Sequence[int], capacity: int) -> tuple[Any, list[int]]:
        """See `Runner`."""
        import torch

        spec = self.model.spec
        start, vocab = self.model.decoder_start, spec.embedding.vocab
        if start is None or not 0 <= start < vocab:
            raise InputError(f"decoder_start_token_id says what the decoder of {spec.name} begins with, got {start}")
        sequence = InterimSequence(self, capacity, 0, len(prompt))
        with torch.inference_mode():
            self.model.encode(torch.tensor([prompt], device=self.model.head.weight.device), None, sequence.state)
        return sequence, [start]
