"""Taking a smaller model out of a MatFormer. Devvrit et al. 2023, arXiv 2310.07707; Gemma 3n, google-gemini/gemma-
cookbook, [Gemma_3n]MatFormer_Lab.ipynb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from .checkpoints.checkpoint import Checkpoint
from .checkpoints.matching import LoadPlan, plain
from .checkpoints.sources import config_of, described
from .errors import InputError
from .models import Origin
from .spec import Attention, LayerKeyValue, Weight, nested, walk
from .spec import Decoder as Spec

if TYPE_CHECKING:
    from torch import Tensor

    from .nn import Decoder

M = TypeVar("M", "Spec", "Decoder")


def slice(whole: M, hidden: int | Sequence[int], layers: Sequence[int] | None = None) -> M:  # noqa: A001
    """The smaller model that keeps some layers, and of each one's feed-forward layer the first hidden channels.

    Only a model that was trained for it is any good when it is cut so. Gemma 3n was: `slice(e4b, 8192, [*range(20),
    *range(25, 35)])` is E2B, and any widths between, layer by layer, are models too ("Mix-n-Match").

    Args:
        whole: an architecture, or a model with its weights; the result is of the same kind. Weights are copied.
        hidden: how many hidden channels the feed-forward layers keep: one number, or one for each layer that is kept.
        layers: the layers that are kept, in order; all, if None.

    Raises InputError where that is not a part of the model, or where a kept layer uses the keys and values of one that
    is not.
    """
    arch = whole if isinstance(whole, Spec) else whole.spec
    kept = list(range(len(arch.layers)) if layers is None else layers)
    sizes = [hidden] * len(kept) if isinstance(hidden, int) else list(hidden)
    try:
        small = nested(arch, sizes, kept)
    except ValueError as error:
        raise InputError(f"{arch.name}: {error}") from None
    origin = None if isinstance(whole, Spec) else whole.origin
    config = origin.checkpoint.config if origin else config_of(arch)
    smaller = config and _described(arch, config, small, sizes, kept)
    return small if isinstance(whole, Spec) else _model(whole, small, kept, smaller)


def _described(
    whole: Spec, config: Mapping[str, object], small: Spec, sizes: list[int], kept: list[int]
) -> Mapping[str, object] | None:
    """The config.json of the small model, if the keys of the whole one's can describe it: what is listed for each layer
    is listed for those that are kept."""
    if "tree" in config:
        return None
    text = config.get("text_config", config)
    assert isinstance(text, Mapping)
    mixers = [node.spec for node in walk(small, small.width) if isinstance(node.spec, Attention)]
    keys = {key: [value[i] for i in kept] if _listed(value, whole) else value for key, value in text.items()}
    keys |= {
        "num_hidden_layers": len(kept),
        "intermediate_size": sizes if len(set(sizes)) > 1 else sizes[0],
        "tie_word_embeddings": small.embedding.tied,
    }
    if "num_kv_shared_layers" in text:
        keys["num_kv_shared_layers"] = sum(isinstance(mixer.kv, LayerKeyValue) for mixer in mixers)
    try:
        return keys if described(keys).spec == small else None
    except InputError:
        return None


def _listed(value: object, whole: Spec) -> bool:
    return isinstance(value, list) and len(value) == len(whole.layers)


def _model(whole: Decoder, small: Spec, kept: list[int], config: Mapping[str, object] | None) -> Decoder:
    """The small model with its part of the weights."""
    from .nn.model import assign, skeleton, weights_of

    model, declared = skeleton(small), weights_of(whole.spec)
    tensors = dict(whole.named_parameters()) | dict(whole.named_buffers())
    for name, (weight, _) in weights_of(small).items():
        group, _, rest = name.partition(".")
        number, _, below = rest.partition(".")
        source = f"layers.{kept[int(number)]}.{below}" if group == "layers" else name
        assign(model, name, _part(tensors[source].detach(), declared[source][0], weight, kept))
    model.eos = whole.eos
    if whole.origin and config:
        before = whole.origin.checkpoint
        model.origin = Origin(
            Checkpoint(before.path, config, small, before.defaults), LoadPlan(plain(small), unused=())
        )
    return model.train(whole.training)


def _part(value: Tensor, whole: Weight, small: Weight, kept: list[int]) -> Tensor:
    """A copy of what the small model has of a weight: the layers it keeps, where one dimension holds them all, and the
    first channels."""
    import torch

    for dimension, (long, short) in enumerate(zip(whole.dimensions, small.dimensions, strict=True)):
        if long != short:
            (axis,) = short
            units = kept if axis.name == "layers" else range(axis.count)
            chosen = [unit * axis.unit + channel for unit in units for channel in range(axis.unit)]
            value = value.index_select(dimension, torch.tensor(chosen, device=value.device))
    return value.clone(memory_format=torch.contiguous_format)
