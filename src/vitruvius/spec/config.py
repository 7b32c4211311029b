"""Reading a checkpoint's config.json so that nothing is guessed and nothing is overlooked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from .attention import Causal, LogTemperature, Mask, Window
from .feedforward import Activation, ExpertGroups, Router
from .norm import GatedNorm
from .position import LinearScaling, Llama3Scaling, Proportional, RoPE, Scaling, YaRN, yarn_mscale
from .recurrent import Convolution, GatedDeltaNet, Mamba2

DEEPEST = 4096  # more layers than this is a damaged file, not a model

# Keys that Hugging Face writes into any config.json and that say nothing about the architecture: training, tokens,
# generation and provenance.
EVERYDAY = frozenset(
    """architectures auto_map dtype torch_dtype transformers_version _name_or_path name_or_path use_cache
    initializer_range bos_token_id eos_token_id pad_token_id sep_token_id attention_dropout hidden_dropout
    resid_pdrop embd_pdrop attn_pdrop output_router_logits router_aux_loss_coef router_jitter_noise
    aux_loss_alpha seq_aux ep_size pretraining_tp output_attentions output_hidden_states return_dict
    return_dict_in_generate problem_type id2label label2id is_decoder cross_attention_hidden_size
    decoder_start_token_id chunk_size_feed_forward pruned_heads tie_encoder_decoder torchscript use_bfloat16
    tf_legacy_loss finetuning_task task_specific_params prefix tokenizer_class remove_invalid_values
    bad_words_ids begin_suppress_tokens suppress_tokens do_sample early_stopping encoder_no_repeat_ngram_size
    no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id
    diversity_penalty length_penalty repetition_penalty max_length min_length num_beams num_beam_groups
    num_return_sequences output_scores temperature top_k top_p typical_p quantization_config unsloth_version
    unsloth_fixed _attn_implementation""".split()
)

ABSENT = frozenset(("add_cross_attention", "is_encoder_decoder"))  # everyday keys too, as long as they are not set


class Config:
    """A config.json that remembers which of its keys were read.

    The readers raise ValueError in one line that names the key, its value and what was expected. `implicit` holds the
    defaults that transformers' configuration class fills in where the file is silent; they need not be read.
    """

    def __init__(self, values: Mapping[str, Any], implicit: Mapping[str, Any] | None = None) -> None:
        self._values = values
        self._implicit = implicit or {}
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def raw(self, key: str) -> Any:
        """The value as it stands, None where it is null or missing."""
        self._read.add(key)
        return self._values[key] if key in self._values else self._implicit.get(key)

    def _required(self, key: str, alternatives: Iterable[str]) -> tuple[str, Any]:
        for name in (key, *alternatives):
            value = self.raw(name)
            if value is not None:
                return name, value
        null = "is null" if key in self._values else "is missing"
        raise ValueError(f"{key} {null}: the architecture cannot be known without it")

    def size(self, key: str, *alternatives: str) -> int:
        """A count or width: a positive integer."""
        name, value = self._required(key, alternatives)
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or not 0 < value < 2**40:
            raise ValueError(f"{name} must be a positive integer, got {_shown(value)}")
        return int(value)

    def size_or(self, key: str, default: int) -> int:
        """A positive integer, or `default` where the key is null or missing."""
        return default if self.raw(key) is None else self.size(key)

    def depth(self, key: str) -> int:
        """A number of layers."""
        value = self.size(key)
        if value > DEEPEST:
            raise ValueError(f"{key} is {value:,}: more than {DEEPEST:,} layers cannot be right")
        return value

    def count(self, key: str) -> int:
        """An integer that may be 0."""
        _, value = self._required(key, ())
        return 0 if value == 0 and type(value) is int else self.size(key)

    def share(self, key: str, among: str) -> int:
        """The size at `key` divided evenly among the number at `among`."""
        whole, parts = self.size(key), self.size(among)
        if whole % parts:
            raise ValueError(f"{key} {whole} cannot be divided evenly among {among} {parts}")
        return whole // parts

    def number(self, key: str) -> float:
        _, value = self._required(key, ())
        if type(value) not in (int, float) or not isfinite(value):
            raise ValueError(f"{key} must be a finite number, got {_shown(value)}")
        return float(value)

    def number_or_none(self, key: str) -> float | None:
        return None if self.raw(key) is None else self.number(key)

    def limits(self, key: str) -> tuple[float, float | None]:
        """Two numbers, of which the second may be infinite (None): JSON has no word for it, so files write Infinity,
        "inf", a number beyond float32, or as transformers 5 does an object."""
        low, high = self.items(key, 2)
        if isinstance(high, Mapping):
            high = high.get("__float__")
        if high in ("Infinity", "inf", float("inf")) or (type(high) in (int, float) and high > 3e38):
            high = None
        for value in (low, 0 if high is None else high):
            if type(value) not in (int, float) or not isfinite(value):
                raise ValueError(f"{key} must be two numbers, got {_shown(self.raw(key))}")
        return float(low), None if high is None else float(high)

    def flag(self, key: str, *alternatives: str) -> bool:
        name, value = self._required(key, alternatives)
        if type(value) is not bool:
            raise ValueError(f"{name} must be true or false, got {_shown(value)}")
        return bool(value)

    def choice(self, key: str, *allowed: str) -> str:
        """One of `allowed`; anything else is named and refused."""
        _, value = self._required(key, ())
        if value not in allowed:
            raise ValueError(f"{key} {_shown(value)} is not supported (only {', '.join(allowed)})")
        return str(value)

    def expect(self, key: str, *values: Any) -> None:
        """Refuses a setting whose meaning is not implemented, rather than computing something else."""
        value = self.raw(key)
        if value not in values:
            raise ValueError(f"{key} {_shown(value)} is not supported (only {', '.join(_shown(v) for v in values)})")

    def items(self, key: str, length: int | None = None) -> list[Any]:
        _, value = self._required(key, ())
        if not isinstance(value, list) or (length is not None and len(value) != length):
            wanted = "a list" if length is None else f"a list of {length}, one for each layer"
            raise ValueError(f"{key} must be {wanted}, got {_shown(value)}")
        return value

    def each(self, key: str, length: int) -> list[Any]:
        """A list of one entry for each layer; a single value holds for all of them."""
        _, value = self._required(key, ())
        return self.items(key, length) if isinstance(value, list) else [value] * length

    def by_layer(self, otherwise: Sequence[Mapping[str, Any]], *keys: str) -> list[Config]:
        """What `keys` are in each layer: as in this config, but for what `per_layer_config` (transformers 5) says of a
        layer, or in its absence `otherwise`."""
        own = self.raw("per_layer_config")
        if own is None:
            own = {str(i): values for i, values in enumerate(otherwise)}
        given = own.values() if isinstance(own, Mapping) else [own]
        if not all(isinstance(values, Mapping) and values.keys() <= set(keys) for values in given):
            raise ValueError(f"per_layer_config must give layers their {' or '.join(keys)}, got {_shown(own)}")
        every = {key: self.raw(key) for key in keys}
        return [Config({**every, **own.get(str(i), {})}) for i in range(len(otherwise))]

    def section(self, key: str) -> Config:
        """A nested object. Its own unread keys count as unread keys of this one."""
        _, value = self._required(key, ())
        if not isinstance(value, Mapping):
            raise ValueError(f"{key} must be an object, got {_shown(value)}")
        return Config(value)

    def activation(self, key: str) -> Activation:
        return ACTIVATIONS[self.choice(key, *ACTIVATIONS)]

    def ignore(self, *keys: str) -> None:
        """Marks keys as knowingly ignored."""
        self._read.update(keys)

    def unread(self) -> list[str]:
        everyday = EVERYDAY | {key for key in ABSENT if not self._values.get(key)}
        return sorted(set(self._values) - self._read - everyday)


ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
}


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def head_dim(c: Config) -> int:
    """`head_dim`, or where the file leaves it out the width divided among the heads."""
    if c.raw("head_dim") is not None:
        return c.size("head_dim")
    return c.share("hidden_size", "num_attention_heads")


OLDER = {"mamba": "linear_attention", "attention": "full_attention"}  # kinds of layers, as earlier files name them
ATTENTION = ("full_attention", "sliding_attention")


def layer_types(
    c: Config, count: int, otherwise: Iterable[str], allowed: Sequence[str] = ATTENTION, key: str = "layer_types"
) -> list[str]:
    """`layer_types` (or what stands under `key`), or where the file leaves it out the family's own pattern."""
    given = list(otherwise) if c.raw(key) is None else c.items(key, count)
    kinds = [OLDER.get(kind, kind) if isinstance(kind, str) else kind for kind in given]
    for kind in kinds:
        if kind not in allowed:
            raise ValueError(f"{key}: {_shown(kind)} is not supported (only {', '.join(allowed)})")
    return kinds


def sharing_sources(c: Config, kinds: Sequence[str]) -> list[int | None]:
    """For each layer the earlier one whose keys and values it uses, None where it has its own: the last
    `num_kv_shared_layers` use those of the last layer of their kind before them."""
    first = len(kinds) - c.count("num_kv_shared_layers")
    last = {kind: i for i, kind in enumerate(kinds[: max(first, 0)])}
    if missing := set(kinds[max(first, 0) :]) - set(last):
        raise ValueError(f"num_kv_shared_layers: no layer before the shared ones is of the kind {missing.pop()}")
    return [None if i < first else last[kind] for i, kind in enumerate(kinds)]


def window(c: Config, sliding: bool = True) -> Mask:
    """A window of `sliding_window` keys where it is `sliding` and the key is set, else all that came before."""
    if c.raw("sliding_window") is None or not sliding:
        return Causal()
    return Window(size=c.size("sliding_window"))


def rope_settings(c: Config, layer_type: str | None = None, theta: str = "rope_theta") -> Config:
    """RoPE's settings in either spelling: `rope_parameters` (by layer type where a family does so) as transformers 5
    writes them, or the older `rope_theta` and `rope_scaling`. The result has `rope_theta`, taken from the key `theta`
    where it stands outside, and `rope_type` with its numbers where there is a scaling. In the older spelling of
    families with several layer types the scaling belongs to full attention only."""
    nested, scaling = c.raw("rope_parameters"), c.raw("rope_scaling")
    for key, value in (("rope_parameters", nested), ("rope_scaling", scaling)):
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f"{key} must be an object or null, got {_shown(value)}")
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
    values.setdefault("partial_rotary_factor", c.raw("partial_rotary_factor"))
    if values.get("rope_type") in ("llama3", "yarn"):
        values.setdefault("original_max_position_embeddings", c.raw("max_position_embeddings"))
    return Config(values)


def scaling(settings: Config) -> Scaling | None:
    """RoPE's scaling as the settings say (transformers, modeling_rope_utils.py)."""
    kind = settings.raw("rope_type") or "default"
    if kind == "default":
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
    if kind == "proportional":
        share, slower = settings.number_or_none("partial_rotary_factor"), settings.number_or_none("factor")
        return Proportional(share=1.0 if share is None else share, factor=1.0 if slower is None else slower)
    raise ValueError(f"rope_type {_shown(kind)} is not supported (only default, linear, llama3, yarn, proportional)")


def rope(
    c: Config, dim: int, layer_type: str | None = None, theta: str = "rope_theta", interleaved: bool = False
) -> RoPE:
    """Rotary positions over the first `partial_rotary_factor` of `dim` channels, as config.json describes them."""
    settings = rope_settings(c, layer_type, theta)
    proportional = settings.raw("rope_type") == "proportional"  # over all channels, the factor says which of them turn
    partial = None if proportional else settings.number_or_none("partial_rotary_factor")
    result = RoPE(
        theta=settings.number("rope_theta"),
        dim=dim if partial is None else int(dim * partial),
        interleaved=interleaved,
        scaling=scaling(settings),
    )
    settings.ignore("mrope_section", "mrope_interleaved")  # a token of text has the same position in every section
    settings.ignore("mscale", "mscale_all_dim", "original_max_position_embeddings", "truncate", "finetuned")
    settings.ignore("llama_4_scaling_beta", "max_position_embeddings")  # read by `query_temperature`
    if unread := settings.unread():
        raise ValueError(f"RoPE settings hold {', '.join(unread)}, which would be ignored")
    return result


def latent_scale(c: Config, dim: int) -> float:
    """The scale of latent attention's scores: dim^-½, times YaRN's mscale squared where the settings hold
    mscale_all_dim (deepseek-ai/DeepSeek-V3, inference/model.py)."""
    settings = rope_settings(c)
    all_dim = settings.number_or_none("mscale_all_dim")
    if not all_dim or settings.raw("rope_type") in (None, "default"):
        return dim**-0.5
    return float(dim**-0.5 * yarn_mscale(settings.number("factor"), all_dim) ** 2)


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


def noaux_tc_router(c: Config) -> Router:
    """DeepSeek V3's router, in the keys that its kin share: a sigmoid, groups by their best two, balanced by a stored
    bias (`topk_method` "noaux_tc")."""
    c.expect("scoring_func", None, "sigmoid")
    c.expect("topk_method", None, "noaux_tc")
    return Router(
        experts=c.size("num_experts" if "num_experts" in c else "n_routed_experts", "num_local_experts"),
        active=c.size("num_experts_per_tok", "num_experts_per_token"),
        score="sigmoid",
        selection_bias=True,
        groups=ExpertGroups(count=c.size("n_group", "num_expert_group"), active=c.size("topk_group"), score="top2_sum"),
        norm_topk_eps=1e-20 if c.flag("norm_topk_prob", "moe_renormalize") else None,
        scale=1.0 if c.raw("routed_scaling_factor") is None else c.number("routed_scaling_factor"),
    )


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


MEMORIES = ("float32", "bfloat16", "float16")  # dtypes in which files have a memory kept


def bamba_mixer(c: Config, inner: int, norm: GatedNorm | None, out_bias: str, factors: Sequence[float]) -> Mamba2:
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
