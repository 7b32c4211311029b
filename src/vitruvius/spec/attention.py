"""Softmax attention: who is seen, how scores become weights, and two ways to keep keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

from .base import (
    Axis,
    Dimension,
    Edge,
    Exchange,
    Part,
    PerToken,
    Size,
    Spec,
    StateEntry,
    Static,
    Weight,
    linear,
    slots,
    vector,
    width_axis,
)
from .encoder import EncoderKeyValue, LayerBias, RelativeBias
from .indexer import Indexer, LayerIndexer
from .norm import RMSNorm, WeightlessNorm
from .position import RoPE


@dataclass(frozen=True, kw_only=True)
class Causal(Spec):
    """A query sees every key up to and including its own position."""

    window: ClassVar[int | None] = None

    def pairs(self, context: int) -> int:
        """Visible (query, key) pairs among the first `context` positions."""
        return context * (context + 1) // 2


@dataclass(frozen=True, kw_only=True)
class Window(Spec):
    """A query sees the last `size` keys, its own included. Beltagy et al. 2020, arXiv 2004.05150."""

    size: Size

    @property
    def window(self) -> int:
        return self.size

    def pairs(self, context: int) -> int:
        """Visible (query, key) pairs among the first `context` positions."""
        start = min(context, self.size)
        return start * (start + 1) // 2 + (context - start) * self.size


@dataclass(frozen=True, kw_only=True)
class Chunk(Spec):
    """A query sees the keys before it within its own chunk of `size` positions (Llama 4)."""

    size: Size

    @property
    def window(self) -> int:
        return self.size

    def pairs(self, context: int) -> int:
        """Visible (query, key) pairs among the first `context` positions."""
        chunks, rest = divmod(context, self.size)
        return chunks * (self.size * (self.size + 1) // 2) + rest * (rest + 1) // 2


@dataclass(frozen=True, kw_only=True)
class Everything(Spec):
    """A query sees every key, later ones too (encoders)."""

    window: ClassVar[int | None] = None

    def pairs(self, context: int) -> int:
        """Visible (query, key) pairs among `context` positions."""
        return context * context


Mask = Causal | Window | Chunk | Everything | Indexer | LayerIndexer


def _selection(mask: Mask) -> tuple[Edge, ...]:
    return (Edge("selection", mask.layer),) if isinstance(mask, LayerIndexer) else ()


@dataclass(frozen=True, kw_only=True)
class LogTemperature(Spec):
    """Queries times 1 + scale · ln(1 + ⌊(position + shift) / floor⌋), positions from 0: attention stays sharp over long
    contexts. Llama 4 (Nakanishi 2025, arXiv 2501.19399) with shift 1; Ministral 3 with shift 0."""

    scale: float
    floor: Size
    shift: int = 0


@dataclass(frozen=True, kw_only=True)
class LengthTemperature(Spec):
    """Capped scores times log(position) / log(length) for positions beyond `length` (Grok 2.5,
    `attn_temperature_len`)."""

    length: Size


@dataclass(frozen=True, kw_only=True)
class Softmax(Spec):
    """softmax(softcap(scale · q·k)), where softcap(s) = c · tanh(s / c) (Gemma 2, arXiv 2408.00118, section 2).

    `sinks` are a learned logit for each head that takes part in the softmax and is then dropped, so that a head may
    look at nothing (Xiao et al. 2023, arXiv 2309.17453; gpt-oss).
    """

    scale: float
    softcap: float | None = None
    sinks: bool = False
    temperature: LogTemperature | LengthTemperature | None = None

    def weights(self, width: int) -> dict[str, Weight]:
        """`width` is the number of heads here."""
        return {"sinks": vector((Axis("heads", width, cut="heads"),), initial=0.0)} if self.sinks else {}


@dataclass(frozen=True, kw_only=True)
class QKNorm(Spec):
    """A norm of queries or keys: of each head, or of the whole projection (OLMo 2, arXiv 2501.00656); before RoPE, or
    after it (Llama 4)."""

    norm: RMSNorm | WeightlessNorm
    over: Literal["head", "projection"] = "head"
    when: Literal["before_rope", "after_rope"] = "before_rope"

    spelling: ClassVar[Mapping[str, str]] = {"norm": ""}
    gguf_spelling: ClassVar[Mapping[str, str]] = {"norm": ""}

    def parts(self, width: int) -> dict[str, Part]:
        return slots(width, norm=self.norm)

    def width(self, heads: int, head_dim: int) -> int:
        """The channels that are normed together."""
        return head_dim if self.over == "head" else heads * head_dim


@dataclass(frozen=True, kw_only=True)
class KeyValue(Spec):
    """An attention layer's own keys and values: `heads` of them, each shared by a group of query heads.

    Shazeer 2019, arXiv 1911.02150 (one head); Ainslie et al. 2023, arXiv 2305.13245 (groups). Values are multiplied by
    `v_scale` before they are kept.
    """

    heads: Size
    head_dim: Size
    v_dim: Size
    k_norm: QKNorm | None = None
    v_norm: WeightlessNorm | None = None
    bias: bool = False
    v_scale: float = 1.0

    spelling: ClassVar[Mapping[str, str]] = {"k": "k_proj", "v": "v_proj"}
    quantized: ClassVar[Mapping[str, str | None]] = {"k": "k", "v": "v"}
    gguf_spelling: ClassVar[Mapping[str, str]] = {"k": "attn_k", "v": "attn_v", "k_norm": "attn_k_norm"}

    def parts(self, width: int) -> dict[str, Part]:
        parts = {}
        if self.k_norm:
            parts["k_norm"] = Part(self.k_norm, self.k_norm.width(self.heads, self.head_dim))
        return parts | slots(self.v_dim, v_norm=self.v_norm)

    def weights(self, width: int) -> dict[str, Weight]:
        k, v = (
            (Axis("kv_heads", self.heads, self.head_dim, cut="kv_heads"),),
            (Axis("kv_heads", self.heads, self.v_dim, cut="kv_heads"),),
        )
        return linear("k", k, width_axis(width), self.bias) | linear("v", v, width_axis(width), self.bias)


@dataclass(frozen=True, kw_only=True)
class UnifiedKeyValue(Spec):
    """Keys and values of one projection: v = k(x) / √(mean + eps), each head for itself, and k = RoPE(w · v). Only v is
    kept; the keys are made of it again. Gemma 4's full attention (transformers, models/gemma4, `attention_k_eq_v`)."""

    heads: Size
    head_dim: Size
    norm: RMSNorm
    bias: bool = False

    spelling: ClassVar[Mapping[str, str]] = {"k": "k_proj", "norm": "k_norm"}
    quantized: ClassVar[Mapping[str, str | None]] = {"k": "k"}
    gguf_spelling: ClassVar[Mapping[str, str]] = {"k": "attn_k", "norm": "attn_k_norm"}

    @property
    def v_dim(self) -> int:
        return self.head_dim

    def parts(self, width: int) -> dict[str, Part]:
        return slots(self.head_dim, norm=self.norm)

    def weights(self, width: int) -> dict[str, Weight]:
        return linear("k", (Axis("kv_heads", self.heads, self.head_dim, cut="kv_heads"),), width_axis(width), self.bias)


@dataclass(frozen=True, kw_only=True)
class LayerKeyValue(Spec):
    """The keys and values of an earlier `layer`, as it has kept them (Gemma 3n; Brandon et al. 2024, arXiv
    2405.12981)."""

    layer: int
    heads: Size
    head_dim: Size
    v_dim: Size


@dataclass(frozen=True, kw_only=True)
class OutputGate(Spec):
    """Attention's output times act(gate(x)), a gate for each channel or for each head (Qiu et al. 2025, arXiv
    2505.06708)."""

    act: Literal["sigmoid", "softplus"] = "sigmoid"
    over: Literal["channel", "head"] = "channel"
    bias: bool = False


@dataclass(frozen=True, kw_only=True)
class Attention(Spec):
    """softmax(q kᵀ) v, `heads` times side by side. Vaswani et al. 2017, arXiv 1706.03762, section 3.2.

    Nothing is kept of keys that see later ones: an encoder reads its text in one call. Of an encoder's own output the
    keys and values are kept as they are; it is taken to be as long as the context.
    """

    heads: Size
    head_dim: Size
    kv: KeyValue | UnifiedKeyValue | LayerKeyValue | EncoderKeyValue
    mask: Mask
    softmax: Softmax
    positions: RoPE | RelativeBias | LayerBias | None = None
    q_norm: QKNorm | None = None
    q_bias: bool = False
    o_bias: bool = False
    gate: OutputGate | None = None

    part: ClassVar[str] = "attention"
    mixes: ClassVar[bool] = True
    spelling: ClassVar[Mapping[str, str]] = {
        "q": "q_proj",
        "kv": "",
        "o": "o_proj",
        "gate": "gate_proj",
        "softmax": "",
    }
    quantized: ClassVar[Mapping[str, str | None]] = {"q": "q", "o": "o"}
    gguf_spelling: ClassVar[Mapping[str, str]] = {
        "q": "attn_q",
        "kv": "",
        "o": "attn_output",
        "gate": "attn_gate",
        "q_norm": "attn_q_norm",
        "softmax.sinks": "attn_sinks.weight",
    }

    def check(self) -> None:
        if self.heads % self.kv.heads:
            raise ValueError(f"{self.heads} query heads cannot be shared evenly by {self.kv.heads} key/value heads")
        if self.head_dim != self.kv.head_dim:
            raise ValueError(f"queries of {self.head_dim} channels cannot meet keys of {self.kv.head_dim}")
        if isinstance(self.positions, RoPE) and self.positions.dim > self.head_dim:
            raise ValueError(f"RoPE over {self.positions.dim} channels does not fit a head of {self.head_dim}")
        if isinstance(self.kv, EncoderKeyValue) and (self.positions or not isinstance(self.mask, Everything)):
            raise ValueError("cross-attention sees everything that the encoder gives, without positions")

    def parts(self, width: int) -> dict[str, Part]:
        parts = {} if isinstance(self.kv, LayerKeyValue) else slots(width, kv=self.kv)
        if isinstance(self.positions, RelativeBias):
            parts["positions"] = Part(self.positions, self.heads)
        if self.q_norm:
            parts["q_norm"] = Part(self.q_norm, self.q_norm.width(self.heads, self.head_dim))
        if self.softmax.sinks:
            parts["softmax"] = Part(self.softmax, self.heads)
        return parts

    def weights(self, width: int) -> dict[str, Weight]:
        q, o = (
            (Axis("heads", self.heads, self.head_dim, cut="heads"),),
            (Axis("heads", self.heads, self.kv.v_dim, cut="heads"),),
        )
        weights = linear("q", q, width_axis(width), self.q_bias) | linear("o", width_axis(width), o, self.o_bias)
        if self.gate:
            gates = o if self.gate.over == "channel" else (Axis("heads", self.heads, cut="heads"),)
            weights |= linear("gate", gates, width_axis(width), self.gate.bias)
        return weights

    def state(self) -> dict[str, StateEntry]:
        borrowed = isinstance(self.kv, LayerKeyValue) or isinstance(self.mask, Everything)
        if isinstance(self.kv, EncoderKeyValue):
            return {name: Static(entry.dimensions) for name, entry in self._entries().items()}
        return {} if borrowed else self._entries()

    def _entries(self) -> dict[str, StateEntry]:
        """Keys and values as they are kept, whoever keeps them."""
        kv, window = self.kv, self.mask.window
        unified = isinstance(kv, UnifiedKeyValue)
        kind: Literal["keys", "chunk", "unified"] = "chunk" if isinstance(self.mask, Chunk) else "keys"
        kind = "unified" if unified else kind
        widths = {"v": kv.v_dim} if unified else {"k": kv.head_dim, "v": kv.v_dim}
        return {
            name: PerToken(_per_head("kv_heads", kv.heads, size), window, kind=kind) for name, size in widths.items()
        }

    def edges(self) -> tuple[Edge, ...]:
        kv = (Edge("key_values", self.kv.layer),) if isinstance(self.kv, LayerKeyValue) else ()
        bias = (Edge("bias", self.positions.layer),) if isinstance(self.positions, LayerBias) else ()
        return kv + bias + _selection(self.mask)

    def flops(self, context: int, tokens: int = 1, form: str | None = None) -> int:
        pairs = self.mask.pairs(context) - self.mask.pairs(context - tokens)
        if isinstance(self.kv, EncoderKeyValue):
            pairs = tokens * context
        return 2 * self.heads * (self.head_dim + self.kv.v_dim) * pairs

    def work_axis(self) -> Axis:
        return Axis("heads", self.heads, cut="heads")

    def reads(self, context: int) -> list[tuple[StateEntry, int]]:
        """The keys that a query sees, not all that are kept."""
        if isinstance(self.kv, EncoderKeyValue):
            return [(entry, entry.elements(context)) for entry in self.state().values()]
        seen = self.mask.pairs(context) - self.mask.pairs(context - 1)
        own = 0 if isinstance(self.kv, LayerKeyValue) else 1
        return [(entry, prod(entry.shape) * (seen + own)) for entry in self._entries().values()]

    def exchanges(self, width: int) -> tuple[Exchange, ...]:
        return (Exchange("reduce", width),)

    def activations(self, width: int) -> int:
        """Queries and keys before their norms."""
        queries = self.heads * self.head_dim if self.q_norm else 0
        keys = isinstance(self.kv, KeyValue) and self.kv.k_norm is not None
        return queries + (self.kv.heads * self.head_dim if keys else 0)


def _per_head(name: str, heads: int, channels: int) -> tuple[Dimension, ...]:
    """(heads, channels)."""
    return (Axis(name, heads, cut="kv_heads"),), (Axis("channels", channels, cut="replicated"),)


@dataclass(frozen=True, kw_only=True)
class LowRank(Spec):
    """A projection through `rank` channels that are normed in between."""

    rank: Size
    norm: RMSNorm


@dataclass(frozen=True, kw_only=True)
class LatentAttention(Spec):
    """Multi-head latent attention: keys and values of all heads are projections of one small latent per token, and only
    that latent and one rotary key, shared by all heads, are kept. DeepSeek-V2, arXiv 2405.04434, section 2.1.

    Two forms give the same result. *Expanded* makes every head's keys and values from the latents; *absorbed* moves
    that projection to the query and to the output, so that attention runs on the latents themselves: more work for a
    pair, but none for the tokens that are already cached. Prefill takes the first, decoding the second.
    """

    heads: Size
    nope_dim: Size
    rope_dim: Size
    v_dim: Size
    q: LowRank | None
    kv: LowRank
    mask: Mask
    softmax: Softmax
    positions: RoPE | None
    bias: bool = False

    part: ClassVar[str] = "attention"
    mixes: ClassVar[bool] = True
    spelling: ClassVar[Mapping[str, str]] = {
        "q": "q_proj",
        "q_a": "q_a_proj",
        "q_norm": "q_a_layernorm",
        "q_b": "q_b_proj",
        "kv_a": "kv_a_proj_with_mqa",
        "kv_norm": "kv_a_layernorm",
        "kv_b": "kv_b_proj",
        "o": "o_proj",
        "mask": "indexer",
        "softmax": "",
    }
    quantized: ClassVar[Mapping[str, str | None]] = {"kv_b": "kv_b", "o": "o"}
    gguf_spelling: ClassVar[Mapping[str, str]] = {
        "q": "attn_q",
        "q_a": "attn_q_a",
        "q_norm": "attn_q_a_norm",
        "q_b": "attn_q_b",
        "kv_a": "attn_kv_a_mqa",
        "kv_norm": "attn_kv_a_norm",
        "kv_b": "attn_kv_b",
        "o": "attn_output",
        "mask": "indexer",
        "softmax": "",
    }

    def check(self) -> None:
        if self.positions and self.positions.dim != self.rope_dim:
            raise ValueError(f"RoPE over {self.positions.dim} channels, but the rotary key has {self.rope_dim}")
        if isinstance(self.mask, Indexer) and (self.q is None or self.q.rank != self.mask.query_width):
            raise ValueError(
                f"the indexer reads latent queries of {self.mask.query_width} channels, which are not there"
            )

    def parts(self, width: int) -> dict[str, Part]:
        parts = {"kv_norm": Part(self.kv.norm, self.kv.rank)}
        if self.q:
            parts["q_norm"] = Part(self.q.norm, self.q.rank)
        if self.softmax.sinks:
            parts["softmax"] = Part(self.softmax, self.heads)
        return parts | (slots(width, mask=self.mask) if isinstance(self.mask, Indexer) else {})

    def weights(self, width: int) -> dict[str, Weight]:
        stream, latent = width_axis(width), (Axis("latent", 1, self.kv.rank, cut="replicated"),)
        queries = (Axis("heads", self.heads, self.nope_dim + self.rope_dim, cut="heads"),)
        if self.q:
            rank = (Axis("q_latent", 1, self.q.rank, cut="replicated"),)
            weights = linear("q_a", rank, stream, self.bias) | linear("q_b", queries, rank)
        else:
            weights = linear("q", queries, stream)
        key = Axis("rope_key", 1, self.rope_dim, cut="replicated")
        weights |= linear("kv_a", (*latent, key), stream, self.bias)
        weights |= linear("kv_b", (Axis("heads", self.heads, self.nope_dim + self.v_dim, cut="heads"),), latent)
        return weights | linear("o", stream, (Axis("heads", self.heads, self.v_dim, cut="heads"),), self.bias)

    def state(self) -> dict[str, StateEntry]:
        window = self.mask.window
        sizes = {"latent": self.kv.rank, "key": self.rope_dim}
        return {name: PerToken(((Axis(name, 1, size, cut="replicated"),),), window) for name, size in sizes.items()}

    def edges(self) -> tuple[Edge, ...]:
        return _selection(self.mask)

    def flops(self, context: int, tokens: int = 1, form: str | None = None) -> int:
        """`form` is "expanded" or "absorbed"; by default the first for several tokens, the second for one."""
        pairs = self.mask.pairs(context) - self.mask.pairs(context - tokens)
        if (form or self.form(tokens)) == "expanded":
            return 2 * self.heads * (self.nope_dim + self.rope_dim + self.v_dim) * pairs
        return 2 * self.heads * (2 * self.kv.rank + self.rope_dim) * pairs

    @staticmethod
    def form(tokens: int) -> str:
        """The form that `tokens` new tokens take. In both, kv_b multiplies each new token once: as keys and values
        there, as query and output here; so the scores alone decide."""
        return "absorbed" if tokens == 1 else "expanded"

    def forms(self, context: int, tokens: int = 1) -> dict[str, int]:
        """kv_b makes keys and values of the tokens before them again where attention is expanded. (Of the new ones it
        does so in both, as their weights say.)"""
        earlier = max(self._seen(context) - tokens, 0)
        again = 2 * self.kv.rank * self.heads * (self.nope_dim + self.v_dim) * earlier
        return {
            "expanded": self.flops(context, tokens, "expanded") + again,
            "absorbed": self.flops(context, tokens, "absorbed"),
        }

    def work_axis(self) -> Axis:
        return Axis("heads", self.heads, cut="heads")

    def reads(self, context: int) -> list[tuple[StateEntry, int]]:
        """The latents that a query sees, not all that are kept, and the token's own."""
        return [(entry, prod(entry.shape) * (self._seen(context) + 1)) for entry in self.state().values()]

    def _seen(self, context: int) -> int:
        """The keys that the query at position `context` sees."""
        return self.mask.pairs(context) - self.mask.pairs(context - 1)

    def exchanges(self, width: int) -> tuple[Exchange, ...]:
        return (Exchange("reduce", width),)

    def gguf_shapes(self, name: str) -> tuple[tuple[int, ...], ...]:
        """kv_b is two tensors of heads: keys transposed, with rows of the heads' channels, and values."""
        if name != "kv_b.weight":
            return ()
        return (self.heads, self.kv.rank, self.nope_dim), (self.heads, self.v_dim, self.kv.rank)
