"""Rotary positions, as config.json describes them in its several spellings."""

from __future__ import annotations

from collections.abc import Mapping
from math import log

from ...spec import (
    Config,
    LinearScaling,
    Llama3Scaling,
    LogTemperature,
    LongRoPE,
    Proportional,
    RoPE,
    Scaling,
    Sections,
    YaRN,
    shown,
    yarn_mscale,
)


def rope_settings(
    c: Config, layer_type: str | None = None, theta: str = "rope_theta", partial: str = "partial_rotary_factor"
) -> Config:
    """RoPE's settings in either spelling: `rope_parameters` (by layer type where a family does so) as transformers 5
    writes them, or the older `rope_theta` and `rope_scaling`. The result has `rope_theta` and `partial_rotary_factor`,
    taken from the keys `theta` and `partial` where they stand outside, and `rope_type` with its numbers where there is
    a scaling. In the older spelling of families with several layer types the scaling belongs to full attention only."""
    nested, scaling = c.raw("rope_parameters"), c.raw("rope_scaling")
    for key, value in (("rope_parameters", nested), ("rope_scaling", scaling)):
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f"{key} must be an object or null, got {shown(value)}")
    if nested is None:
        values = dict(scaling or {}) if layer_type in (None, "full_attention") else {}
    elif any(isinstance(value, Mapping) for value in nested.values()):
        values = dict(nested.get(layer_type) or {})
        values["truncate"] = nested.get("truncate")  # transformers reads it here, and only here
    else:
        values = dict(nested)
    if "type" in values:
        values.setdefault("rope_type", values.pop("type"))
    values.setdefault("rope_theta", c.raw(theta))
    values.setdefault("partial_rotary_factor", c.raw(partial))
    if values.get("rope_type") in ("longrope", "su"):
        values["max_position_embeddings"] = c.raw("max_position_embeddings")
        if (original := c.raw("original_max_position_embeddings")) is not None:
            values["original_max_position_embeddings"] = original  # which decides, where it stands outside
    if values.get("rope_type") in ("llama3", "yarn", "longrope", "su"):
        values.setdefault("original_max_position_embeddings", c.raw("max_position_embeddings"))
    return Config(values)


def scaling(settings: Config) -> Scaling | None:
    """RoPE's scaling as the settings say (transformers, modeling_rope_utils.py)."""
    kind = settings.raw("rope_type") or "default"
    if kind in ("default", "mrope"):
        return None
    if kind == "linear":
        return LinearScaling(factor=settings.number("factor"))
    if kind == "llama3":
        return Llama3Scaling(
            factor=settings.number("factor"),
            low_freq_factor=settings.number("low_freq_factor"),
            high_freq_factor=settings.number("high_freq_factor"),
            original_context=settings.size("original_max_position_embeddings"),
        )
    if kind == "yarn":
        factor = settings.number("factor")
        attention_factor = settings.number_or_none("attention_factor")
        if attention_factor is None:
            mscale, all_dim = settings.number_or_none("mscale"), settings.number_or_none("mscale_all_dim")
            attention_factor = yarn_mscale(factor)
            if mscale and all_dim:
                attention_factor = yarn_mscale(factor, mscale) / yarn_mscale(factor, all_dim)
        return YaRN(
            factor=factor,
            original_context=settings.size("original_max_position_embeddings"),
            beta_fast=settings.number_or_none("beta_fast") or 32.0,
            beta_slow=settings.number_or_none("beta_slow") or 1.0,
            attention_factor=attention_factor,
            truncate=settings.raw("truncate") is not False,
        )
    if kind in ("longrope", "su"):
        return long_rope(settings)
    if kind == "proportional":
        share, slower = settings.number_or_none("partial_rotary_factor"), settings.number_or_none("factor")
        return Proportional(share=1.0 if share is None else share, factor=1.0 if slower is None else slower)
    raise ValueError(
        f"rope_type {shown(kind)} is not supported (only default, linear, llama3, yarn, longrope, proportional)"
    )


def long_rope(settings: Config) -> LongRoPE:
    """The list of factors for the whole context, as engines choose it (vLLM, Phi3LongRoPEScaledRotaryEmbedding): the
    long one where the context is longer than the original. transformers takes the short one as long as a text is within
    the original context."""
    context, original = settings.size("max_position_embeddings"), settings.size("original_max_position_embeddings")
    factor, attention_factor = settings.number_or_none("factor"), settings.number_or_none("attention_factor")
    if attention_factor is None:
        times = context / original if factor is None else factor
        attention_factor = 1.0 if times <= 1 else (1 + log(times) / log(original)) ** 0.5
    lists = {True: settings.items("long_factor"), False: settings.items("short_factor")}
    factors = lists[context > original]
    if not all(type(value) in (int, float) for value in factors):
        raise ValueError(f"the factors of LongRoPE must be numbers, got {shown(factors)}")
    return LongRoPE(factors=tuple(map(float, factors)), original_context=original, attention_factor=attention_factor)


def rope(
    c: Config,
    dim: int,
    layer_type: str | None = None,
    theta: str = "rope_theta",
    partial: str = "partial_rotary_factor",
    interleaved: bool = False,
) -> RoPE:
    """Rotary positions over the first `partial_rotary_factor` of `dim` channels, as config.json describes them."""
    settings = rope_settings(c, layer_type, theta, partial)
    proportional = settings.raw("rope_type") == "proportional"  # over all channels, the factor says which of them turn
    share = None if proportional else settings.number_or_none("partial_rotary_factor")
    result = RoPE(
        theta=settings.number("rope_theta"),
        dim=dim if share is None else int(dim * share),
        interleaved=interleaved,
        scaling=scaling(settings),
        sections=sections(settings),
    )
    settings.ignore("mscale", "mscale_all_dim", "original_max_position_embeddings", "truncate", "finetuned")
    settings.ignore("llama_4_scaling_beta", "max_position_embeddings")  # read by `query_temperature`
    if unread := settings.unread():
        raise ValueError(f"RoPE settings hold {', '.join(unread)}, which would be ignored")
    return result


def sections(settings: Config) -> Sections | None:
    """The pairs of channels for time, height and width."""
    interleaved = settings.raw("mrope_interleaved")
    if settings.raw("mrope_section") is None:
        return None
    return Sections(sizes=tuple(settings.items("mrope_section")), interleaved=interleaved is True)


def no_rope_layers(c: Config, count: int) -> list[bool]:
    """Which layers rotate. In `no_rope_layers` a 1 means that the layer does; without it, all but every
    `no_rope_layer_interval`-th do."""
    every = c.size("no_rope_layer_interval")
    if not c.raw("no_rope_layers"):
        return [(i + 1) % every != 0 for i in range(count)]
    return [bool(item) for item in c.items("no_rope_layers", count)]


def query_temperature(c: Config) -> LogTemperature | None:
    """Ministral 3's temperature, which RoPE's settings hold as `llama_4_scaling_beta`."""
    settings = rope_settings(c)
    beta = settings.number_or_none("llama_4_scaling_beta")
    return None if not beta else LogTemperature(scale=beta, floor=settings.size("original_max_position_embeddings"))
