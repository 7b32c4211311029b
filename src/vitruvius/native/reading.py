"""What a token costs in bytes read, and how fast the machine can read: together they bound the speed of decoding."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np

from .library import Library
from .packing import Packed
from .plan import Plan

ENTRY_BYTES = {"f32": 4.0, "f16": 2.0, "q8": 1.0 + 2 / 32}  # of a number of a key or value
LANES, PAGE = 16, 64  # slots of a block and of a page
PROBE = 1 << 29  # bytes, far beyond any cache
TURNS = 3  # reads, of which the fastest counts


def operations(plan: Plan, library: Library) -> Iterator[tuple[str, dict[str, int]]]:
    """The operations of a plan with their fields as they are stored; numbers are their bits."""
    names, at = list(library.ops), 0
    while at < len(plan.words):
        name = names[plan.words[at]]
        fields = library.ops[name].fields
        values = plan.words[at + 1 : at + 1 + len(fields)].tolist()
        yield name, {key: value for (key, _), value in zip(fields, values, strict=True)}
        at += 1 + len(fields)


def bytes_per_token(plan: Plan, packed: Packed, context: int, dtype: str) -> int:
    """Bytes of weights and state that one more token reads, which sees `context` tokens, itself included: matrices
    whole, of experts the chosen ones, of tables a row."""
    places = [packed.places[matrix] for matrix in plan.matrices]
    whole: set[int] = set()
    rest = 0.0
    for name, fields in operations(plan, packed.library):
        if name in ("embed", "learned"):
            rest += places[fields["table"]].bytes / plan.matrices[fields["table"]].rows
        elif name.startswith("experts_"):
            rest += places[fields["matrix"]].copy_bytes * fields["active"]
        elif "matrix" in fields:
            whole.add(fields["matrix"])
        elif "state" in fields and name != "keep":
            chosen = fields.get("selection", -1) if name == "attend" else -1
            most = None if chosen < 0 else int(plan.buffers[chosen][1]) - 1
            rest += _state_bytes(plan.states[fields["state"]], context, dtype, most)
    return int(rest) + sum(places[i].bytes for i in whole)


def _state_bytes(state: Any, context: int, dtype: str, most: int | None) -> float:
    heads, k_dim, v_dim, _, window, fixed = map(int, state)
    if fixed:
        return 4.0 * fixed
    seen = min(context, window) if window else context
    if most is not None:
        seen = min(seen, most)
    return seen * heads * (k_dim + v_dim) * ENTRY_BYTES[dtype]


def sequence_bytes(plan: Plan, capacity: int, slack: int, snapshots: int, dtype: str) -> int:
    """Bytes of a sequence that is full, with so many snapshots: see `Sequence` in state.cpp."""
    tokens = fixed = 0
    for heads, k_dim, v_dim, _, window, floats in plan.states.tolist():
        fixed += _up(4 * floats, 64)
        slots = min(capacity, window + max(slack, plan.max_rows - 1)) if window else capacity
        blocks = _up(slots, PAGE if slots > PAGE else LANES) // LANES
        pages = -(-blocks // (PAGE // LANES))
        head = blocks // pages * (_block_bytes(k_dim, dtype) + _block_bytes(v_dim, dtype))
        tokens += pages * _up(heads * head, 64)
    return tokens + (1 + snapshots) * fixed


def _block_bytes(channels: int, dtype: str) -> int:
    """Of 16 slots with that many channels."""
    scales = 2 * LANES * -(-channels // 32) if dtype == "q8" else 0
    return _up(LANES * channels * {"f32": 4, "f16": 2, "q8": 1}[dtype] + scales, 64)


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def bandwidth(library: Library, simd: str | None, threads: int) -> float:
    """Bytes per second at which the machine reads memory that no cache holds."""
    block, taken = np.ones(PROBE, np.uint8), []
    for _ in range(TURNS):
        seconds = ctypes.c_double()
        library.call("vt_read", block.ctypes.data, PROBE, simd and simd.encode(), threads, ctypes.byref(seconds))
        taken.append(seconds.value)
    return PROBE / min(taken)
