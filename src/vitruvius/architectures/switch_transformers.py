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
    Softmax,
    walk,
)


def switch_transformers(c: Config) -> Decoder:
    width, heads, dim, tied = c.size("d_model"), c.size("num_heads"), c.size("d_kv"), c.flag("tie_word_embeddings")
    buckets, distance = c.size("relative_attention_num_buckets"), c.size("relative_attention_max_distance")
    experts, bias, capacity = c.size("num_experts"), c.flag("router_bias"), c.count("expert_capacity")
    norm, softmax, mlp = RMSNorm(eps=c.number("layer_norm_epsilon")), Softmax(scale=1.0), feed_forward(c)
    moe = MoE(router=Router(experts=experts, active=1, bias=bias, capacity=capacity), expert=mlp)
    own, across = KeyValue(heads=heads, head_dim=dim, v_dim=dim), EncoderKeyValue(heads=heads, head_dim=dim, v_dim=dim)
    c.expect("is_encoder_decoder", True)
    c.expect("router_dtype", "float32")
    c.expect("num_selected_experts", None, 1)

    def layer(i: int, sparse: bool, encodes: bool) -> Layer:
        table = RelativeBias(buckets=buckets, max_distance=distance, bidirectional=encodes)
        positions, mask = LayerBias(layer=0) if i else table, Everything() if encodes else Causal()
        mixer = Attention(heads=heads, head_dim=dim, kv=own, mask=mask, positions=positions, softmax=softmax)
        cross = Attention(heads=heads, head_dim=dim, kv=across, mask=Everything(), softmax=softmax)
        bodies = {"mixer": mixer} | ({} if encodes else {"cross": cross}) | {"mlp": moe if sparse else mlp}
        return Layer(branches=tuple(Branch(name=name, pre=norm, body=body) for name, body in bodies.items()))

    def stack(name: str, count: int) -> tuple[Layer, ...]:
        return tuple(layer(i, sparse, name == "encoder") for i, sparse in enumerate(sparse_layers(c, name, count)))

    encoders, embedding = c.depth("num_layers"), Embedding(vocab=c.size("vocab_size"), tied=tied)
    decoders = encoders if c.raw("num_decoder_layers") is None else c.depth("num_decoder_layers")
    return Decoder(
        name="switch_transformers",
        family="switch_transformers",
        width=width,
        context=c.size("n_positions"),
        encoder=Encoder(embedding=embedding, layers=stack("encoder", encoders), final_norm=norm),
        embedding=embedding,
        layers=stack("decoder", decoders),
        final_norm=norm,
        head=Head(vocab=embedding.vocab, scale=width**-0.5 if tied else 1.0),
    )


def feed_forward(c: Config) -> MLP | GatedMLP:
    """`dense_act_fn` in T5's words: "gated-gelu" is a gated layer with the tanh form of GELU (T5 1.1)."""
    gated = c.raw("dense_act_fn") == "gated-gelu"
    c.expect("feed_forward_proj", None, c.raw("dense_act_fn"))
    c.expect("is_gated_act", None, gated)
    if gated:
        return GatedMLP(dim=c.size("d_ff"), act="gelu_tanh")
    return MLP(dim=c.size("d_ff"), act=c.activation("dense_act_fn"))


def sparse_layers(c: Config, stack: str, count: int) -> list[bool]:
    """Layers 1, 1 + step, … have experts; none with a step of 0. A file that does not say the step gives their number,
    where 0 still makes layer 1 sparse (transformers, SwitchTransformersConfig)."""
    key, number = f"{stack}_sparse_step", f"num_sparse_{stack}_layers"
    c.ignore(number)
    step = count // max(c.count(number), 1) if c.raw(key) is None else c.count(key)
    return [step == 1 or (step > 1 and i % step == 1) for i in range(count)]


def irregular(decoder: Decoder) -> list[Irregular]:
    gated = any(isinstance(node.spec, GatedMLP) for node in walk(decoder, decoder.width))
    mlp = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
    weights = {"q": "q", "kv.k": "k", "kv.v": "v", "o": "o", "positions": "relative_attention_bias"} | mlp
    weights |= {f"experts.{ours}": f"experts.expert_{{}}.{theirs}" for ours, theirs in mlp.items()}
    names = {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in weights.items()} | {"router": "router.classifier"}
    table = "shared" if decoder.embedding.tied else "decoder.embed_tokens"
    lines = [Irregular("embedding", table), Irregular("final_norm", "decoder.final_layer_norm")]
    mixer, cross, last = ("mixer", "SelfAttention"), ("cross", "EncDecAttention"), ("mlp", "mlp")
    for stack, file, order in (("encoder.", "encoder", (mixer, last)), ("", "decoder", (mixer, cross, last))):
        for n, (branch, body) in enumerate(order):
            ours, theirs = f"{stack}layers.*.{branch}", f"{file}.block.*.layer.{n}"
            lines.append(Irregular(f"{ours}.pre", f"{theirs}.layer_norm"))
            lines += [Irregular(f"{ours}.body.{a}", f"{theirs}.{body}.{b}") for a, b in names.items()]
    return lines


FAMILY = Family(
    model_types=("switch_transformers",),
    spec=switch_transformers,
    irregular=irregular,
    ignored=frozenset(
        "add_router_probs dropout_rate initializer_factor output_past "
        "router_ignore_padding_tokens router_type router_z_loss_coef batch_prioritized_routing".split()
    ),
    # copies of `shared` where it is tied; `shared` itself where each stack has a table of its own
    unused=("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "shared.weight"),
)
