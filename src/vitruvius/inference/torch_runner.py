"""The torch models as inference sees them: ids in, logits out as numpy arrays."""

from __future__ import annotations

from collections import abc
from typing import TYPE_CHECKING

from ..errors import InputError
from .runner import Logits, Wanted

if TYPE_CHECKING:
    from ..nn import Decoder, Sequence
    from ..spec import Decoder as Spec


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

    @property
    def drafts(self) -> bool:
        """Whether its layers for multi-token prediction are loaded."""
        return bool(self.spec.mtp)

    def sequence(
        self, capacity: int | None = None, slack: int = 0, *, draft: bool = False, most: int | None = None
    ) -> Sequence:
        """See `nn.Decoder.sequence`. It can grow to any size."""
        return self.model.sequence(capacity, slack, draft=draft)

    def sequence_bytes(
        self, capacity: int, slack: int, snapshots: int, *, draft: bool = False, most: int | None = None
    ) -> int:
        """See `Runner`."""
        store = self.model.store(1, capacity, slack, capacity, draft, device="meta")
        fixed = sum(tensor.nbytes for part in store.fixed.values() for tensor in part.values())
        return sum(tensor.nbytes for tensor in store.tensors) + snapshots * fixed

    def draft(self, entries: abc.Iterable[tuple[Sequence, int]], count: int) -> list[list[int]]:
        """See `nn.Decoder.draft`."""
        import torch

        with torch.inference_mode():
            return self.model.draft(entries, count)

    def step(self, parts: abc.Sequence[tuple[Sequence, abc.Sequence[int], Wanted]]) -> list[Logits | None]:
        """See `nn.Decoder.step`."""
        import torch

        with torch.inference_mode():
            return [None if out is None else out.float().cpu().numpy() for out in self.model.step(parts)]

    def encode(self, prompt: abc.Sequence[int], capacity: int) -> tuple[Sequence, list[int]]:
        """See `Runner`."""
        import torch

        spec, start = self.model.spec, self.model.decoder_start
        if start is None or not 0 <= start < spec.embedding.vocab:
            raise InputError(f"decoder_start_token_id says what the decoder of {spec.name} begins with, got {start}")
        state = self.model.new_state(1, capacity, encoder_capacity=len(prompt))
        with torch.inference_mode():
            self.model.encode(torch.tensor([prompt], device=self.model.device), state=state)
        return state.sequences[0], [start]
