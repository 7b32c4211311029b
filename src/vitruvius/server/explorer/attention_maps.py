"""What one forward pass of a model looks like inside: attention's weights and the router's choices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...errors import InputError
from ...nn import Decoder
from ...nn.ops.choice import naive
from ...spec import walk
from ...views.nouns import describe


def heads(model: Decoder) -> dict[str, int]:
    """The path of every attention -> its number of heads."""
    return {path: found["attention heads"] for path, found in _figures(model) if "attention heads" in found}


def routers(model: Decoder) -> dict[str, tuple[int, int]]:
    """The path of every router -> (experts, chosen for a token)."""
    return {
        path: (found["experts"], found["experts per token"]) for path, found in _figures(model) if "experts" in found
    }


def _figures(model: Decoder) -> Iterator[tuple[str, Mapping[str, int]]]:
    """The key figures of the model's parts, by path."""
    for node in walk(model.spec, model.spec.width):
        yield node.path, describe(node.spec).figures


def attention_weights(model: Decoder, ids: Sequence[int], path: str, head: int) -> Tensor:
    """How much each token (T, rows) looks at each (T, columns) in one head of the attention at `path`. A row adds to
    one, or to less where a head has a sink."""
    if not 0 <= head < heads(model).get(path, 0):
        raise InputError(f"there is no head {head} at {path[:80]!r}")
    return all_heads(model, ids, path)[head]


def all_heads(model: Decoder, ids: Sequence[int], path: str) -> Tensor:
    """The same of every head of the attention at `path`: (H, T, T)."""
    if path not in heads(model):
        raise InputError(f"there is no attention at {path[:80]!r}")
    module = model.get_submodule(path)
    found = _Softmax()

    def enter(module: nn.Module, inputs: Any) -> None:
        found.watching = True

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        found.watching = False

    with naive(), found:  # the naive form writes the weights out; no other softmax is inside an attention
        _run(model, ids, module.register_forward_pre_hook(enter), module.register_forward_hook(leave))
    (weights,) = found.seen
    return weights[0, :, :, : len(ids)].float()


def router_choice(model: Decoder, ids: Sequence[int], path: str) -> tuple[Tensor, Tensor]:
    """Which experts the router at `path` chooses for each token, (T, K), and with which weights (T, K)."""
    if path not in routers(model):
        raise InputError(f"there is no router at {path[:80]!r}")
    found: list[tuple[Tensor, Tensor, Tensor]] = []

    def leave(module: nn.Module, inputs: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
        found.append(output)

    _run(model, ids, model.get_submodule(path).register_forward_hook(leave))
    ((weights, experts, _),) = found
    order = weights.argsort(-1, descending=True)
    return experts.gather(-1, order), weights.gather(-1, order)


def _run(model: Decoder, ids: Sequence[int], *hooks: Any) -> None:
    """One forward pass up to the head, after which the hooks are gone."""
    if model.spec.encoder:
        raise InputError(f"{model.spec.name} has an encoder: its inside cannot be shown yet")
    try:
        with torch.inference_mode():
            model.hidden(torch.tensor([list(ids)], device=model.device))
    finally:
        for hook in hooks:
            hook.remove()


class _Softmax(TorchFunctionMode):
    """Keeps the results of softmax while it is watching."""

    def __init__(self) -> None:
        super().__init__()
        self.watching = False
        self.seen: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.watching and func is Tensor.softmax:
            self.seen.append(result)
        return result
