"""GPT-2: pre-norm with LayerNorm, learned positions, biases everywhere.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; openai/gpt-2, src/model.py. The checkpoints
store their matrices as (in, out), and queries, keys and values as one.
"""

from __future__ import annotations

from ..spec import (
    MLP,
    Attention,
    Causal,
    Config,
    Decoder,
    Embedding,
    Family,
    Head,
    Irregular,
    KeyValue,
    Layer,
    LayerNorm,
    LearnedPositions,
    Softmax,
    Split,
    Transpose,
)
from .shared import pre_norm


def gpt2(c: Config) -> Decoder:
    width, heads, dim = c.size("n_embd"), c.size("n_head"), c.share("n_embd", "n_head")
    norm = LayerNorm(eps=c.number("layer_norm_epsilon"))
    mlp = MLP(dim=c.size_or("n_inner", 4 * width), act=c.activation("activation_function"), bias=True)
    scale = dim**-0.5 if c.flag("scale_attn_weights") else 1.0
    kv = KeyValue(heads=heads, head_dim=dim, v_dim=dim, bias=True)

    def layer(i: int) -> Layer:
        softmax = Softmax(scale=scale / (i + 1) if c.flag("scale_attn_by_inverse_layer_idx") else scale)
        mixer = Attention(heads=heads, head_dim=dim, q_bias=True, o_bias=True, kv=kv, mask=Causal(), softmax=softmax)
        return pre_norm(norm, mixer, mlp)

    return Decoder(
        name="gpt2",
        family="gpt2",
        width=width,
        context=c.size("n_positions"),
        embedding=Embedding(vocab=c.size("vocab_size"), tied=c.flag("tie_word_embeddings")),
        positions=LearnedPositions(count=c.size("n_positions")),
        layers=tuple(layer(i) for i in range(c.depth("n_layer"))),
        final_norm=norm,
        head=Head(vocab=c.size("vocab_size")),
    )


def irregular(decoder: Decoder) -> list[Irregular]:
    h, mixer, mlp = "transformer.h.*", "layers.*.mixer.body", "layers.*.mlp.body"
    qkv = (f"{mixer}.q", f"{mixer}.kv.k", f"{mixer}.kv.v")
    lines = [
        Irregular("embedding", "transformer.wte"),
        Irregular("positions", "transformer.wpe"),
        Irregular("layers.*", h),
        Irregular("layers.*.mixer.pre", f"{h}.ln_1"),
        Irregular("layers.*.mlp.pre", f"{h}.ln_2"),
        Irregular(mixer, f"{h}.attn"),
        Irregular(tuple(f"{name}.weight" for name in qkv), f"{h}.attn.c_attn.weight", (Transpose(), Split())),
        Irregular(tuple(f"{name}.bias" for name in qkv), f"{h}.attn.c_attn.bias", (Split(),)),
        Irregular("final_norm", "transformer.ln_f"),
    ]
    for ours, theirs in ((f"{mixer}.o", "attn.c_proj"), (f"{mlp}.up", "mlp.c_fc"), (f"{mlp}.down", "mlp.c_proj")):
        lines.append(Irregular(f"{ours}.weight", f"{h}.{theirs}.weight", (Transpose(),)))
        lines.append(Irregular(f"{ours}.bias", f"{h}.{theirs}.bias"))
    return lines


FAMILY = Family(
    model_types=("gpt2",),
    spec=gpt2,
    irregular=irregular,
    ignored=frozenset(
        """n_ctx reorder_and_upcast_attn summary_type summary_use_proj summary_activation summary_first_dropout
        summary_proj_to_labels""".split()
    ),
    unused=("h.*.attn.bias", "h.*.attn.masked_bias"),  # causal masks that old files stored
    bare="transformer.",
)
