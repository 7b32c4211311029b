"""Switch Transformer: T5 with experts in every second feed-forward layer, one for each token.

Fedus et al. 2021, arXiv 2101.03961; T5: Raffel et al. 2019, arXiv 1910.10683; transformers, models/switch_transformers.
Scores are not scaled. Positions are one table of biases for each stack, kept by its first layer. An expert's output is
multiplied by its probability, and it takes `expert_capacity` tokens of a sequence in one call: the rest pass it by.
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
    Sees,
    Softmax,
    walk,
)


def switch_transformers(c: Config) -> Decoder:
    width, heads, dim, experts = c.size("d_model"), c.size("num_heads"), c.size("d_kv"), c.size("num_experts")
    norm, mlp, softmax = RMSNorm(eps=c.number("layer_norm_epsilon")), feed_forward(c), Softmax(scale=1.0)
    router = Router(experts=experts, active=1, bias=c.flag("router_bias"), capacity=c.count("expert_capacity"))
    kv, across = KeyValue(heads=heads, head_dim=dim, v_dim=dim), EncoderKeyValue(heads=heads, head_dim=dim, v_dim=dim)
    cross = Attention(heads=heads, head_dim=dim, kv=across, sees=Everything(), softmax=softmax)
    expected = {"router_dtype": "float32", "router_type": "tokens_masked", "batch_prioritized_routing": False}
    for key, value in (expected | {"num_selected_experts": 1, "is_encoder_decoder": True}).items():
        c.expect(key, None, value)

    def stack(name: str, count: int, sees: Sees, **between: Attention) -> tuple[Layer, ...]:
        buckets, distance = c.size("relative_attention_num_buckets"), c.size("relative_attention_max_distance")
        bias = RelativeBias(buckets=buckets, max_distance=distance, bidirectional=name == "encoder")
        step = sparse_step(c, name, count)

        def layer(i: int) -> Layer:
            positions = LayerBias(layer=0) if i else bias
            mixer = Attention(heads=heads, head_dim=dim, kv=kv, sees=sees, positions=positions, softmax=softmax)
            sparse = step == 1 or (step > 1 and i % step == 1)
            bodies = {"mixer": mixer, **between, "mlp": MoE(router=router, expert=mlp) if sparse else mlp}
            return Layer(branches=tuple(Branch(name=name, pre=norm, body=body) for name, body in bodies.items()))

        return tuple(layer(i) for i in range(count))

    count = c.depth("num_layers")
    tied, vocab = c.flag("tie_word_embeddings"), c.size("vocab_size")
    embedding = Embedding(vocab=vocab, tied=tied)
    return Decoder(
        name="switch_transformers",
        family="switch_transformers",
        width=width,
        context=c.size("n_positions"),
        encoder=Encoder(embedding=embedding, layers=stack("encoder", count, Everything()), final_norm=norm),
        embedding=embedding,
        layers=stack(
            "decoder",
            count if c.raw("num_decoder_layers") is None else c.depth("num_decoder_layers"),
            Causal(),
            cross=cross,
        ),
        final_norm=norm,
        head=Head(vocab=vocab, scale=width**-0.5 if tied else 1.0),
    )


def feed_forward(c: Config) -> MLP | GatedMLP:
    """`dense_act_fn` in T5's words: "gated-gelu" is a gated layer with the tanh form of GELU (T5 1.1)."""
    gated = c.raw("dense_act_fn") == "gated-gelu"
    c.expect("feed_forward_proj", None, c.raw("dense_act_fn"))
    c.expect("is_gated_act", None, gated)
    if gated:
        return GatedMLP(dim=c.size("d_ff"), act="gelu_tanh")
    return MLP(dim=c.size("d_ff"), act=c.activation("dense_act_fn"))


def sparse_step(c: Config, stack: str, layers: int) -> int:
    """Layers 1, 1 + step, … are sparse; 0 for none. Where the file does not say it, it follows from their number, of
    which 0 still makes layer 1 sparse (transformers, SwitchTransformersConfig)."""
    step, sparse = f"{stack}_sparse_step", f"num_sparse_{stack}_layers"
    if c.raw(step) is not None:
        c.ignore(sparse)
        return c.count(step)
    return layers // c.count(sparse) if c.count(sparse) else layers


def irregular(decoder: Decoder) -> list[Irregular]:
    gated = any(isinstance(node.spec, GatedMLP) for node in walk(decoder, decoder.width))
    mlp = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
    weights = {"q": "q", "kv.k": "k", "kv.v": "v", "o": "o", "positions": "relative_attention_bias"} | mlp
    weights |= {f"experts.{ours}": f"experts.expert_{{}}.{theirs}" for ours, theirs in mlp.items()}
    names = {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in weights.items()} | {"router": "router.classifier"}
    lines = [
        Irregular("embedding", "shared" if decoder.embedding.tied else "decoder.embed_tokens"),
        Irregular("encoder.embedding", "encoder.embed_tokens"),
        Irregular("encoder.final_norm", "encoder.final_layer_norm"),
        Irregular("final_norm", "decoder.final_layer_norm"),
    ]
    encoder, decoders = ("SelfAttention", "mlp"), ("SelfAttention", "EncDecAttention", "mlp")
    for place, stack, bodies in (("encoder.layers.*", "encoder", encoder), ("layers.*", "decoder", decoders)):
        for n, body in enumerate(bodies):
            branch = {"SelfAttention": "mixer", "EncDecAttention": "cross"}.get(body, body)
            ours, theirs = f"{place}.{branch}", f"{stack}.block.*.layer.{n}"
            lines.append(Irregular(f"{ours}.pre", f"{theirs}.layer_norm"))
            lines += [Irregular(f"{ours}.body.{a}", f"{theirs}.{body}.{b}") for a, b in names.items()]
    return lines


FAMILY = Family(
    model_types=("switch_transformers",),
    spec=switch_transformers,
    irregular=irregular,
    ignored=frozenset(
        """add_router_probs dropout_rate initializer_factor output_past router_ignore_padding_tokens
        router_z_loss_coef""".split()
    ),
    # copies of `shared` where it is tied; `shared` itself where each stack has a table of its own
    unused=("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "shared.weight"),
)
