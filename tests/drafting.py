"""Tiny models with layers for multi-token prediction, and what these say of a whole text."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cases
import torch
from torch import Tensor

import vitruvius as vt
from vitruvius import nn
from vitruvius.nn.call import whole_call
from vitruvius.nn.model import assign, skeleton, weights_of

# name -> (case, modules): latent attention with one module and with two, an indexer, full attention, a recurrence
# before it, windows in the modules themselves
MODELS = {
    "deepseek_v3": ("deepseek_v3_mtp", 1),
    "deepseek_v3_twice": ("deepseek_v3_half", 2),
    "deepseek_v32": ("deepseek_v32", 1),
    "glm_moe_dsa": ("glm_moe_dsa", 1),
    "glm4_moe": ("glm4_moe", 2),
    "glm4_moe_lite": ("glm4_moe_lite", 1),
    "qwen3_next": ("qwen3_next", 1),
    "mimo": ("mimo_v2_flash", 3),
}


@cache
def model_of(name: str) -> nn.Decoder:
    """A model in which everything is random."""
    case, modules = MODELS[name]
    layers = {"num_hidden_layers": 4} if case == "mimo_v2_flash" else {}
    arch = vt.architecture(cases.PLAIN[case] | layers | {"num_nextn_predict_layers": modules})
    assert len(arch.mtp) == modules
    model, generator = skeleton(arch), torch.Generator().manual_seed(1)
    for weight_name, (weight, shape) in weights_of(arch).items():
        noise = torch.randn(shape, generator=generator)
        value = 1.3 / shape[-1] ** 0.5 * noise if weight.initial is None else weight.initial + 0.3 * noise
        assign(model, weight_name, value)
    return model.eval()


def rows_of(model: nn.Decoder, k: int, ids: Tensor, before: Tensor) -> Tensor:
    """What module k makes of a text's tokens from position k + 1 on, given the hidden states before them."""
    call = replace(whole_call(model.mtp_needs[k], ids, model.dtype, start=k + 1), ids=ids)
    hidden: Tensor = model.mtp[k](model.embedding(ids, model.head.weight), before, call)
    return hidden


@torch.no_grad()
def expected(model: nn.Decoder, text: list[int], count: int) -> tuple[list[int], float]:
    """The draft after a text whose last token is only chosen, each token of it computed from the whole, and by how much
    at least each was the most probable one.

    Module k gives the token k + 1 further. After the last one, that goes on: where the hidden state before a token is
    not known, its own is in the place of it.
    """
    drafted: list[int] = []
    closest = float("inf")
    for step in range(count):
        ids = torch.tensor([text + drafted])
        hidden = model.hidden(ids[:, : len(text) - 1])
        for k in range(min(step + 1, len(model.mtp))):
            before, hidden = hidden, rows_of(model, k, ids[:, k + 1 : k + len(text)], hidden)
        while k + 1 + hidden.shape[1] < ids.shape[1]:
            before = torch.cat((before, hidden[:, -1:]), 1)
            hidden = rows_of(model, k, ids[:, k + 1 : k + 1 + before.shape[1]], before)
        first, second = model.head(hidden)[0, -1].topk(2).values.tolist()
        closest = min(closest, first - second)
        drafted.append(int(model.head(hidden)[0, -1].argmax()))
    return drafted, closest
