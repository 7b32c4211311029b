"""A loaded model behind the few calls by which one implementation is compared with another, given as `adapter:load`.

`load(folder)` returns an object that is called on token ids (B, T) and gives logits (B, T, V). Its `greedy(input_ids,
n)` gives the n most probable tokens, read through the state one token at a time from the first one on, with their
logits; `hidden_states(input_ids)` the residual stream after the embedding and after every layer, the last one normed.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

import vitruvius as vt
from vitruvius import nn


class Adapter:
    """See the module."""

    def __init__(self, model: nn.Decoder) -> None:
        self.model = model

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, decoder_input_ids: Tensor | None = None) -> Tensor:
        """(B, T) -> logits (B, T, V), of the decoder's tokens where there is an encoder."""
        given = {} if decoder_input_ids is None else {"decoder_input_ids": decoder_input_ids}
        logits: Tensor = self.model(input_ids, **given)
        return logits

    @torch.no_grad()
    def greedy(self, input_ids: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """(B, T) -> tokens (B, n), and the logits (B, n, V) that chose them."""
        state = self.model.new_state(len(input_ids), input_ids.shape[1] + n)
        for token in input_ids.split(1, 1):
            logits = self.model(token, state)
        chosen, seen = [logits.argmax(-1)], [logits]
        while len(chosen) < n:
            seen.append(self.model(chosen[-1], state))
            chosen.append(seen[-1].argmax(-1))
        return torch.cat(chosen, 1), torch.cat(seen, 1)

    def hidden_states(self, input_ids: Tensor) -> list[Tensor]:
        """(B, T) -> the residual stream (B, T, W) after each layer."""
        return self.model.hidden_states(input_ids)


def load(folder: str | Path) -> Adapter:
    """The checkpoint in `folder`, in float32."""
    return Adapter(vt.load(folder))
