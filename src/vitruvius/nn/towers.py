"""Twins of spec/towers.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .. import spec
from ..errors import InputError
from .decoder import Decoder
from .state import Batch
from .twin import Twin, twin


@twin(spec.Tower)
class Tower(Twin[spec.Tower]):
    """Its body's embeddings."""

    body: Twin[Any]

    def forward(self, inputs: Any) -> Tensor:
        """What the body takes -> (N, W), one for each placeholder."""
        return self.body(inputs).flatten(0, -2)


@twin(spec.Model)
class Model(Twin[spec.Model]):
    """A decoder and its towers."""

    decoder: Decoder

    def forward(
        self,
        input_ids: Tensor,
        inputs: Mapping[str, Any] | None = None,
        state: Batch | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, T, V) for the token after each.

        Args:
            input_ids: (B, T).
            inputs: for each tower by name what it takes, in the order of its placeholders in the text.
            state: what earlier calls have seen; it is advanced.
            positions: (A, B, T), where the tokens stand on each axis of a position.

        Raises InputError for a name that no tower has, or embeddings that are not as many as the placeholders.
        """
        return self.decoder(inputs_embeds=self.embed(input_ids, inputs or {}), state=state, positions=positions)

    def embed(self, input_ids: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """(B, T) -> (B, T, W): the tokens' own embeddings, and those of the towers in their places."""
        towers = {tower.name: tower for tower in self.spec.towers}
        if unknown := sorted(inputs.keys() - towers.keys()):
            raise InputError(f"{self.spec.name} has no tower {unknown[0]!r}, only {', '.join(towers) or 'none'}")
        x = self.decoder.embed(input_ids)
        for name, given in inputs.items():
            embeddings, places = getattr(self, name)(given).to(x.dtype), input_ids == towers[name].placeholder
            if len(embeddings) != int(places.sum()):
                raise InputError(f"{name} gives {len(embeddings)} embeddings for {int(places.sum())} tokens")
            x = torch.masked_scatter(x, places[..., None], embeddings)
        return x
