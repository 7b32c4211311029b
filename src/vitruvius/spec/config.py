"""Reading a checkpoint's config.json so that nothing is guessed and nothing is overlooked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from .feedforward import Activation

DEEPEST = 4096  # more layers than this is a damaged file, not a model

# Keys that stand in any config.json and say nothing about the architecture: training and its length, tokens, generation
# and provenance.
EVERYDAY = frozenset(
    """architectures auto_map dtype torch_dtype name_or_path use_cache initializer_range attention_dropout
    hidden_dropout resid_pdrop embd_pdrop attn_pdrop output_router_logits router_aux_loss_coef router_jitter_noise
    aux_loss_alpha seq_aux ep_size pretraining_tp output_attentions output_hidden_states return_dict
    return_dict_in_generate problem_type id2label label2id num_labels is_decoder cross_attention_hidden_size
    chunk_size_feed_forward pruned_heads tie_encoder_decoder torchscript use_bfloat16 tf_legacy_loss finetuning_task
    task_specific_params prefix tokenizer_class remove_invalid_values bad_words_ids begin_suppress_tokens
    suppress_tokens do_sample early_stopping encoder_no_repeat_ngram_size no_repeat_ngram_size
    exponential_decay_length_penalty diversity_penalty length_penalty repetition_penalty max_length min_length
    num_beams num_beam_groups num_return_sequences output_scores temperature top_k top_p typical_p quantization
    quantization_config compression_config max_sequence_length seq_length unsloth_version unsloth_fixed
    cache_implementation predict_special_tokens""".split()
)
# So are numbers of tokens, what is transformers' own (a leading underscore), and what its ports add.
ALSO_EVERYDAY = re.compile(r"_|.*_token_(id|ids|index)$|transformers[._]")

DENIED = frozenset(["is_causal"])  # keys whose false says something: that tokens see later ones


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
        names = (key, *alternatives)
        for name in names:
            value = self.raw(name)
            if value is not None:
                self._read |= {other for other in names if self._values.get(other) == value}  # the same again
                return name, value
        null = "is null" if key in self._values else "is missing"
        raise ValueError(f"{key} {null}: the architecture cannot be known without it")

    def size(self, key: str, *alternatives: str) -> int:
        """A count or width: a positive integer."""
        name, value = self._required(key, alternatives)
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or not 0 < value < 2**40:
            raise ValueError(f"{name} must be a positive integer, got {shown(value)}")
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
            raise ValueError(f"{key} must be a finite number, got {shown(value)}")
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
                raise ValueError(f"{key} must be two numbers, got {shown(self.raw(key))}")
        return float(low), None if high is None else float(high)

    def flag(self, key: str, *alternatives: str) -> bool:
        name, value = self._required(key, alternatives)
        if type(value) is not bool:
            raise ValueError(f"{name} must be true or false, got {shown(value)}")
        return bool(value)

    def choice(self, key: str, *allowed: str) -> str:
        """One of `allowed`; anything else is named and refused."""
        _, value = self._required(key, ())
        if value not in allowed:
            raise ValueError(f"{key} {shown(value)} is not supported (only {', '.join(allowed)})")
        return str(value)

    def expect(self, key: str, *values: Any) -> None:
        """Refuses a setting whose meaning is not implemented, rather than computing something else."""
        value = self.raw(key)
        if value not in values:
            raise ValueError(f"{key} {shown(value)} is not supported (only {', '.join(shown(v) for v in values)})")

    def items(self, key: str, length: int | None = None) -> list[Any]:
        _, value = self._required(key, ())
        if not isinstance(value, list) or (length is not None and len(value) != length):
            wanted = "a list" if length is None else f"a list of {length}, one for each layer"
            raise ValueError(f"{key} must be {wanted}, got {shown(value)}")
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
            raise ValueError(f"per_layer_config must give layers their {' or '.join(keys)}, got {shown(own)}")
        every = {key: self.raw(key) for key in keys}
        return [Config({**every, **own.get(str(i), {})}) for i in range(len(otherwise))]

    def section(self, key: str) -> Config:
        """A nested object. Its own unread keys count as unread keys of this one."""
        _, value = self._required(key, ())
        if not isinstance(value, Mapping):
            raise ValueError(f"{key} must be an object, got {shown(value)}")
        return Config(value)

    def activation(self, key: str) -> Activation:
        return ACTIVATIONS[self.choice(key, *ACTIVATIONS)]

    def ignore(self, *keys: str) -> None:
        """Marks keys as knowingly ignored."""
        self._read.update(keys)

    def unread(self) -> list[str]:
        """The keys that nobody has read and that may say something."""
        return sorted(said(self._values) - self._read)


def said(config: Mapping[str, Any]) -> set[str]:
    """The keys of a config.json that may say something about the architecture: null, false, 0 and what is empty do
    not, but for what is `DENIED`."""
    values = {key for key, value in config.items() if value not in (None, False, 0, "", [], {})} - DENIED
    values |= {key for key in DENIED if config.get(key) is False}
    return {key for key in values - EVERYDAY if not ALSO_EVERYDAY.match(key)}


ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
}


def shown(value: Any) -> str:
    """A value as messages show it: a line of at most 60 characters."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
