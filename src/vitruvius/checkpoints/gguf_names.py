"""GGUF as another spelling of a Hugging Face folder: its config.json, its tensor names, and its weights with what
llama.cpp's converter did to them undone.

The facts are those of ggml-org/llama.cpp: conversion/{base,llama,qwen,gemma,olmo,smollm,mistral3}.py for the weights,
gguf-py/gguf/constants.py for the names, src/models/*.cpp for what the files leave unsaid. Two things are changed:

- Llama's query and key rows are reordered: ggml rotates neighbouring channels, transformers the halves of a head.
- Gemma's norms are stored as they multiply, 1 + w, where transformers stores w.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, UnknownKeysError
from .dequantize import dequantize
from .stored import Stored, element

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import EllipsisType

    from numpy.typing import NDArray

    from .gguf import GGUF

MOST_EXPERTS = 4096  # more than that is a damaged file


@dataclass(frozen=True, eq=False)
class Transform:
    """From a GGUF tensor to the Hugging Face one: rows picked along the first axis, then a number added.

    `rows` is a numpy index: everything, one expert, or a new order. Blocks never cross rows, so it may be applied to
    packed rows as well.
    """

    rows: EllipsisType | int | NDArray[np.intp] = ...
    add: float = 0.0

    def __call__(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """The Hugging Face tensor; a view where nothing changes."""
        picked = array[self.rows]
        return picked + np.float32(self.add) if self.add else picked


def half_rotation(rows: int, heads: int) -> NDArray[np.intp]:
    """The order that takes rows for neighbouring-channel RoPE, as ggml has them, back to half-split ones: channels
    0, 2, 4, … of each head, then 1, 3, 5, … (LlamaModel.permute, undone)."""
    return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)


class Tensors(Mapping[str, "NDArray[np.float32]"]):
    """The tensors of a GGUF file under their Hugging Face names and in that layout, unpacked to float32 on access."""

    packed: frozenset[str] = frozenset()

    def __init__(self, gguf: GGUF) -> None:
        self.path = gguf.path
        self._gguf = gguf
        self._names = names(gguf)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor."""
        return {name: self.shape(name) for name in self._names}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        source, transform = self._names[name]
        info = self._gguf.tensors[source]
        if len(info.shape) < 2 or transform.rows is ...:
            return transform(self._gguf.array(source))
        packed = np.ascontiguousarray(self._gguf.packed(source)[transform.rows])
        array = dequantize(packed.reshape(-1), info.kind).reshape(self.shape(name))
        return Transform(add=transform.add)(array)

    def stored(self, name: str) -> Stored:
        """A tensor in the blocks that it has on disk; what must be changed, and not only moved, is in float32."""
        source, transform = self._names[name]
        info = self._gguf.tensors[source]
        if transform.add:
            return Stored("F32", self[name])
        array = self._gguf.packed(source).view(element(info.kind))
        return Stored(info.kind, array.reshape(*info.shape[:-1], -1)[transform.rows])

    def kind(self, name: str) -> str:
        """The kind of what `stored` gives."""
        source, transform = self._names[name]
        return "F32" if transform.add else self._gguf.tensors[source].kind

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        source, transform = self._names[name]
        shape = self._gguf.tensors[source].shape
        return shape[1:] if isinstance(transform.rows, int) else shape


def tensors(gguf: GGUF) -> Tensors:
    """The tensors of `gguf` as a mapping from Hugging Face name to float32 array; each is unpacked on access."""
    return Tensors(gguf)


def names(gguf: GGUF) -> dict[str, tuple[str, Transform]]:
    """Hugging Face name → (GGUF name, what to do to it).

    Raises:
        InputError: the architecture is not supported, or the file holds tensors that it does not have.
    """
    spelling = _spelling(gguf)
    meta = Metadata(gguf)
    result: dict[str, tuple[str, Transform]] = {}
    unknown = []
    for name in gguf.tensors:
        if DERIVED.fullmatch(name):
            continue
        found = _named(spelling, meta, name)
        if not found or found.keys() & result.keys():
            unknown.append(name)
        result.update(found)
    if unknown:
        shown = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
        raise InputError(f"{gguf.path}: {len(unknown)} tensors that {meta.architecture} does not have: {shown}")
    return result


# RoPE tables, which follow from config.json (`rope_freqs` is read by `llama3_scaling`)
DERIVED = re.compile(r"rope_freqs\.weight|blk\.\d+\.attn_rot_embd(\.weight)?")
PART = re.compile(r"(?:blk\.(?P<layer>\d{1,6})\.)?(?P<part>\w+?)(?:\.(?P<expert>\d{1,4}))?\.(?P<leaf>weight|bias)")


def _named(spelling: Spelling, meta: Metadata, name: str) -> dict[str, tuple[str, Transform]]:
    """What one GGUF tensor is called in a folder: nothing where it has no place, several names for stacked experts."""
    match = PART.fullmatch(name)
    if match is None:
        return {}
    layer, part, expert, leaf = match["layer"], match["part"], match["expert"], match["leaf"]
    there = OUTSIDE.get(part) if layer is None else spelling.layer.get(part)
    if layer is not None and expert is not None:  # one expert by itself, as the first Mixtral files had them
        there = spelling.layer.get(f"{part}_exps", "").replace("{}", str(int(expert)))
    if not there or (expert is not None and layer is None):
        return {}
    prefix = "" if layer is None else f"model.layers.{int(layer)}."
    target = f"{prefix}{there}.{leaf}"
    shape = meta.gguf.tensors[name].shape
    if "{}" in there:
        count = meta.whole("expert_count")
        if len(shape) != 3 or shape[0] != count:
            raise InputError(f"{meta.gguf.path}: tensor {name!r} has the shape {shape}, not one of {count} experts")
        return {target.format(i): (name, Transform(rows=i)) for i in range(count)}
    if part in spelling.rotated:
        heads = meta.whole(spelling.rotated[part])
        if not shape or shape[0] % (2 * heads):
            raise InputError(f"{meta.gguf.path}: tensor {name!r} has the shape {shape}, not rows for {heads} heads")
        return {target: (name, Transform(rows=half_rotation(shape[0], heads)))}
    return {target: (name, Transform(add=-spelling.norm_offset if part.endswith("norm") else 0.0))}


def config(gguf: GGUF, ignored: Collection[str] = ()) -> dict[str, Any]:
    """The config.json that a Hugging Face folder of this model would have, as transformers 5 writes it.

    Args:
        gguf: an open file.
        ignored: metadata keys that may go unread.

    Raises:
        InputError: the architecture is not supported, or a key is missing, impossible, or would be ignored.
    """
    spelling = _spelling(gguf)
    meta = Metadata(gguf)
    result = spelling.config(meta)
    for key in ("bos", "eos"):
        if (token := gguf.metadata.get(f"tokenizer.ggml.{key}_token_id")) is not None:
            result[f"{key}_token_id"] = token
    if unread := sorted(meta.unread() - set(ignored)):
        raise UnknownKeysError(
            f"{gguf.path}: {', '.join(unread)} would be ignored; allow that with --ignore-key", unread
        )
    return result


class Metadata:
    """The metadata of one file's architecture, remembering what was read. Keys go without the architecture's name."""

    def __init__(self, gguf: GGUF) -> None:
        self.gguf = gguf
        self.architecture = str(gguf.metadata.get("general.architecture"))
        self._read = {f"{self.architecture}.{key}" for key in HARMLESS}

    def __contains__(self, key: str) -> bool:
        return f"{self.architecture}.{key}" in self.gguf.metadata

    def get(self, key: str, default: object = None) -> Any:
        """The value of a key, or `default` where the file does not have it."""
        full = f"{self.architecture}.{key}"
        self._read.add(full)
        return self.gguf.metadata.get(full, default)

    def _required(self, key: str, default: object) -> Any:
        value = self.get(key, default)
        if value is None:
            raise InputError(f"{self.gguf.path}: {self.architecture}.{key} is missing; convert the model again")
        return value

    def refuse(self, key: str, value: object, wanted: str) -> InputError:
        """The error to raise about the value of a key."""
        return InputError(f"{self.gguf.path}: {self.architecture}.{key} is {repr(value)[:60]}, not {wanted}")

    def whole(self, key: str, default: int | None = None) -> int:
        """A positive integer; a list of equal ones, one for each layer, counts as one."""
        value = self._required(key, default)
        if isinstance(value, list) and len(set(map(str, value))) == 1:
            value = value[0]
        if type(value) is not int or value <= 0:
            raise self.refuse(key, value, "a positive integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A float32 as the shortest decimal that gives it: the number that was in config.json."""
        value = self._required(key, default)
        if type(value) not in (int, float) or not np.isfinite(value):
            raise self.refuse(key, value, "a number")
        return float(str(np.float32(value)))

    def layers(self) -> int:
        """The number of layers; each has some tensors, so there are fewer of them than tensors."""
        count = self.whole("block_count")
        if count > len(self.gguf.tensors):
            raise self.refuse("block_count", count, f"that of a file with {len(self.gguf.tensors)} tensors")
        return count

    def unread(self) -> set[str]:
        """Keys of the architecture that nobody has asked for."""
        return {key for key in self.gguf.metadata if key.startswith(f"{self.architecture}.")} - self._read


# What changes nothing: the embedding gives the vocabulary, the layout is the same for all, and provenance.
HARMLESS = ("vocab_size", "tensor_data_layout", "rope.scaling.finetuned")


def common(meta: Metadata) -> dict[str, Any]:
    """The keys of config.json that all families have, RoPE apart."""
    embedding = meta.gguf.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise InputError(f"{meta.gguf.path}: no matrix token_embd.weight; the file does not hold a language model")
    width, heads = meta.whole("embedding_length"), meta.whole("attention.head_count")
    dim = meta.whole("attention.key_length", width // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if (value := meta.whole(key, dim)) != dim:
            raise meta.refuse(key, value, f"the head dimension {dim}, which is all that is supported")
    if meta.get("attention.causal", True) is not True:
        raise meta.refuse("attention.causal", False, "true: this is not a decoder")
    return {
        "vocab_size": embedding.shape[0],
        "hidden_size": width,
        "num_hidden_layers": meta.layers(),
        "num_attention_heads": heads,
        "num_key_value_heads": meta.whole("attention.head_count_kv", heads),
        "head_dim": dim,
        "max_position_embeddings": meta.whole("context_length"),
        "rms_norm_eps": meta.number("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "output.weight" not in meta.gguf.tensors,
    }


def rope(meta: Metadata, dim: int, theta: float = 10_000.0) -> dict[str, Any]:
    """`rope_parameters` of config.json; `theta` where the file is silent, as in llama.cpp."""
    theta = meta.number("rope.freq_base", theta)
    kind = meta.get("rope.scaling.type", "none")
    derived = llama3_scaling(meta, dim, theta)
    if kind != "none" and derived:
        raise meta.refuse("rope.scaling.type", kind, "possible together with rope_freqs.weight")
    if kind == "none":
        linear = meta.number("rope.scale_linear", 1.0)  # how the first files said it
        scaling = derived or ({"rope_type": "linear", "factor": linear} if linear != 1 else {"rope_type": "default"})
    elif kind == "linear":
        scaling = {"rope_type": kind, "factor": meta.number("rope.scaling.factor")}
    elif kind == "yarn":
        scaling = {
            "rope_type": kind,
            "factor": meta.number("rope.scaling.factor"),
            "original_max_position_embeddings": meta.whole("rope.scaling.original_context_length"),
        }
        for key, name in YARN.items():
            if f"rope.scaling.{key}" in meta:
                scaling[name] = meta.number(f"rope.scaling.{key}")
    else:
        raise meta.refuse("rope.scaling.type", kind, "none, linear or yarn, which is all that is supported")
    return {"rope_theta": theta, **scaling}


YARN = {"yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow", "yarn_attn_factor": "attention_factor"}


def llama3_scaling(meta: Metadata, dim: int, theta: float) -> dict[str, Any]:
    """Llama 3.1's scaling of RoPE, recognised by the table `rope_freqs.weight` of divisors that it was turned into.

    All published models share the thresholds 1 and 4 and the original context 8,192, and differ in the factor.
    """
    if "rope_freqs.weight" not in meta.gguf.tensors:
        return {}
    divisors = meta.gguf.array("rope_freqs.weight").reshape(-1)
    factor, low, high, context = float(divisors.max()), 1.0, 4.0, 8192
    wavelength = 2 * np.pi * theta ** (np.arange(0, dim, 2) / dim)
    blend = np.clip((context / wavelength - low) / (high - low), 0, 1)
    if not (np.isfinite(factor) and factor > 0):
        factor = 1.0
    expected = 1 / ((1 - blend) / factor + blend)
    if divisors.shape != expected.shape or not np.allclose(divisors, expected, rtol=1e-4):
        raise InputError(
            f"{meta.gguf.path}: rope_freqs.weight is not Llama 3's scaling of RoPE, the only one supported"
        )
    if factor == 1:
        return {}
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": context,
    }


def llama(meta: Metadata) -> dict[str, Any]:
    """Llama, and Mixtral where there are experts."""
    base = common(meta)
    base |= {
        "hidden_act": "silu",
        "intermediate_size": meta.whole("feed_forward_length"),
        "rope_parameters": rope(meta, base["head_dim"]),
    }
    if meta.get("expert_count", 0):
        return {"model_type": "mixtral", **base, **experts(meta, "num_local_experts")}
    biased = {
        "attention_bias": "blk.0.attn_q.bias" in meta.gguf.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in meta.gguf.tensors,
    }
    meta.get("expert_used_count")
    return {"model_type": "llama", **base, **biased}


def experts(meta: Metadata, count_key: str) -> dict[str, Any]:
    """How many experts there are and how many of them a token uses."""
    count = meta.whole("expert_count")
    if count > MOST_EXPERTS:
        raise meta.refuse("expert_count", count, f"at most {MOST_EXPERTS}")
    return {count_key: count, "num_experts_per_tok": meta.whole("expert_used_count")}


def mistral(meta: Metadata) -> dict[str, Any]:
    """Mistral Small 3.1's text model; the architecture's name is mistral3."""
    base = common(meta)
    return {
        "model_type": "mistral",
        **base,
        "hidden_act": "silu",
        "intermediate_size": meta.whole("feed_forward_length"),
        "rope_parameters": rope(meta, base["head_dim"]),
        "sliding_window": None,
    }


def smollm3(meta: Metadata) -> dict[str, Any]:
    """SmolLM3. The file does not say which layers go without RoPE: every fourth (src/models/smollm3.cpp)."""
    base = llama(meta)
    return {
        **base,
        "model_type": "smollm3",
        "no_rope_layer_interval": 4,
        "no_rope_layers": [int((i + 1) % 4 != 0) for i in range(base["num_hidden_layers"])],
        "use_sliding_window": False,
    }


def qwen3(meta: Metadata) -> dict[str, Any]:
    """Qwen3, dense."""
    base = common(meta)
    return {
        "model_type": "qwen3",
        **base,
        "hidden_act": "silu",
        "intermediate_size": meta.whole("feed_forward_length"),
        "rope_parameters": rope(meta, base["head_dim"]),
        "attention_bias": "blk.0.attn_q.bias" in meta.gguf.tensors,
        "use_sliding_window": False,
    }


def qwen3_moe(meta: Metadata) -> dict[str, Any]:
    """Qwen3 with experts in every layer and normalised weights, as llama.cpp has it (src/models/qwen3moe.cpp)."""
    return {
        **qwen3(meta),
        "model_type": "qwen3_moe",
        **experts(meta, "num_experts"),
        "moe_intermediate_size": meta.whole("expert_feed_forward_length"),
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def _gemma(meta: Metadata, largest: int) -> dict[str, Any]:
    """What Gemma 2 and 3 share. Scores are scaled by the head dimension, but in the largest model, told by its number
    of layers, by the width of a head's share (src/models/gemma2.cpp, gemma3.cpp)."""
    base = common(meta)
    share = base["hidden_size"] // base["num_attention_heads"]
    return {
        **base,
        "hidden_activation": "gelu_pytorch_tanh",
        "intermediate_size": meta.whole("feed_forward_length"),
        "attention_bias": "blk.0.attn_q.bias" in meta.gguf.tensors,
        "query_pre_attn_scalar": share if base["num_hidden_layers"] == largest else base["head_dim"],
    }


def gemma2(meta: Metadata) -> dict[str, Any]:
    """Gemma 2: the first of every two layers is windowed."""
    base = _gemma(meta, largest=46)
    return {
        "model_type": "gemma2",
        **base,
        "rope_parameters": rope(meta, base["head_dim"]),
        "sliding_window": meta.whole("attention.sliding_window", 4096),
        "layer_types": windows(meta, base["num_hidden_layers"], every=2),
        "attn_logit_softcapping": meta.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": meta.number("final_logit_softcapping", 30.0),
    }


def gemma3(meta: Metadata) -> dict[str, Any]:
    """Gemma 3: five windowed layers for each full one, each kind with its own RoPE; without a window all are full."""
    base = _gemma(meta, largest=62)
    windowed = "attention.sliding_window" in meta
    local = meta.number("rope.freq_base_swa", 10_000.0)
    return {
        "model_type": "gemma3_text",
        **base,
        "rope_parameters": {
            "full_attention": rope(meta, base["head_dim"], 1_000_000.0),
            "sliding_attention": {"rope_theta": local, "rope_type": "default"},
        },
        "sliding_window": meta.whole("attention.sliding_window") if windowed else None,
        "layer_types": windows(meta, base["num_hidden_layers"], every=6 if windowed else 1),
        "attn_logit_softcapping": None,
        "final_logit_softcapping": meta.number("final_logit_softcapping", 0.0) or None,
    }


def olmo2(meta: Metadata) -> dict[str, Any]:
    """OLMo 2, and Olmo 3 where there is a window; scaling of RoPE then belongs to the full layers."""
    base = common(meta)
    scaled = rope(meta, base["head_dim"])
    base |= {
        "hidden_act": "silu",
        "intermediate_size": meta.whole("feed_forward_length"),
        "attention_bias": "blk.0.attn_q.bias" in meta.gguf.tensors,
    }
    if "attention.sliding_window" not in meta:
        return {"model_type": "olmo2", **base, "rope_parameters": scaled}
    local = meta.number("rope.freq_base_swa", scaled["rope_theta"])
    return {
        "model_type": "olmo3",
        **base,
        "rope_parameters": {
            "full_attention": scaled,
            "sliding_attention": {"rope_theta": local, "rope_type": "default"},
        },
        "sliding_window": meta.whole("attention.sliding_window"),
        "layer_types": windows(meta, base["num_hidden_layers"], every=4),
    }


def windows(meta: Metadata, count: int, every: int) -> list[str]:
    """`layer_types`: as the file lists them, or with the last of `every` layers full."""
    key = "attention.sliding_window_pattern"
    pattern = meta.get(key, every)
    if type(pattern) is int and pattern > 0:
        pattern = [(i + 1) % pattern != 0 for i in range(count)]
    if not isinstance(pattern, list) or len(pattern) != count or not all(type(item) is bool for item in pattern):
        raise meta.refuse(key, pattern, f"a period or one truth value for each of {count} layers")
    return ["sliding_attention" if item else "full_attention" for item in pattern]


@dataclass(frozen=True)
class Spelling:
    """How files of one `general.architecture` are to be read.

    `layer` maps the parts of a layer to their Hugging Face names ("{}" is an expert's number), `rotated` the parts
    whose rows are reordered to the key with their number of heads; `norm_offset` was added to norms.
    """

    config: Callable[[Metadata], dict[str, Any]]
    layer: dict[str, str]
    rotated: Mapping[str, str]
    norm_offset: float = 0.0


OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}

ATTENTION = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
MLP = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
PRE_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
POST_NORMS = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
SANDWICH_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "pre_feedforward_layernorm", **POST_NORMS}
MIXTRAL_EXPERTS = {
    "ffn_gate_inp": "block_sparse_moe.gate",
    "ffn_gate_exps": "block_sparse_moe.experts.{}.w1",
    "ffn_up_exps": "block_sparse_moe.experts.{}.w3",
    "ffn_down_exps": "block_sparse_moe.experts.{}.w2",
}
QWEN_EXPERTS = {
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.{}.gate_proj",
    "ffn_up_exps": "mlp.experts.{}.up_proj",
    "ffn_down_exps": "mlp.experts.{}.down_proj",
}

ROTATED = {"attn_q": "attention.head_count", "attn_k": "attention.head_count_kv"}
SPELLINGS = {
    "llama": Spelling(llama, PRE_NORMS | ATTENTION | MLP | MIXTRAL_EXPERTS, ROTATED),
    "mistral3": Spelling(mistral, PRE_NORMS | ATTENTION | MLP, ROTATED),
    "smollm3": Spelling(smollm3, PRE_NORMS | ATTENTION | MLP, ROTATED),
    "qwen3": Spelling(qwen3, PRE_NORMS | ATTENTION | QK_NORMS | MLP, {}),
    "qwen3moe": Spelling(qwen3_moe, PRE_NORMS | ATTENTION | QK_NORMS | QWEN_EXPERTS, {}),
    "gemma2": Spelling(gemma2, SANDWICH_NORMS | ATTENTION | MLP, {}, norm_offset=1.0),
    "gemma3": Spelling(gemma3, SANDWICH_NORMS | ATTENTION | QK_NORMS | MLP, {}, norm_offset=1.0),
    "olmo2": Spelling(olmo2, POST_NORMS | ATTENTION | QK_NORMS | MLP, {}),
}


def _spelling(gguf: GGUF) -> Spelling:
    architecture = gguf.metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise InputError(f"{gguf.path}: general.architecture is missing; the model cannot be known without it")
    if architecture not in SPELLINGS:
        raise InputError(
            f"{gguf.path}: GGUF architecture {architecture[:60]!r} is not supported (only {', '.join(SPELLINGS)}); "
            "use the model's Hugging Face folder instead"
        )
    parts = gguf.metadata.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        raise InputError(f"{gguf.path}: one of {parts} parts of a model; join them with llama-gguf-split --merge")
    return SPELLINGS[architecture]
