"""Switch Transformer: T5 with experts in every second feed-forward layer, one for each token.

Fedus et al. 2021, arXiv 2101.03961; T5: Raffel et al. 2019, arXiv 1910.10683; transformers, models/switch_transformers.
An encoder reads the text and a decoder writes. Scores are not scaled; positions are one table of biases for a stack,
kept by its first layer. An expert's output is multiplied by its probability, and an expert takes `expert_capacity`
tokens of a sequence in one call: those beyond it pass the layer by.
"""

from __future__ import annotations

from ..spec import (
    MLP,
    Attention,
    Branch,
    Causal,
    Config,
    Decoder,
    Embedding,
    Encoder,
    EncoderKeyValue,
    Everything,
    Family,
    GatedMLP,
    Head,
    Irregular,
    KeyValue,
    Layer,
    LayerBias,
    MoE,
    RelativeBias,
    RMSNorm,
    Router,
    Softmax,
    walk,
)


def switch_transformers(c: Config) -> Decoder:
    width, heads, dim, vocab = c.size("d_model"), c.size("num_heads"), c.size("d_kv"), c.size("vocab_size")
    tied, norm, softmax = c.flag("tie_word_embeddings"), RMSNorm(eps=c.number("layer_norm_epsilon")), Softmax(scale=1.0)
    across = EncoderKeyValue(heads=heads, head_dim=dim, v_dim=dim)
    cross = Attention(heads=heads, head_dim=dim, kv=across, sees=Everything(), softmax=softmax)
    mlp = feed_forward(c)
    moe = MoE(
        router=Router(
            experts=c.size("num_experts"), active=1, bias=c.flag("router_bias"), capacity=c.count("expert_capacity")
        ),
        expert=mlp,
    )
    c.expect("is_encoder_decoder", True)
    c.expect("router_dtype", "float32")
    c.expect("router_type", None, "tokens_masked")
    c.expect("num_selected_experts", None, 1)
    c.expect("batch_prioritized_routing", None, False)

    def layer(i: int, step: int, encodes: bool) -> Layer:
        bias = RelativeBias(
            buckets=c.size("relative_attention_num_buckets"),
            max_distance=c.size("relative_attention_max_distance"),
            bidirectional=encodes,
        )
        attention = Attention(
            heads=heads,
            head_dim=dim,
            kv=KeyValue(heads=heads, head_dim=dim, v_dim=dim),
            sees=Everything() if encodes else Causal(),
            positions=LayerBias(layer=0) if i else bias,
            softmax=softmax,
        )
        sparse = step == 1 or (step > 1 and i % step == 1)
        bodies = {"mixer": attention} | ({} if encodes else {"cross": cross}) | {"mlp": moe if sparse else mlp}
        return Layer(branches=tuple(Branch(name=name, pre=norm, body=body) for name, body in bodies.items()))

    encoders = c.depth("num_layers")
    decoders = encoders if c.raw("num_decoder_layers") is None else c.depth("num_decoder_layers")
    steps = sparse_step(c, "encoder", encoders), sparse_step(c, "decoder", decoders)
    return Decoder(
        name="switch_transformers",
        family="switch_transformers",
        width=width,
        context=c.size("n_positions"),
        embedding=Embedding(vocab=vocab, tied=tied),
        encoder=Encoder(
            embedding=Embedding(vocab=vocab, tied=tied),
            layers=tuple(layer(i, steps[0], True) for i in range(encoders)),
            final_norm=norm,
        ),
        layers=tuple(layer(i, steps[1], False) for i in range(decoders)),
        final_norm=norm,
        head=Head(vocab=vocab, scale=width**-0.5 if tied else 1.0),
    )


def feed_forward(c: Config) -> MLP | GatedMLP:
    """`dense_act_fn`, in T5's words: "gated-gelu" is a gated layer with the tanh form of GELU (T5 1.1)."""
    gated = c.raw("dense_act_fn") == "gated-gelu"
    c.expect("feed_forward_proj", None, c.raw("dense_act_fn"))
    c.expect("is_gated_act", None, gated)
    if gated:
        return GatedMLP(dim=c.size("d_ff"), act="gelu_tanh")
    return MLP(dim=c.size("d_ff"), act=c.activation("dense_act_fn"))


def sparse_step(c: Config, stack: str, layers: int) -> int:
    """Every how many layers one has experts; 0 for none. It is what the file says, or follows from their number as in
    transformers, where a number of 0 still makes layer 1 sparse."""
    sparse = c.count(f"num_sparse_{stack}_layers")
    if c.raw(f"{stack}_sparse_step") is not None:
        return c.count(f"{stack}_sparse_step")
    return layers // sparse if sparse else layers


def irregular(decoder: Decoder) -> list[Irregular]:
    gated = any(isinstance(node.spec, GatedMLP) for node in walk(decoder, decoder.width))
    mlp = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
    attention = {"q": "q", "kv.k": "k", "kv.v": "v", "o": "o", "positions": "relative_attention_bias"}
    bodies = {"mixer": ("SelfAttention", attention), "cross": ("EncDecAttention", attention), "mlp": ("mlp", mlp)}
    lines = [
        Irregular("embedding", "shared" if decoder.embedding.tied else "decoder.embed_tokens"),
        Irregular("encoder.embedding", "encoder.embed_tokens"),
        Irregular("encoder.final_norm", "encoder.final_layer_norm"),
        Irregular("final_norm", "decoder.final_layer_norm"),
    ]
    for stack, place, order in (
        ("encoder", "encoder.layers.*", ("mixer", "mlp")),
        ("decoder", "layers.*", ("mixer", "cross", "mlp")),
    ):
        for n, branch in enumerate(order):
            body, weights = bodies[branch]
            ours, theirs = f"{place}.{branch}.body", f"{stack}.block.*.layer.{n}.{body}"
            lines.append(Irregular(f"{place}.{branch}.pre", f"{stack}.block.*.layer.{n}.layer_norm"))
            lines += [Irregular(f"{ours}.{a}.weight", f"{theirs}.{b}.weight") for a, b in weights.items()]
        ours, theirs = f"{ours}.experts", f"{theirs}.experts.expert_{{}}"
        lines += [Irregular(f"{ours}.{a}.weight", f"{theirs}.{b}.weight") for a, b in mlp.items()]
        lines.append(Irregular(f"{place}.mlp.body.router", f"{stack}.block.*.layer.{len(order) - 1}.mlp.router.classifier"))
    return lines


FAMILY = Family(
    model_types=("switch_transformers",),
    spec=switch_transformers,
    irregular=irregular,
    ignored=frozenset(
        """add_router_probs dropout_rate initializer_factor output_past router_ignore_padding_tokens
        router_z_loss_coef""".split()
    ),
    # copies of `shared` where it is tied; `shared` itself where each stack has its own, and nothing reads it
    unused=("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "shared.weight"),
)
