"""What each operation of a native plan means, in numpy: slow, plain, and independent of the C++ library.

It runs the plans that the lowerings make, so that these are tested where there is no compiler, and says what the
library's kernels should give.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import erf, log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitruvius.native.library import Op, described
from vitruvius.native.plan import PANEL, Matrix, OperationTable, Plan

Array = NDArray[Any]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "none": lambda x: x,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + np.vectorize(erf, otypes=[np.float64])(x / 2**0.5)) / 2,
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "relu": lambda x: x.clip(min=0),
    "relu2": lambda x: x.clip(min=0) ** 2,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(x, 0),
    "tanh": np.tanh,
}


@dataclass(frozen=True)
class Operations:
    """What the library says of its operations, read from its source."""

    choices: dict[str, tuple[str, ...]]
    ops: dict[str, Op]


def operations(header: Path) -> Operations:
    """The tables of cpp/plan.h, as `vt_ops` tells them."""
    text = re.sub(r"//.*", "", re.sub(r"\\\n", "", header.read_text("utf-8")))
    records = dict(re.findall(r"VT_OP\((\w+), \w+, ([^)]*)\)", text))
    choices = re.findall(r"\bC\((\w+), ([^)]*)\)", text)
    lines = [" ".join(["choice", name, *re.findall(r"\w+", values)]) for name, values in choices]
    for name in re.findall(r"\bO\((\w+)\)", text):
        kinds = (group.split(None, 1) for group in records[name].strip("; \n").split(";"))
        fields = [f"{field}:{kind}" for kind, fields in kinds for field in re.split(r",\s*", fields)]
        lines.append(" ".join(["op", name, *fields]))
    return Operations(*described("\n".join(lines)))


def unfolded(matrix: Matrix, weights: Mapping[str, Array]) -> Array:
    """(copies, rows, cols): the matrix as its pieces lie, with zeros where panels are filled up."""
    whole = np.zeros((matrix.copies, matrix.rows, matrix.cols))
    for piece in matrix.pieces:
        value = weights[piece.name]
        value = piece.change(value) if piece.change else value.reshape(matrix.copies, piece.rows, matrix.cols)
        panel, lane = np.divmod(np.arange(piece.rows), PANEL)
        whole[:, piece.row + panel * piece.step * PANEL + lane] = value
    return whole


@dataclass
class Text:
    """What one text leaves: for each state its keys and values, or its numbers."""

    length: int = 0
    kept: dict[int, Any] = field(default_factory=dict)


class Interpreter:
    """A plan with the weights' values by canonical name."""

    def __init__(self, plan: Plan, vocabulary: OperationTable, weights: Mapping[str, Array]) -> None:
        self.plan, self.choices = plan, vocabulary.choices
        self.matrices = [unfolded(matrix, weights) for matrix in plan.matrices]
        self.vectors = [np.asarray(v.make(*(weights[n] for n in v.names)), np.float64) for v in plan.vectors]
        assert [len(v) for v in self.vectors] == [v.size for v in plan.vectors]
        self.ops = list(self._read(vocabulary, plan.words))

    def _read(self, vocabulary: OperationTable, words: Array) -> Any:
        names, at = list(vocabulary.ops), 0
        while at < len(words):
            name = names[words[at]]
            op, values = vocabulary.ops[name], {}
            for i, (key, kind) in enumerate(op.fields):
                word = int(words[at + 1 + i])
                (number,) = struct.unpack("<f", struct.pack("<i", word))
                values[key] = number if kind == "number" else self.choices[kind][word] if kind in self.choices else word
            yield name, values
            at += 1 + len(op.fields)

    def step(self, sequences: Sequence[Text], rows: Sequence[Sequence[int]]) -> Array:
        """Adds the rows' tokens to the sequences; the outputs of all of them, one after the other."""
        self.ids = np.concatenate([np.asarray(row) for row in rows])
        counts = [len(row) for row in rows]
        self.sequences = sequences
        ends = np.cumsum(counts)
        self.parts = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        self.positions = np.concatenate(
            [np.arange(s.length, s.length + n) for s, n in zip(sequences, counts, strict=True)]
        )
        n = len(self.ids)
        assert n <= self.plan.max_rows
        self.arena = np.full(self.plan.arena, np.nan)
        self.out = np.full((n, self.plan.output_width), np.nan)
        for name, values in self.ops:
            getattr(self, f"op_{name}")(**values)
        for sequence, count in zip(sequences, counts, strict=True):
            sequence.length += count
        return self.out

    def buffer(self, index: int) -> Array:
        """(rows, width), a view."""
        offset, width, stride = map(int, self.plan.buffers[index])
        n = len(self.ids)
        if offset < 0:
            return self.out[:, :width]
        if offset + (n - 1) * stride + width > len(self.arena):
            raise AssertionError("a buffer leaves the arena")
        return np.lib.stride_tricks.as_strided(self.arena[offset:], (n, width), (stride * 8, 8))

    def vector(self, index: int, default: float) -> Any:
        return default if index < 0 else self.vectors[index]

    def put(self, y: int, skip: float, scale: float, result: Array) -> None:
        target = self.buffer(y)
        target[:] = (skip * target if skip else 0) + scale * result

    # ------------------------------------------------------------ one by one, in the order of plan.h

    def op_embed(self, y: int, table: int, skip: float, scale: float, known: int) -> None:
        ids = np.where(self.ids < known, self.ids, 0) if known else self.ids
        self.put(y, skip, scale, self.matrices[table][0][ids])

    def op_learned(self, y: int, table: int) -> None:
        self.put(y, 1, 1, self.matrices[table][0][self.positions])

    def op_norm(self, x: int, y: int, kind: str, weight: int, bias: int, eps: float, group: int, **to: float) -> None:
        source = self.buffer(x)
        grouped = source.reshape(len(source), -1, group)
        if kind == "layer":
            grouped = grouped - grouped.mean(-1, keepdims=True)
        squares = (grouped**2).sum(-1, keepdims=True)
        squares = squares + group * eps if kind == "unit" else squares / group + eps
        normed = grouped / np.sqrt(squares)
        flat = normed.reshape(source.shape)
        w, b = self.vector(weight, 1.0), self.vector(bias, 0.0)
        result = flat * _tiled(w, flat.shape[1]) + _tiled(b, flat.shape[1])
        self.put(y, to["skip"], to["scale"], result)

    def op_gated_norm(
        self, x: int, z: int, y: int, weight: int, act: str, gate_first: int, eps: float, group: int
    ) -> None:
        value, gate = self.buffer(x), ACTIVATIONS[act](self.buffer(z))
        value = value * gate if gate_first else value
        grouped = value.reshape(len(value), -1, group)
        normed = (grouped / np.sqrt((grouped**2).mean(-1, keepdims=True) + eps)).reshape(value.shape)
        normed = normed * _tiled(self.vector(weight, 1.0), normed.shape[1])
        self.put(y, 0, 1, normed if gate_first else normed * gate)

    def op_matmul(
        self, x: int, y: int, matrix: int, bias: int, act: str, skip: float, scale: float, heads: int, **steps: int
    ) -> None:
        w, source = self.matrices[matrix], self.buffer(x)
        if not heads:
            assert source.shape[1] == w.shape[2]
            self.put(y, skip, scale, ACTIVATIONS[act](source @ w[0].T + self.vector(bias, 0.0)))
            return
        target = self.buffer(y)
        for h in range(heads):
            a, b = h * steps["x_step"], h * steps["y_step"]
            target[:, b : b + w.shape[1]] = source[:, a : a + w.shape[2]] @ w[h].T

    def op_glu(self, x: int, y: int, matrix: int, bias: int, **how: Any) -> None:
        both = self.buffer(x) @ self.matrices[matrix][0].T + self.vector(bias, 0.0)
        self.put(y, 0, 1, _gated(both, self.buffer(y).shape[1], **how))

    def op_rotary(self, y: int, freqs: int, factor: float, shift: int) -> None:
        angles = (self.positions + shift)[:, None] * self.vectors[freqs]
        self.put(y, 0, factor, np.concatenate((np.cos(angles), np.sin(angles)), 1))

    def op_rope(
        self, x: int, y: int, table: int, heads: int, x_step: int, y_step: int, dim: int, interleaved: int
    ) -> None:
        source, target, half = self.buffer(x), self.buffer(y), dim // 2
        cos, sin = self.buffer(table)[:, :half].copy(), self.buffer(table)[:, half:].copy()
        first = np.arange(0, dim, 2) if interleaved else np.arange(half)
        second = first + 1 if interleaved else first + half
        for h in range(heads):
            a, b = source[:, h * x_step + first].copy(), source[:, h * x_step + second].copy()
            target[:, h * y_step + first] = a * cos - b * sin
            target[:, h * y_step + second] = b * cos + a * sin

    def op_copy(self, x: int, y: int, heads: int, x_step: int, y_step: int, width: int) -> None:
        source, target = self.buffer(x), self.buffer(y)
        for h in range(heads):
            target[:, h * y_step : h * y_step + width] = source[:, h * x_step : h * x_step + width]

    def op_temper(self, x: int, scale: float, floor: int, shift: int) -> None:
        factor = 1 + scale * np.log1p((self.positions + shift) // floor)
        self.put(x, 0, 1, self.buffer(x) * factor[:, None])

    def op_keep(self, k: int, v: int, state: int) -> None:
        for sequence, part in zip(self.sequences, self.parts, strict=True):
            old_k, old_v = sequence.kept.get(state, (None, None))
            new_k = self.buffer(k)[part].copy()
            new_v = self.buffer(v)[part].copy() if v >= 0 else None
            if old_k is not None:
                new_k = np.concatenate((old_k, new_k))
                new_v = None if new_v is None else np.concatenate((old_v, new_v))
            sequence.kept[state] = new_k, new_v

    def op_attend(self, q: int, y: int, state: int, heads: int, mask: str, **how: Any) -> None:
        groups, k_dim, v_dim, shared, window, _ = map(int, self.plan.states[state])
        if mask in ("window", "chunk"):
            assert how["size"] <= window
        source, target = self.buffer(q), self.buffer(y)
        for sequence, part in zip(self.sequences, self.parts, strict=True):
            k, v = sequence.kept[state]
            k = k.reshape(-1, groups, k_dim)
            v = k[:, :, :shared] if v is None else v.reshape(-1, groups, v_dim)
            for row in range(part.start, part.stop):
                seen = self._seen(row, mask, how)
                result = [
                    self._head(
                        source[row, h * k_dim : (h + 1) * k_dim], k[seen, h * groups // heads], h, row, seen, how
                    )
                    @ v[seen, h * groups // heads]
                    for h in range(heads)
                ]
                target[row] = np.concatenate(result)

    def _seen(self, row: int, mask: str, how: dict[str, Any]) -> Array:
        p, size = int(self.positions[row]), how["size"]
        if mask == "selected":
            selection = self.buffer(how["selection"])[row]
            return selection[1 : 1 + int(selection[0])].astype(int)
        low = {"causal": 0, "window": p - size + 1, "chunk": p - p % size if size else 0}[mask]
        return np.arange(max(low, how["first"], 0), p + 1)

    def _head(self, q: Array, k: Array, head: int, row: int, seen: Array, how: dict[str, Any]) -> Array:
        p = int(self.positions[row])
        scores = how["scale"] * (k @ q)
        if how["bias"] >= 0:
            table = self.vectors[how["bias"]].reshape(-1, len(self.vectors[how["bias"]]) // self._heads(how))
            scores = scores + table[head][(p - seen).clip(max=table.shape[1] - 1)]
        if how["softcap"]:
            scores = how["softcap"] * np.tanh(scores / how["softcap"])
        if how["length"] and p > how["length"]:
            scores = scores * log(p) / log(how["length"])
        sink = self.vectors[how["sinks"]][head] if how["sinks"] >= 0 else -np.inf
        if not len(scores):
            return scores
        top = max(scores.max(), sink)
        weights = np.exp(scores - top)
        return weights / (weights.sum() + np.exp(sink - top))

    def _heads(self, how: dict[str, Any]) -> int:
        return next(values["heads"] for name, values in self.ops if name == "attend" and values["bias"] == how["bias"])

    def op_index(self, q: int, weights: int, state: int, selection: int, heads: int, topk: int, first: int = 0) -> None:
        dim = int(self.plan.states[state][1])
        for sequence, part in zip(self.sequences, self.parts, strict=True):
            k, _ = sequence.kept[state]
            for row in range(part.start, part.stop):
                queries = self.buffer(q)[row].reshape(heads, dim)
                scores = (queries @ k.T).clip(min=0) * dim**-0.5
                scores = (self.buffer(weights)[row] * heads**-0.5) @ scores
                seen = np.arange(first, self.positions[row] + 1)
                best = np.sort(seen[np.argsort(-scores[seen], kind="stable")[:topk]])
                self.buffer(selection)[row, : 1 + len(best)] = [len(best), *best]

    def op_route(self, logits: int, chosen: int, weights: int, groups: int, active: int, **how: Any) -> None:
        x = self.buffer(logits)
        x = how["softcap"] * np.tanh(x / how["softcap"]) if how["softcap"] else x
        e = np.exp(x - x.max(-1, keepdims=True))
        scores = e / e.sum(-1, keepdims=True) if how["score"] == "softmax" else ACTIVATIONS["sigmoid"](x)
        ranks = scores + self.vector(how["selection_bias"], 0.0)
        if how["group_count"]:
            members = ranks.reshape(len(x), how["group_count"], -1)
            best = members.max(-1) if how["group_score"] == "max" else np.sort(members, -1)[..., -2:].sum(-1)
            allowed = np.argsort(-best, -1, kind="stable")[:, : how["group_active"]]
            closed = np.ones(best.shape, bool)
            np.put_along_axis(closed, allowed, False, -1)
            ranks = np.where(closed[..., None], -np.inf, members).reshape(ranks.shape)
        experts = np.argsort(-ranks, -1, kind="stable")[:, :active]
        w = np.take_along_axis(scores, experts, -1)
        if how["norm_topk_eps"] >= 0:
            w = w / (w.sum(-1, keepdims=True) + how["norm_topk_eps"])
        if how["expert_scale"] >= 0:
            w = w * self.vectors[how["expert_scale"]][experts]
        self.put(weights, 0, 1, w * how["scale"])
        if how["capacity"] >= 0:
            self._turn_away(experts, self.buffer(weights), how["capacity"])
        self.chosen = {groups: experts}

    def _turn_away(self, experts: Array, weights: Array, capacity: int) -> None:
        for part in self.parts:
            arrived: dict[int, int] = {}
            for row in range(part.start, part.stop):
                for slot, expert in enumerate(experts[row]):
                    arrived[expert] = arrived.get(expert, 0) + 1
                    if arrived[expert] > capacity:
                        weights[row, slot] = 0

    def _experts(self, x: int, groups: int, weights: int, matrix: int, bias: int) -> Array:
        """(rows, active, matrix rows)."""
        experts, w = self.chosen[groups], self.matrices[matrix]
        source = self.buffer(x)[:, None].repeat(experts.shape[1], 1)
        if weights >= 0:
            source = source * self.buffer(weights)[..., None]
        biases = self.vectors[bias].reshape(len(w), -1)[experts] if bias >= 0 else 0.0
        return np.einsum("nkrc,nkc->nkr", w[experts], source) + biases

    def op_experts_glu(
        self, x: int, y: int, groups: int, weights: int, matrix: int, bias: int, active: int, **how: Any
    ) -> None:
        both = self._experts(x, groups, weights, matrix, bias)
        self._hidden(y, _gated(both, both.shape[2] // 2, **how))

    def op_experts_up(
        self, x: int, y: int, groups: int, weights: int, matrix: int, bias: int, active: int, act: str
    ) -> None:
        up = ACTIVATIONS[act](self._experts(x, groups, weights, matrix, bias))
        self._hidden(y, np.pad(up, [(0, 0), (0, 0), (0, -up.shape[2] % PANEL)]))

    def _hidden(self, y: int, hidden: Array) -> None:
        """(rows, active, channels) one expert after the other; a row of y may be longer."""
        flat = hidden.reshape(len(hidden), -1)
        self.buffer(y)[:, : flat.shape[1]] = flat

    def op_experts_down(
        self, x: int, y: int, groups: int, weights: int, matrix: int, bias: int, active: int, **to: float
    ) -> None:
        experts, w = self.chosen[groups], self.matrices[matrix]
        channels = -(-w.shape[2] // PANEL) * PANEL
        hidden = self.buffer(x)[:, : active * channels].reshape(len(experts), active, -1)[..., : w.shape[2]]
        biases = self.vectors[bias].reshape(len(w), -1)[experts] if bias >= 0 else 0.0
        out = np.einsum("nkrc,nkc->nkr", w[experts], hidden) + biases
        out = out * self.buffer(weights)[..., None] if weights >= 0 else out
        self.put(y, to["skip"], to["scale"], out.sum(1))

    def op_conv(
        self, x: int, y: int, state: int, weight: int, bias: int, kernel: int, act: str, before: int, after: int
    ) -> None:
        source = self.buffer(x) * (self.buffer(before) if before >= 0 else 1.0)
        channels = source.shape[1]
        assert int(self.plan.states[state][5]) == (kernel - 1) * channels
        taps, result = self.vectors[weight].reshape(kernel, channels), np.empty_like(source)
        for sequence, part in zip(self.sequences, self.parts, strict=True):
            old = sequence.kept.get(state, np.zeros((kernel - 1, channels)))
            inputs = np.concatenate((old, source[part]))
            tokens = part.stop - part.start
            result[part] = sum(taps[i] * inputs[i : i + tokens] for i in range(kernel))
            sequence.kept[state] = inputs[len(inputs) - kernel + 1 :].copy()
        result = ACTIVATIONS[act](result + self.vector(bias, 0.0))
        self.put(y, 0, 1, result * (self.buffer(after) if after >= 0 else 1.0))

    def op_delta(self, y: int, state: int, k_heads: int, v_heads: int, k_dim: int, v_dim: int, **how: Any) -> None:
        n = len(self.ids)
        q, k = (self.buffer(how[name]).reshape(n, k_heads, k_dim) for name in "qk")
        q, k = (z / np.sqrt((z**2).sum(-1, keepdims=True) + 1e-6) for z in (q, k))
        q, k = (z.repeat(v_heads // k_heads, 1) for z in (q / k_dim**0.5, k))
        v = self.buffer(how["v"]).reshape(n, v_heads, v_dim)
        steps = np.logaddexp(self.buffer(how["decay"]) + self.vectors[how["dt_bias"]], 0).reshape(n, v_heads, -1)
        kept = np.exp(-np.exp(self.vectors[how["a_log"]])[:, None] * steps)
        beta = how["beta_scale"] * ACTIVATIONS["sigmoid"](self.buffer(how["beta"]))
        out = np.empty_like(v)
        for sequence, part in zip(self.sequences, self.parts, strict=True):
            memory = sequence.kept.get(state, np.zeros((v_heads, k_dim, v_dim)))
            for t in range(part.start, part.stop):
                memory = kept[t][..., None] * memory
                error = v[t] - np.einsum("hk,hkv->hv", k[t], memory)
                memory = memory + np.einsum("hk,hv->hkv", k[t], beta[t][:, None] * error)
                out[t] = np.einsum("hk,hkv->hv", q[t], memory)
            sequence.kept[state] = memory
        self.put(y, 0, 1, out.reshape(n, -1))

    def op_ssm(self, y: int, state: int, heads: int, groups: int, head_dim: int, state_dim: int, **how: Any) -> None:
        n = len(self.ids)
        x = self.buffer(how["x"]).reshape(n, heads, head_dim)
        b, c = (self.buffer(how[z]).reshape(n, groups, state_dim).repeat(heads // groups, 1) for z in "bc")
        dt = np.logaddexp(self.buffer(how["dt"]) + self.vectors[how["dt_bias"]], 0).clip(how["dt_min"], how["dt_max"])
        kept = np.exp(-np.exp(self.vectors[how["a_log"]]) * dt)
        out = np.empty_like(x)
        for sequence, part in zip(self.sequences, self.parts, strict=True):
            memory = sequence.kept.get(state, np.zeros((heads, state_dim, head_dim)))
            for t in range(part.start, part.stop):
                memory = kept[t][:, None, None] * memory + np.einsum("hn,hp->hnp", b[t], dt[t][:, None] * x[t])
                out[t] = np.einsum("hn,hnp->hp", c[t], memory)
            sequence.kept[state] = memory
        out = out + self.vectors[how["d"]][:, None] * x
        self.put(y, 0, 1, out.reshape(n, -1))

    def op_pointwise(self, kind: str, a: int, b: int, y: int, vector: int, act: str, **how: float) -> None:
        x, scale = self.buffer(a), how["scale"]
        other = self.buffer(b) if b >= 0 else np.zeros(0)
        match kind:
            case "add":
                result = (how["skip"] * x if how["skip"] else 0) + scale * other
            case "mul":
                result = scale * x * other
            case "act":
                result = scale * ACTIVATIONS[act](x)
            case "gate":
                result = scale * ACTIVATIONS[act](x).repeat(other.shape[1] // x.shape[1], 1) * other
            case "vector":
                result = scale * x * _tiled(self.vectors[vector], x.shape[1])
            case "softcap":
                result = how["cap"] * np.tanh(scale * x / how["cap"])
            case "gaussian_topk":
                cutoff = x.mean(-1, keepdims=True) + scale * x.std(-1, keepdims=True)
                result = (x - cutoff).clip(min=0)
        self.put(y, 0, 1, result)

    def op_streams_predict(self, x: int, coefficients: int, y: int, n: int) -> None:
        streams = self.buffer(x).reshape(len(self.ids), n, -1)
        p = self.buffer(coefficients).reshape(-1, n, n)
        self.put(y, 0, 1, (streams + p @ streams).reshape(len(streams), -1))

    def op_streams_correct(self, x: int, output: int, coefficients: int, n: int, active: int) -> None:
        streams = self.buffer(x).reshape(len(self.ids), n, -1)
        beyond = self.buffer(output) - streams[:, active]
        corrected = streams + (1 + self.buffer(coefficients))[..., None] * beyond[:, None]
        self.put(x, 0, 1, corrected.reshape(len(streams), -1))

    def op_streams_match(self, x: int, y: int) -> None:
        wanted, given = ((self.buffer(z) ** 2).mean(-1, keepdims=True) for z in (x, y))
        self.put(y, 0, 1, self.buffer(y) * np.sqrt(wanted / given.clip(min=1e-5)))

    def op_streams_mean(self, x: int, y: int, n: int) -> None:
        self.put(y, 0, 1, self.buffer(x).reshape(len(self.ids), n, -1).mean(1))

    def op_select(self, x: int, y: int) -> None:
        self.put(y, 0, 1, self.buffer(x))


def _tiled(vector: Any, width: int) -> Any:
    return vector if isinstance(vector, float) else np.tile(vector, width // len(vector))


def _gated(both: Array, width: int, act: str, gate_scale: float, limit: float, alpha: float, offset: float) -> Array:
    """act(gate) · up, from alternating panels of 16; `width` is that of the result."""
    panels = both.reshape(*both.shape[:-1], -1, 2, PANEL)
    gate, up = (panels[..., i, :].reshape(*both.shape[:-1], -1)[..., :width] for i in (0, 1))
    gate = gate_scale * gate
    if act == "clamped":
        gate, up = gate.clip(max=limit), up.clip(-limit, limit)
        return (up + offset) * gate * ACTIVATIONS["sigmoid"](alpha * gate)
    return ACTIVATIONS[act](gate) * up
