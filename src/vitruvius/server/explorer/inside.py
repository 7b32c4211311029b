"""What a layer believes, and what a model says without one of its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...nn import Decoder
from ...nn.feedforward import Routing
from .attention_maps import heads, routers


def logit_lens(model: Decoder, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The likeliest next token after each of T as the head would read the stream before the first layer and after each
    of the L layers, and its probability: both (L + 1, T). nostalgebraist 2020, "interpreting GPT: the logit lens"."""
    seen: list[Tensor] = []
    with torch.inference_mode():
        model.hidden(_batch(model, ids), seen=seen)
        if any(stream.dim() > 3 or stream.shape[-1] != model.spec.width for stream in seen):
            raise InputError(
                f"{model.spec.name} has several streams: there is none for the head to read between layers"
            )
        read = [
            model.read_out(model.final_norm(stream)).view(len(ids), -1).float().softmax(-1).max(-1) for stream in seen
        ]
    return torch.stack([best.indices for best in read]), torch.stack([best.values for best in read])


def without(model: Decoder, ids: Sequence[int], path: str, number: int | None) -> tuple[Tensor, Tensor]:
    """The probabilities (V) of the next token, as they are and without one part.

    Args:
        path: a layer ("layers.3"), which then hands on what it gets; an attention, whose head `number` then adds
            nothing; or a router, which then gives expert `number` no weight.
    """
    with torch.inference_mode():
        before = _next(model, ids)
        hook = _switched_off(model, path, number)
        try:
            after = _next(model, ids)
        finally:
            hook.remove()
    return before, after


def _next(model: Decoder, ids: Sequence[int]) -> Tensor:
    return model(_batch(model, ids))[0, -1].float().softmax(-1)


def _batch(model: Decoder, ids: Sequence[int]) -> Tensor:
    if model.spec.encoder:
        raise InputError(f"{model.spec.name} has an encoder: its inside cannot be shown yet")
    if model.spec.head is None:
        raise InputError(f"{model.spec.name} has no head: it says no next token")
    return torch.tensor([list(ids)], device=model.device)


def _switched_off(model: Decoder, path: str, number: int | None) -> Any:
    """The hook that does it."""
    step, _, place = path.partition(".")
    if step == "layers" and place.isdecimal() and int(place) < len(model.spec.layers):
        return model.get_submodule(path).register_forward_hook(_handed_on)
    if number is not None and number < heads(model).get(path, 0):
        output = model.get_submodule(f"{path}.o")
        return output.register_forward_pre_hook(_headless(number, heads(model)[path]))
    if number is not None and number < routers(model).get(path, (0, 0))[0]:
        return model.get_submodule(path).register_forward_hook(_unchosen(number))
    raise InputError(f"there is no part {number if number is not None else ''} at {path[:80]!r} to switch off")


def _handed_on(module: nn.Module, inputs: Any, output: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
    return inputs[0], output[1]


def _headless(head: int, count: int) -> Callable[[nn.Module, Any], Any]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        merged = inputs[0].clone()
        merged.unflatten(-1, (count, -1))[..., head, :] = 0  # a view of the copy
        return (merged, *inputs[1:])

    return hook


def _unchosen(expert: int) -> Callable[[nn.Module, Any, Routing], Routing]:
    def hook(module: nn.Module, inputs: Any, output: Routing) -> Routing:
        return output._replace(weights=output.weights.masked_fill(output.experts == expert, 0))

    return hook
