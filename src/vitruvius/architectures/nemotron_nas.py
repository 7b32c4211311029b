"""Llama-Nemotron and DeciLM: Llama's layers after a search for which of them attend, with how many keys and values, and
how wide each feed-forward layer is; some layers have only one of both, some neither.

Bercovich et al. 2024, arXiv 2411.19146 (Puzzle), section 2; 2025, arXiv 2505.00949 (Llama-Nemotron), section 2;
nvidia/Llama-3_3-Nemotron-Super-49B-v1, modeling_decilm.py and block_config.py.
"""

from __future__ import annotations

from ..spec import Branch, Causal, Config, Decoder, Family, GatedMLP, Layer, RMSNorm, Window
from .shared import attention, decoder, head_dim, rope

MULTIPLE = 256  # widths made from a factor are rounded up to it


def nemotron_nas(c: Config) -> Decoder:
    blocks = c.items("block_configs", c.depth("num_hidden_layers"))
    layers = [_layer(c, Config({"a block": block}).section("a block")) for block in blocks]
    return decoder(c, "nemotron-nas", layers, RMSNorm(eps=c.number("rms_norm_eps")))


def _layer(c: Config, block: Config) -> Layer:
    norm, found = RMSNorm(eps=c.number("rms_norm_eps")), []
    mixer, mlp = block.section("attention"), block.section("ffn")
    for part in (mixer, mlp):
        part.expect("replace_with_linear", None, False)
        part.expect("sparsify", None)
    if not mixer.raw("no_op"):
        mixer.expect("num_sink_tokens", None)
        heads, dim, bias = c.size("num_attention_heads"), head_dim(c), c.flag("attention_bias")
        grouped = mixer.raw("num_key_value_heads") is None
        kv_heads = heads // mixer.size("n_heads_in_group") if grouped else mixer.size("num_key_value_heads")
        mask = Causal() if mixer.raw("window_length") is None else Window(size=mixer.size("window_length"))
        body = attention(c, dim, mask=mask, positions=rope(c, dim), kv_heads=kv_heads, bias=bias, o_bias=bias)
        found.append(Branch(name="mixer", pre=norm, body=body))
    if not mlp.raw("no_op"):
        act, bias = c.activation("hidden_act"), c.flag("mlp_bias")
        found.append(Branch(name="mlp", pre=norm, body=GatedMLP(dim=_hidden(c, mlp), act=act, bias=bias)))
    if unread := [*block.unread(), *mixer.unread(), *mlp.unread()]:
        raise ValueError(f"a block holds {', '.join(unread)}, which would be ignored")
    return Layer(branches=tuple(found))


def _hidden(c: Config, mlp: Config) -> int:
    """How wide a feed-forward layer is: as it says, or ⅔ · factor · width rounded up, as Llama's own code has it."""
    if mlp.raw("intermediate_size") is not None:
        return mlp.size("intermediate_size")
    hidden = int(2 * mlp.number("ffn_mult") * c.size("hidden_size") / 3)
    return -(-hidden // MULTIPLE) * MULTIPLE


FAMILY = Family(
    model_types=("nemotron-nas",),
    spec=nemotron_nas,
    ignored=frozenset(("intermediate_size", "num_key_value_heads")),  # null, or of the model before the search
)
