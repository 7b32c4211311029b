"""Mamba-2: a state space in every layer and nothing else.

Dao and Gu 2024, arXiv 2405.21060; state-spaces/mamba, mamba_ssm/modules/mamba2.py. Time steps keep to `time_step_limit`
also when decoding, where transformers forgets it.
"""

from __future__ import annotations

from ..spec import Branch, Config, Convolution, Decoder, Family, GatedNorm, Irregular, Layer, Mamba2, RMSNorm
from .shared import decoder


def mamba2(c: Config) -> Decoder:
    eps, width, groups = c.number("layer_norm_epsilon"), c.size("hidden_size"), c.size("n_groups")
    norm, heads, dim = RMSNorm(eps=eps), c.size("num_heads"), c.size("head_dim")
    if int(c.number("expand") * width) != heads * dim:
        raise ValueError(
            f"expand {c.raw('expand')} times hidden_size {width} must be num_heads {heads} of head_dim {dim}"
        )
    mixer = Mamba2(
        heads=heads,
        head_dim=dim,
        groups=groups,
        state_dim=c.size("state_size"),
        conv=Convolution(kernel=c.size("conv_kernel"), act=c.activation("hidden_act"), bias=c.flag("use_conv_bias")),
        norm=GatedNorm(eps=eps, gate_first=True, groups=groups),
        in_bias=c.flag("use_bias"),
        out_bias=c.flag("use_bias"),
        dt_limit=c.limits("time_step_limit"),
    )
    layer = Layer(branches=(Branch(name="mixer", pre=norm, body=mixer),))
    return decoder(c, "mamba2", [layer] * c.depth("num_hidden_layers"), norm)


def irregular(decoder: Decoder) -> list[Irregular]:
    return [
        Irregular("embedding", "backbone.embeddings"),
        Irregular("layers.*", "backbone.layers.*"),
        Irregular("layers.*.mixer.pre", "backbone.layers.*.norm"),
        Irregular("layers.*.mixer.body", "backbone.layers.*.mixer"),
        Irregular("final_norm", "backbone.norm_f"),
    ]


FAMILY = Family(
    model_types=("mamba2",),
    spec=mamba2,
    irregular=irregular,
    ignored=frozenset(
        """chunk_size norm_before_gate rescale_prenorm_residual residual_in_fp32 rms_norm time_step_floor time_step_max
        time_step_min time_step_rank""".split()
    ),
    bare="backbone.",
)
