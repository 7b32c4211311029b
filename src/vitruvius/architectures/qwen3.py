"""Qwen3, dense and mixture of experts: Llama's layer with a norm on every query and key head, and no biases.

Yang et al. 2025, arXiv 2505.09388, section 2. transformers windows all layers of the mixture where it windows any.
"""

from __future__ import annotations

from ..spec import (
    Attention,
    Branch,
    Config,
    Decoder,
    Embedding,
    Family,
    GatedMLP,
    Head,
    KeyValue,
    Layer,
    MoE,
    QKNorm,
    RMSNorm,
    Router,
    Softmax,
    head_dim,
    layer_types,
    rope,
    window,
)


def qwen3(c: Config) -> Decoder:
    dim, heads, bias, count = (
        head_dim(c),
        c.size("num_attention_heads"),
        c.flag("attention_bias"),
        c.depth("num_hidden_layers"),
    )
    norm = RMSNorm(eps=c.number("rms_norm_eps"))
    dense = GatedMLP(dim=c.size("intermediate_size"), act=c.activation("hidden_act"))
    sliding, experts = windowed(c, count), mixture(c, count)

    def layer(i: int) -> Layer:
        attention = Attention(
            heads=heads,
            head_dim=dim,
            q_bias=bias,
            o_bias=bias,
            q_norm=QKNorm(norm=norm),
            kv=KeyValue(
                heads=c.size_or("num_key_value_heads", heads),
                head_dim=dim,
                v_dim=dim,
                bias=bias,
                k_norm=QKNorm(norm=norm),
            ),
            mask=window(c, sliding[i]),
            positions=rope(c, dim),
            softmax=Softmax(scale=dim**-0.5),
        )
        mlp = experts[i] or dense
        return Layer(branches=(Branch(name="mixer", pre=norm, body=attention), Branch(name="mlp", pre=norm, body=mlp)))

    return Decoder(
        name="qwen3",
        family="qwen3",
        width=c.size("hidden_size"),
        context=c.size("max_position_embeddings"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        layers=tuple(layer(i) for i in range(count)),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


def windowed(c: Config, count: int) -> list[bool]:
    """Which layers are windowed: in the mixture all or none, in dense models those from `max_window_layers` on."""
    on = c.flag("use_sliding_window")
    if is_mixture(c):
        c.ignore("max_window_layers")
        return [on] * count
    first = c.count("max_window_layers") if on else count
    kinds = ["sliding_attention" if i >= first else "full_attention" for i in range(count)]
    return [on and kind == "sliding_attention" for kind in layer_types(c, count, kinds)]


def mixture(c: Config, count: int) -> list[MoE | None]:
    """The experts of each layer, None where it is dense."""
    if not is_mixture(c):
        return [None] * count
    router = Router(
        experts=c.size("num_experts", "num_local_experts"),
        active=c.size("num_experts_per_tok"),
        norm_topk_eps=0.0 if c.flag("norm_topk_prob") else None,
    )
    moe = MoE(router=router, expert=GatedMLP(dim=c.size("moe_intermediate_size"), act=c.activation("hidden_act")))
    dense, step = c.items("mlp_only_layers"), c.size("decoder_sparse_step")
    return [None if i in dense or (i + 1) % step else moe for i in range(count)]


def is_mixture(c: Config) -> bool:
    return c.raw("model_type") == "qwen3_moe"


FAMILY = Family(model_types=("qwen3", "qwen3_moe"), spec=qwen3, ignored=frozenset(("max_window_layers",)))
