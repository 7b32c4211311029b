"""Layers with their norms at the usual places, which kind each layer is, and the decoder around them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from ...spec import (
    MTP,
    Attention,
    Body,
    Branch,
    Config,
    Decoder,
    Embedding,
    GatedMLP,
    Head,
    LatentAttention,
    Layer,
    Norm,
    Parallel,
    PerLayerEmbedding,
    PerLayerTable,
    RMSNorm,
    RoPE,
    YaRN,
    shown,
    walk,
)
from .experts import deepseek_moe, noaux_tc_router

OLDER = {"mamba": "linear_attention", "attention": "full_attention"}  # kinds of layers, as earlier files name them
ATTENTION = ("full_attention", "sliding_attention")


def pre_norm(norm: Norm, mixer: Body, mlp: Body, scale: float = 1.0) -> Layer:
    """x + scale · mixer(norm(x)), then so with mlp."""
    first = Branch(name="mixer", pre=norm, body=mixer, scale=scale)
    return Layer(branches=(first, Branch(name="mlp", pre=norm, body=mlp, scale=scale)))


def post_norm(norm: Norm, mixer: Body, mlp: Body) -> Layer:
    """x + norm(mixer(x)), then so with mlp (OLMo 2)."""
    return Layer(branches=(Branch(name="mixer", body=mixer, post=norm), Branch(name="mlp", body=mlp, post=norm)))


def sandwich(norm: Norm, mixer: Body, mlp: Body) -> Layer:
    """x + norm(mixer(norm(x))), then so with mlp (Gemma 2)."""
    first = Branch(name="mixer", pre=norm, body=mixer, post=norm)
    return Layer(branches=(first, Branch(name="mlp", pre=norm, body=mlp, post=norm)))


def side_by_side(mixer: Body, mlp: Body, norm: Norm, norms: Literal[1, 2] = 1) -> Layer:
    """x + mixer(norm(x)) + mlp(norm(x)), of one norm or with a norm each (GPT-J; Wang and Komatsuzaki 2021)."""
    own = norm if norms == 2 else None
    both = (Branch(name="attention", pre=own, body=mixer), Branch(name="mlp", pre=own, body=mlp))
    whole = Branch(name="mixer", pre=norm if norms == 1 else None, body=Parallel(branches=both))
    return Layer(branches=(whole,))


def decoder(
    c: Config,
    family: str,
    layers: Iterable[Layer],
    norm: Norm,
    *,
    context: int | None = None,
    embedding: Embedding | None = None,
    head: Head | None = None,
    mtp: Iterable[MTP] = (),
) -> Decoder:
    """The model around its layers, `hidden_size` wide.

    Args:
        norm: the last one.
        context: by default `max_position_embeddings`; YaRN may stretch it.
        embedding, head: by default plain ones of `vocab_size`, tied as `tie_word_embeddings` says.
    """
    layers, width = tuple(layers), c.size("hidden_size")
    return Decoder(
        name=family,
        family=family,
        width=width,
        context=max([context or c.size("max_position_embeddings"), *stretched(layers, width)]),
        embedding=embedding or Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=layers,
        final_norm=norm,
        head=head or Head(vocab=c.size("vocab_size")),
        mtp=tuple(mtp),
    )


def stretched(layers: Iterable[Layer], width: int) -> set[int]:
    """The contexts that YaRN stretches the original ones to: files that leave `max_position_embeddings` as it was are
    taken so by engines (vLLM, config/model.py)."""
    mixers = {node.spec for layer in layers for node in walk(layer, width)}
    positions = [mixer.positions for mixer in mixers if isinstance(mixer, Attention | LatentAttention)]
    scalings = [each.scaling for each in positions if isinstance(each, RoPE)]
    return {round(each.factor * each.original_context) for each in scalings if isinstance(each, YaRN)}


def per_layer_embedding(c: Config, dim: int, norm: RMSNorm) -> PerLayerEmbedding:
    """An input of `dim` channels for each layer, from a table of `vocab_size_per_layer_input` rows (Gemma 3n)."""
    rows, count = c.size("vocab_size_per_layer_input"), c.depth("num_hidden_layers")
    return PerLayerEmbedding(table=PerLayerTable(vocab=rows, layers=count, dim=dim), norm=norm)


def periodic(count: int, every: int, others: str = "sliding_attention") -> list[str]:
    """Kinds of `count` layers: full attention in the last of `every` ones, `others` before it."""
    return [others if (i + 1) % every else "full_attention" for i in range(count)]


def layer_types(
    c: Config, count: int, otherwise: Iterable[str], allowed: Sequence[str] = ATTENTION, key: str = "layer_types"
) -> list[str]:
    """`layer_types` (or what stands under `key`), or where the file leaves it out the family's own pattern."""
    items = list(otherwise) if c.raw(key) is None else c.items(key, count)
    kinds = [OLDER.get(kind, kind) if isinstance(kind, str) else kind for kind in items]
    for kind in kinds:
        if kind not in allowed:
            raise ValueError(f"{key}: {shown(kind)} is not supported (only {', '.join(allowed)})")
    return kinds


def windowed(c: Config, otherwise: Iterable[bool]) -> list[bool]:
    """Which layers have a window in Qwen's keys: none unless `use_sliding_window`, else those that `layer_types` says,
    or where the file leaves it out the family's own pattern."""
    pattern = ["sliding_attention" if sliding else "full_attention" for sliding in otherwise]
    on = c.flag("use_sliding_window")
    return [on and kind == "sliding_attention" for kind in layer_types(c, len(pattern), pattern)]


def sparse_layers(c: Config, count: int, otherwise: Iterable[bool]) -> list[bool]:
    """Which layers have experts: `mlp_layer_types`, or where the file leaves it out the family's own pattern."""
    pattern = ["sparse" if sparse else "dense" for sparse in otherwise]
    return [kind == "sparse" for kind in layer_types(c, count, pattern, ("dense", "sparse"), "mlp_layer_types")]


def deepseek_layers(
    c: Config, norm: RMSNorm, mixers: Sequence[Body], sparse: Sequence[bool]
) -> tuple[list[Layer], list[MTP]]:
    """DeepSeek V3's layers, of which the `sparse` ones have experts, and so many more for multi-token prediction, which
    have the first layer's mixer and experts."""
    c.expect("moe_layer_freq", None, 1)
    moe = deepseek_moe(c, noaux_tc_router(c), shared=c.count("n_shared_experts"))
    dense = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    layers = [pre_norm(norm, mixer, moe if each else dense) for mixer, each in zip(mixers, sparse, strict=True)]
    ahead = MTP(layer=pre_norm(norm, mixers[0], moe), norm=norm)
    return layers, [ahead] * c.count("num_nextn_predict_layers")


def sparse_after(c: Config, count: int) -> list[bool]:
    """Which layers have experts: all after the first `first_k_dense_replace`."""
    return [i >= c.count("first_k_dense_replace") for i in range(count)]


def sparse_steps(c: Config, count: int) -> list[bool]:
    """Which layers have experts in Qwen's keys: every `decoder_sparse_step`-th, but for those of `mlp_only_layers`."""
    without = [] if c.raw("mlp_only_layers") is None else c.items("mlp_only_layers")
    step = c.size("decoder_sparse_step")
    return [i not in without and (i + 1) % step == 0 for i in range(count)]


def sharing_sources(c: Config, kinds: Sequence[str]) -> list[int | None]:
    """For each layer the earlier one whose keys and values it uses, None where it has its own: the last
    `num_kv_shared_layers` use those of the last layer of their kind before them."""
    first = len(kinds) - c.count("num_kv_shared_layers")
    last = {kind: i for i, kind in enumerate(kinds[: max(first, 0)])}
    if missing := set(kinds[max(first, 0) :]) - set(last):
        raise ValueError(f"num_kv_shared_layers: no layer before the shared ones is of the kind {missing.pop()}")
    return [None if i < first else last[kind] for i, kind in enumerate(kinds)]
