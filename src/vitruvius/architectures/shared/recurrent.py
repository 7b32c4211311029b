"""Recurrent mixers in keys that several families share."""

from __future__ import annotations

from collections.abc import Sequence

from ...spec import Config, Convolution, GatedDeltaNet, GatedNorm, Mamba2

MEMORIES = ("float32", "bfloat16", "float16")  # dtypes in which files have a memory kept


def gated_delta_net(c: Config) -> GatedDeltaNet:
    """Gated DeltaNet in the keys of Qwen3-Next."""
    return GatedDeltaNet(
        k_heads=c.size("linear_num_key_heads"),
        v_heads=c.size("linear_num_value_heads"),
        k_dim=c.size("linear_key_head_dim"),
        v_dim=c.size("linear_value_head_dim"),
        conv=Convolution(kernel=c.size("linear_conv_kernel_dim"), act=c.activation("hidden_act")),
        norm=GatedNorm(eps=c.number("rms_norm_eps")),
        memory_dtype=None if c.raw("mamba_ssm_dtype") is None else c.choice("mamba_ssm_dtype", *MEMORIES),
    )


def bamba_mixer(c: Config, inner: int, norm: GatedNorm | None, out_bias: str, factors: Sequence[float] = ()) -> Mamba2:
    """Mamba-2 in the keys of Bamba and its kin. `inner` is its width and `out_bias` the key of the last projection's
    bias."""
    heads = c.size("mamba_n_heads")
    dim = inner // heads if c.raw("mamba_d_head") == "auto" else c.size("mamba_d_head")
    if heads * dim != inner:
        raise ValueError(f"mamba_n_heads {heads} of mamba_d_head {dim} do not make up the {inner} inner channels")
    act, bias = c.activation("hidden_act"), c.flag("mamba_conv_bias")
    return Mamba2(
        heads=heads,
        head_dim=dim,
        groups=c.size("mamba_n_groups"),
        state_dim=c.size("mamba_d_state"),
        conv=Convolution(kernel=c.size("mamba_d_conv"), act=act, bias=bias),
        norm=norm,
        in_bias=c.flag("mamba_proj_bias"),
        out_bias=c.flag(out_bias),
        dt_limit=c.limits("time_step_limit"),
        multipliers=tuple(factors) or None,
    )
