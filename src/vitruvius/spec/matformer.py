"""Smaller models nested in a trained one. Devvrit et al. 2023, MatFormer, arXiv 2310.07707, section 3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from .attention import LayerKeyValue
from .base import Spec
from .decoder import Decoder
from .feedforward import MLP, GatedMLP
from .layer import Branch, Layer
from .stream import PerLayerTable


def nested(decoder: Decoder, hidden: int | Sequence[int], layers: Sequence[int] | None = None) -> Decoder:
    """The smaller model that keeps some layers, and of each one's feed-forward layer the first hidden channels.

    Only a model that was trained for it is any good when it is cut so. Of Gemma 3n E4B, Google keeps 8,192 to 16,384
    channels, layer by layer ("Mix-n-Match"), and may leave layers 20 to 24 out.

    Args:
        hidden: how many hidden channels the feed-forward layers keep: one number, or one for each layer that is kept.
        layers: the layers that are kept, in order; all, if None.

    Raises ValueError where that is not a part of the model, or where a kept layer uses the
    keys and values of one that is not.
    """
    count = len(decoder.layers)
    kept = list(range(count)) if layers is None else list(layers)
    if not kept or kept != sorted(set(kept)) or not 0 <= kept[0] <= kept[-1] < count:
        raise ValueError(f"layers must be some of 0 to {count - 1}, in order, got {kept}")
    sizes = [hidden] * len(kept) if isinstance(hidden, int) else list(hidden)
    if len(sizes) != len(kept):
        raise ValueError(f"{len(sizes)} sizes of feed-forward layers are given for {len(kept)} layers")

    def renumbered(part: Spec) -> Spec:
        if isinstance(part, PerLayerTable):
            return replace(part, layers=len(kept))
        if isinstance(part, LayerKeyValue):
            if part.layer not in kept:
                raise ValueError(f"layer {part.layer} must be kept: others use its keys and values")
            return replace(part, layer=kept.index(part.layer))
        return part

    small = tuple(_narrowed(decoder.layers[i], i, size) for i, size in zip(kept, sizes, strict=True))
    named = replace(decoder, name=f"{decoder.name}, nested", layers=small)
    result = _everywhere(named, renumbered)
    assert isinstance(result, Decoder)
    return result


def _narrowed(layer: Layer, index: int, size: int) -> Layer:
    """The layer with `size` hidden channels in its feed-forward layer."""

    def narrowed(branch: Branch) -> Branch:
        body = branch.body
        if not isinstance(body, (MLP, GatedMLP)):
            return branch
        if not 0 < size <= body.dim:
            raise ValueError(f"layer {index} has {body.dim} hidden channels, of which {size} cannot be kept")
        return replace(branch, body=replace(body, dim=size))

    if not any(isinstance(branch.body, (MLP, GatedMLP)) for branch in layer.branches):
        raise ValueError(f"layer {index} has no plain feed-forward layer to take a part of")
    return replace(layer, branches=tuple(map(narrowed, layer.branches)))


def _everywhere(value: Any, change: Callable[[Spec], Spec]) -> Any:
    """The tree with every part changed, those inside first."""
    if isinstance(value, tuple):
        return tuple(_everywhere(item, change) for item in value)
    if not isinstance(value, Spec):
        return value
    return change(replace(value, **{f.name: _everywhere(getattr(value, f.name), change) for f in fields(value)}))
