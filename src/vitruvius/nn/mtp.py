"""Twin of spec/mtp.py."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import spec
from .call import Call
from .layer import Layer
from .twin import Twin, twin


@twin(spec.MTP)
class MTP(Twin[spec.MTP]):
    """norm(layer(join([norm(embedding of the next token), norm(hidden state)])))."""

    embedding_norm: nn.Module
    hidden_norm: nn.Module
    join: nn.Linear
    layer: Layer
    final_norm: nn.Module

    def forward(self, embedded: Tensor, hidden: Tensor, call: Call) -> Tensor:
        """The next tokens' embeddings and the hidden states before them (B, T, W) -> hidden states one token ahead."""
        x = self.join(torch.cat((self.embedding_norm(embedded), self.hidden_norm(hidden)), -1))
        return self.final_norm(self.layer(x, call)[0])
