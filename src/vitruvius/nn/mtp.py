"""Twin of spec/mtp.py."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import spec
from .call import Call
from .layer import YIELDED, Layer
from .twin import Twin, twin


@twin(spec.MTP)
class MTP(Twin[spec.MTP]):
    """norm(layer(join([norm(embedding of the next token), norm(hidden state)])))."""

    embedding_norm: nn.Module
    hidden_norm: nn.Module
    join: nn.Linear
    layer: Layer
    final_norm: nn.Module

    def forward(self, embedded: Tensor, hidden: Tensor, call: Call, yielded: dict[str, Any] | None = None) -> Tensor:
        """The tokens' embeddings and the hidden states before them (B, T, W) -> hidden states one token ahead.
        `yielded` gets what its layer yields besides."""
        x = self.join(torch.cat((self.embedding_norm(embedded), self.hidden_norm(hidden)), -1))
        x, gives = self.layer(x, call, wanted=frozenset() if yielded is None else YIELDED)
        if yielded is not None:
            yielded |= gives
        return self.final_norm(x)

    def shifted(self, hidden: Tensor, call: Call) -> Tensor:
        """Hidden states at each token (B, T, W) -> those before each, of which the first ones were kept. They are kept
        in turn."""
        parts = []
        for group, (part,) in call.split(call.groups, hidden):
            parts.append(torch.cat((group.before(self.path, "hidden")[:, None], part[:, :-1]), 1))
            group.keep(self.path, "hidden", part)
        return call.join(parts)

    def before(self, call: Call) -> Tensor:
        """The hidden states (B, 1, W) that were kept of the tokens before the pass."""
        return call.join([group.before(self.path, "hidden")[:, None] for group in call.groups])

    def keep(self, hidden: Tensor, call: Call) -> None:
        """Keeps hidden states at each token (B, T, W)."""
        for group, (part,) in call.split(call.groups, hidden):
            group.keep(self.path, "hidden", part)
