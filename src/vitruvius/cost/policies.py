"""What engines reserve for state, by their own rules: the accounting policies.

All are bytes of `batch` sequences of `context` tokens, keys and values at the dtype that is asked for:

- `minimum`: what the architecture needs. A window keeps its window, a latent is kept once, a short convolution keeps
  one input less than its kernel. `vitruvius` keeps the same.
- Where layers for multi-token prediction draft, their state counts in all of these; what `minimum` and `vitruvius` keep
  of hidden states the others keep elsewhere. `vitruvius` keeps `spec.DRAFTS` tokens beyond each window, to go back.
- `transformers` (5.23, cache_utils.py, `DynamicCache`): layers with a window or a chunk of w keep w − 1 tokens between
  steps, all others every token; a convolution keeps as many inputs as its kernel has. Where keys and values are one
  projection, both are kept.
- `vllm` (v1, kv_cache_interface.py `max_memory_usage_bytes` and kv_cache_utils.py
  `_get_kv_cache_groups_uniform_page_size`, 2026): pages of 16 tokens. A window keeps w − 1 tokens and those of the step
  that is under way (`chunk`), and one page more; a chunk of w keeps w and the step's. Layers form groups of equal size,
  the fewest layers that a kind has (the most, where that is less than 1.5 times as many), and the last group of a kind
  is padded. A recurrent layer has one page for each sequence; attention's pages are made long enough to hold it, and
  it is padded to them; an FP8 cache is one of keys and values only. An indexer's keys are FP8 with a float32 scale for
  each 128, and beside an indexer an FP8 latent is `fp8_ds_mla` (model_executor/models/config.py). With prefix caching
  a recurrent layer keeps one page more (`mamba_cache_mode` "align"), and one for each speculative token.
- `vllm-no-hybrid` (`--disable-hybrid-kv-cache-manager`): layers with windows keep every token, where others do. It
  cannot serve recurrent layers.
- `llama.cpp` (llama-kv-cache-iswa.cpp at 02c28f53, `llama_kv_cache_iswa`; llama-memory-recurrent.cpp): a sequence has
  its context, padded to 256, in cells; a window w has min(cells, w + 512) of them, padded to 256, where 512 is the
  micro-batch. Recurrent state is float32. Each sequence has a stream of its own.
- `llama.cpp-swa-full` (`--swa-full`): windows have as many cells as the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, prod

from ..errors import InputError
from ..sharding import Layout, share, stage_of
from ..spec import DRAFTS, Decoder, StateEntry
from .dtypes import bits, stored
from .part import MTP, headed
from .state_formats import DS_MLA, entry_bits, is_plain, of_keys_and_values, recurrent

PAGE = 16  # vLLM's tokens in a page
CELLS = 256  # what llama.cpp pads its caches to
MICRO_BATCH = 512  # llama.cpp's n_ubatch
CHUNK = 2048  # tokens of a step: vLLM's max_num_batched_tokens
QUANTIZED = 128  # indexer keys that share a float32 scale in vLLM


@dataclass(frozen=True)
class Kept:
    """What one part keeps for a sequence, in elements.

    Args:
        token: of one token; 0 for recurrent parts.
        window: the tokens that are kept, None for all.
        stride: tokens that share an entry.
        kind: "keys", or what some engine treats apart: "chunk", "unified" (keys and values in one), "indexer", "hidden"
            (states, for drafts).
        inputs: of a convolution: how many are kept, and the channels of each.
        memory: of a recurrence.
        dtype: of the memory, where the architecture fixes it.
        rows: of a token's entries: their name, elements, and the channels of a row.
    """

    token: int = 0
    window: int | None = None
    stride: int = 1
    kind: str = "keys"
    inputs: tuple[int, int] = (0, 0)
    memory: int = 0
    dtype: str | None = None
    rows: tuple[tuple[str, int, int], ...] = ()

    def size(self, tokens: int, state: str) -> int:
        """Bytes of the entries of so many tokens."""
        each = sum((count * entry_bits(name, width, state) for name, count, width in self.rows), Fraction(0))
        if self.token and not self.rows:
            each = Fraction(self.token * bits(state))
        return ceil(-(-tokens // self.stride) * each / 8)

    def entries(self, tokens: int) -> int:
        """Elements of the entries of so many tokens."""
        return self.token * -(-tokens // self.stride)


Layers = Mapping[Kept, int]  # how many parts keep the same


def kept(arch: Decoder, tensor: int = 1, draft: bool = False) -> Layers:
    """What all parts keep, each on one of `tensor` devices among which heads are cut; those for multi-token prediction
    too, where they `draft`."""
    (layers,) = kept_by_stage(arch, Layout(tensor=tensor), draft)
    return layers


def kept_by_stage(arch: Decoder, layout: Layout, draft: bool = False) -> list[Layers]:
    """What all parts of each stage of the pipeline keep, each on one device."""
    stages: list[Counter[Kept]] = [Counter() for _ in range(layout.pipeline)]
    for node, part in headed(arch):
        if part != MTP:
            stages[stage_of(node.path, arch, layout)].update(_kept(node.spec.state().items(), layout.tensor))
    for path, entries in arch.draft_state().items() if draft else ():
        stages[stage_of(path, arch, layout)].update(_kept(entries.items(), layout.tensor))
    return [*stages]


@dataclass(frozen=True)
class Serving:
    """Options of an engine that decide what it reserves.

    Args:
        prefix_caching: whether the states of prompts are kept for those that begin alike.
        speculative: tokens that are drafted in a step.
        draft: whether the layers for multi-token prediction draft them, so that they have a state too.
    """

    prefix_caching: bool = False
    speculative: int = 0
    draft: bool = False


def reserved(
    layers: Layers, context: int, state: str, batch: int = 1, chunk: int = CHUNK, serving: Serving = Serving()
) -> dict[str, int]:
    """Bytes by policy; those that cannot serve the architecture are left out."""
    asked = ((name, policy(layers, context, state, batch, chunk, serving)) for name, policy in POLICIES.items())
    return {name: size for name, size in asked if size is not None}


def reserved_by(
    policy: str,
    layers: Layers,
    context: int,
    state: str,
    batch: int = 1,
    chunk: int = CHUNK,
    serving: Serving = Serving(),
) -> int:
    """Bytes by one policy. Raises InputError where that cannot serve the architecture."""
    size = policy_named(policy)(layers, context, state, batch, chunk, serving)
    if size is None:
        raise InputError(f"policy {policy!r} cannot serve recurrent layers; take one of {', '.join(POLICIES)}")
    return size


def policy_named(name: str) -> Policy:
    """The policy of this name. Raises InputError if there is none."""
    if name not in POLICIES:
        raise InputError(f"policy {name!r} is not known: it is one of {', '.join(POLICIES)}")
    return POLICIES[name]


def _kept(states: Iterable[tuple[str, StateEntry]], tensor: int) -> list[Kept]:
    """Of one part: its entries for tokens, together where they are kept alike, and its recurrent ones."""
    tokens: dict[Kept, list[tuple[str, int, int]]] = {}
    inputs, memory, dtype = (0, 0), 0, None
    for name, state in states:
        elements = int(prod(state.shape) * share(state.dimensions, tensor))
        if state.stride is not None:
            alike = Kept(window=state.window, stride=state.stride, kind=state.kind)
            tokens.setdefault(alike, []).append((name, elements, state.shape[-1]))
        elif state.kind == "inputs":
            inputs = (state.shape[0], elements // max(state.shape[0], 1))
        else:
            memory, dtype = elements, state.dtype
    found = [replace(alike, token=sum(n for _, n, _ in rows), rows=tuple(rows)) for alike, rows in tokens.items()]
    return found + ([Kept(inputs=inputs, memory=memory, dtype=dtype)] if inputs != (0, 0) or memory else [])


# ------------------------------------------------------------------ the policies


def minimum(layers: Layers, context: int, state: str, batch: int, chunk: int, serving: Serving) -> int:
    """What the architecture needs."""
    return batch * _windowed(layers, context, state, 0)


def vitruvius(layers: Layers, context: int, state: str, batch: int, chunk: int, serving: Serving) -> int:
    """See the module."""
    return batch * _windowed(layers, context, state, DRAFTS if serving.draft else 0)


def _windowed(layers: Layers, context: int, state: str, slack: int) -> int:
    """Of one sequence, with so many tokens beyond each window."""

    def size(kept: Kept) -> int:
        tokens = context if kept.window is None else min(context, kept.window + slack)
        return kept.size(tokens, state) + _recurrent(kept, recurrent(state))

    return _sum(layers, size)


def transformers(layers: Layers, context: int, state: str, batch: int, chunk: int, serving: Serving) -> int:
    """See the module."""
    layers = _without_hidden(layers)

    def size(kept: Kept) -> int:
        count, channels = kept.inputs
        # a slice of the last 0 tokens is one of all of them
        tokens = context if kept.window in (None, 1) else min(context, kept.window - 1)
        own = recurrent(state)
        return _both(kept, tokens, state) + _recurrent(kept, own) + stored(channels if count else 0, own)

    return batch * _sum(layers, size)


def vllm(layers: Layers, context: int, state: str, batch: int, chunk: int, serving: Serving) -> int | None:
    """See the module."""
    layers = _without_hidden(layers)
    if not layers:
        return 0
    state = _as_vllm(layers, state)
    grouped, page = _grouped(layers, state)
    if len({(kept.window, kept.kind == "chunk", kept.token == 0) for kept in layers}) == 1:
        # one kind of layer, perhaps of several widths: they are one group, and nothing is padded
        return batch * sum(
            count * _pages(kept, context, chunk, PAGE, serving) * each.bytes for kept, (count, each) in grouped.items()
        )
    counts = [count for count, _ in grouped.values()]
    together = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    pages = sum(
        -(-count // together) * _pages(kept, context, chunk, each.tokens, serving)
        for kept, (count, each) in grouped.items()
    )
    return batch * pages * together * page


def vllm_without_hybrid(
    layers: Layers, context: int, state: str, batch: int, chunk: int, serving: Serving
) -> int | None:
    """See the module."""
    layers = _without_hidden(layers)
    if any(kept.token == 0 for kept in layers):
        return None
    windows = {kept.window for kept in layers}
    if len(windows) == 1:
        return vllm(layers, context, state, batch, chunk, serving)
    state = _as_vllm(layers, state)

    def size(kept: Kept) -> int:
        return _padded(-(-context // kept.stride), PAGE) * _vllm_token(kept, state)

    return batch * _sum(layers, size)


def llama_cpp(layers: Layers, context: int, state: str, batch: int, chunk: int, serving: Serving) -> int:
    """See the module."""
    layers, cells = _without_hidden(layers), _padded(context, CELLS)

    def size(kept: Kept) -> int:
        held = cells if kept.window is None else _padded(min(cells, kept.window + MICRO_BATCH), CELLS)
        return _both(kept, held, state) + 4 * (prod(kept.inputs) + kept.memory)

    return batch * _sum(layers, size)


def llama_cpp_swa_full(layers: Layers, context: int, state: str, batch: int, chunk: int, serving: Serving) -> int:
    """See the module."""
    layers, cells = _without_hidden(layers), _padded(context, CELLS)
    return batch * _sum(layers, lambda kept: _both(kept, cells, state) + 4 * (prod(kept.inputs) + kept.memory))


Policy = Callable[[Layers, int, str, int, int, Serving], "int | None"]
POLICIES: Mapping[str, Policy] = {
    "minimum": minimum,
    "vitruvius": vitruvius,
    "transformers": transformers,
    "vllm": vllm,
    "vllm-no-hybrid": vllm_without_hybrid,
    "llama.cpp": llama_cpp,
    "llama.cpp-swa-full": llama_cpp_swa_full,
}

# ------------------------------------------------------------------ what they share


def _without_hidden(layers: Layers) -> Layers:
    """What an engine keeps as state that has the last hidden states elsewhere."""
    return {kept: count for kept, count in layers.items() if kept.kind != "hidden"}


def _sum(layers: Layers, size: Callable[[Kept], int]) -> int:
    return sum(count * size(kept) for kept, count in layers.items())


def _padded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _recurrent(kept: Kept, dtype: str) -> int:
    return stored(prod(kept.inputs), dtype) + stored(kept.memory, kept.dtype or dtype)


def _both(kept: Kept, tokens: int, state: str) -> int:
    """Bytes of so many tokens in engines that keep keys and values although one gives the other."""
    size = kept.size(tokens, state)
    if kept.kind != "unified":
        return size
    keys, values = of_keys_and_values(state)
    return kept.size(tokens, keys) + kept.size(tokens, values)


def _as_vllm(layers: Layers, state: str) -> str:
    """An FP8 latent beside an indexer has scales, and its rotary key in bf16."""
    sparse = any(kept.kind == "indexer" for kept in layers)
    return DS_MLA if sparse and is_plain(state) and bits(state) == 8 else state


@dataclass(frozen=True)
class _Page:
    tokens: int
    bytes: int


def _vllm_token(kept: Kept, state: str) -> int:
    if kept.kind == "indexer":
        return kept.token + 4 * -(-kept.token // QUANTIZED)
    return _both(kept, 1, state)


def _grouped(layers: Layers, state: str) -> tuple[dict[Kept, tuple[int, _Page]], int]:
    """Kinds of layers with how many there are and their page, and the bytes of a page that all share."""
    wide = state if is_plain(state) and bits(state) >= 16 else "bf16"
    recurrent = max((_recurrent(kept, wide) for kept in layers if not kept.token), default=0)
    token = max((_vllm_token(kept, state) for kept in layers if kept.token), default=0)
    if not token:
        return {kept: (count, _Page(1, _recurrent(kept, wide))) for kept, count in layers.items()}, recurrent
    tokens = page_tokens(recurrent, token)
    page = tokens * token
    grouped = {}
    for kept, count in layers.items():
        own = tokens * _vllm_token(kept, state)
        grouped[kept] = (count, _Page(tokens * (page // own), own) if own else _Page(1, page))
    return grouped, page


def page_tokens(recurrent: int, token: int) -> int:
    """Tokens of a page of attention's that holds `recurrent` bytes, at `token` bytes each: vLLM's `attn_block_size`
    (vllm/platforms/interface.py, `_align_hybrid_block_size`)."""
    return PAGE * max(1, -(-recurrent // (PAGE * token)))


def _pages(kept: Kept, context: int, chunk: int, tokens: int, serving: Serving) -> int:
    """Pages of `tokens` entries that a sequence has of one layer."""
    if not kept.token:
        return 1 + serving.prefix_caching + serving.speculative
    context, chunk = -(-context // kept.stride), -(-chunk // kept.stride)
    if kept.window is None:
        return -(-context // tokens)
    if kept.kind == "chunk":
        return -(-min(kept.window + chunk, context) // tokens)
    return -(-min(kept.window - 1 + chunk, context) // tokens) + 1
