"""The SVG drawing of every known model: nothing overlaps or is cut, it says what the spec says, marks what differs."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from base64 import b64decode
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cases import CASES
from fontTools.ttLib import TTFont

import vitruvius as vt
from vitruvius import catalog
from vitruvius import spec as s
from vitruvius.errors import InputError
from vitruvius.views.description import factor
from vitruvius.views.drawing.cards import insides
from vitruvius.views.drawing.feedforward import choice
from vitruvius.views.drawing.figure import SHOWN
from vitruvius.views.drawing.font import measure, wrap
from vitruvius.views.drawing.kinds import LayerBlock, blocks, kinds, patterns, sections
from vitruvius.views.drawing.scene import Line, Point, Rect, Region, Text
from vitruvius.views.nouns import callouts
from vitruvius.views.svg import NIGHT, Box, Drawing, draw, draw_side_by_side

TOUCH = 0.5  # px by which two things may meet


@cache
def architecture(name: str) -> s.Decoder:
    return vt.architecture(name)


@cache
def drawing(name: str) -> Drawing:
    return draw(architecture(name))


def crowded() -> s.Decoder:
    """A Llama with everything that attention and experts can have."""
    llama = architecture("llama-3-8b")
    norm = s.QKNorm(norm=s.WeightlessNorm(), when="after_rope")

    def attention(a: s.Attention) -> s.Attention:
        assert isinstance(a.kv, s.KeyValue)
        temperature = s.LogTemperature(scale=0.1, floor=8192)
        return replace(
            a,
            gate=s.OutputGate(),
            softmax=s.Softmax(scale=0.1, sinks=True, softcap=30.0, temperature=temperature),
            q_norm=norm,
            kv=replace(a.kv, k_norm=norm, v_norm=s.WeightlessNorm(), v_scale=0.5, bias=True),
        )

    moe = s.MoE(
        router=s.Router(experts=10, active=3, score="sigmoid", bias=True, softcap=30.0, selection_bias=True, scale=2.5),
        expert=s.MLP(dim=500, act="relu2"),
        shared=s.ScalarGated(body=s.MLP(dim=1000, act="relu2", bias=True)),
        weigh="input",
        latent=1024,
        scale=0.5,
    )
    arch = s.edit(s.edit(llama, "layers.*.mixer.body", attention), "layers.*.mlp.body", moe)
    arch = s.edit(s.edit(arch, "layers.*.mlp.scale", 0.22), "layers.*.mixer.skip", 0.9)
    head = replace(arch.head, softcap=30.0, scale=0.1)
    return replace(arch, head=head, positions=s.LearnedPositions(count=4096), name="a crowded one")


def motley() -> s.Decoder:
    """A Llama with more kinds of layers than a drawing has panels for, and a long name with signs that XML minds."""
    arch = architecture("llama-3-8b")
    arch = s.edit(arch, "layers.1,3.mixer.body.kv", kept_by(0))
    values = s.KeyValue(heads=1, head_dim=64, v_dim=32)
    both = s.Attention(heads=1, head_dim=64, kv=values, mask=s.Everything(), softmax=s.Softmax(scale=0.125))
    arch = s.edit(arch, "layers.5.mixer.body", both)
    indexer = s.Indexer(heads=4, dim=128, topk=2048, query_width=1024, norm=s.LayerNorm(), positions=None)
    arch = s.edit(arch, "layers.7.mlp.body", indexer)  # a body that no drawing knows
    arch = s.edit(arch, "layers.8.mlp.body", s.MLP(dim=10, act="relu"))
    arch = s.edit(arch, "layers.9.mixer.body.mask", s.Chunk(size=10))
    return replace(arch, name="many kinds of layers <&\"'> with a name that goes on and on " * 3)


def edited() -> dict[str, s.Decoder]:
    return {
        "crowded": crowded(),
        "motley": motley(),
        "one layer": replace(architecture("gpt2"), layers=architecture("gpt2").layers[:1]),
    }


EDITED = ("crowded", "motley", "one layer")
PAIRS = (
    ("gemma-3-27b", "mistral-small-3.1-24b"),
    ("llama-3-8b", "deepseek-v3"),
    ("gpt2", "olmo-2-7b"),
    ("mixtral-8x7b", "qwen3-235b-a22b"),
)


# The checker


def overlap(a: Rect, b: Rect) -> bool:
    wide = min(a.right, b.right) - max(a.x, b.x)
    return wide > TOUCH and min(a.bottom, b.bottom) - max(a.y, b.y) > TOUCH


def holds(outer: Rect, inner: Rect) -> bool:
    return (
        inner.x >= outer.x - TOUCH
        and inner.y >= outer.y - TOUCH
        and inner.right <= outer.right + TOUCH
        and inner.bottom <= outer.bottom + TOUCH
    )


def crosses(a: Point, b: Point, box: Rect) -> bool:
    """Whether the segment from a to b passes through the box, made smaller by TOUCH (Liang and Barsky's clipping)."""
    low, high = 0.0, 1.0
    sides = (
        (a[0], b[0] - a[0], box.x + TOUCH, box.right - TOUCH),
        (a[1], b[1] - a[1], box.y + TOUCH, box.bottom - TOUCH),
    )
    for start, step, least, most in sides:
        if step == 0:
            if not least < start < most:
                return False
            continue
        first, last = sorted(((least - start) / step, (most - start) / step))
        low, high = max(low, first), min(high, last)
    return low < high


def faults(drawn: Drawing) -> list[str]:
    """What is wrong with a layout, one line each."""
    boxes = drawn.boxes
    by_name = {box.name: box for box in boxes}
    texts = [box for box in boxes if box.text is not None]
    shapes = [box for box in boxes if box.text is None]
    parents = {box.parent for box in shapes}
    round_ = {part.name for part, _ in drawn.root.walk() if part.shape == "circle"}  # badges sit on corners, on top
    cells = {part.name for part, _ in drawn.root.walk() if part.shape == "cells"}  # their rectangles may interlace
    leaves = [box for box in shapes if box.name not in parents | round_ | cells]
    found = [f"two shapes are called {box.name}" for box in boxes if by_name[box.name] is not box]
    found += [f"{box.name} lies outside of the drawing" for box in boxes if not holds(drawn.rect, box.rect)]
    found += [
        f"{box.name} ({box.text}) sticks out of {box.parent}"
        for box in boxes
        if box.parent and not holds(by_name[box.parent].rect, box.rect)
    ]
    found += [f"{a.text!r} lies on {b.text!r}" for a, b in combinations(texts, 2) if overlap(a.rect, b.rect)]
    found += [
        f"{text.text!r} lies on the shape {shape.name}"
        for text in texts
        for shape in shapes
        if text.parent not in round_ and overlap(text.rect, shape.rect) and shape.name not in ancestors(text, by_name)
    ]
    found += [f"{a.name} lies on {b.name}" for a, b in combinations(leaves, 2) if overlap(a.rect, b.rect)]
    found += [f"two cells of {part.name} are one" for part, _ in drawn.root.walk() if not apart(part.cells)]
    segments = [segment for line in drawn.lines for segment in pairwise(line.points)]
    found += [f"a line crosses {x.text!r}" for x in texts if any(crosses(a, b, x.rect) for a, b in segments)]
    found += [f"a line crosses {x.name}" for x in leaves if any(crosses(a, b, x.rect) for a, b in segments)]
    points = [point for line in drawn.lines for point in line.points]
    found += [f"a line leaves the drawing at {x}" for x in points if not holds(drawn.rect, Rect(*x, 0, 0))]
    return found


def apart(cells: tuple[Rect, ...]) -> bool:
    return len({(round(cell.x, 2), round(cell.y, 2)) for cell in cells}) == len(cells)


def ancestors(box: Box, by_name: dict[str, Box]) -> set[str]:
    found = set()
    while box.parent:
        found.add(box.parent)
        box = by_name[box.parent]
    return found


def find(root: Region, name: str) -> Region:
    return next(part for part, _ in root.walk() if part.name == name)


def swapped(drawn: Drawing, old: Region, new: Region) -> Drawing:
    """The same drawing with one part in another's place."""

    def change(part: Region) -> Region:
        return new if part is old else replace(part, parts=tuple(map(change, part.parts)))

    return replace(drawn, root=change(drawn.root))


@dataclass(frozen=True)
class Spoilt:
    what: str
    part: str
    fault: str


def spoil(drawn: Drawing, case: Spoilt) -> Drawing:
    part = find(drawn.root, case.part)
    rect = part.rect
    x, y = rect.center
    new = {
        "moved up onto the next": part.moved(0, -30),
        "moved out of its panel": part.moved(200, 0),
        "moved out of the drawing": part.moved(0, -5000),
        "too narrow for its label": replace(part, rect=Rect(x - 20, rect.y, 40, rect.height)),
        "crossed by a line": replace(part, lines=(Line(((rect.x - 9, y), (rect.right + 9, y))),)),
        "another's text on it": replace(part, parts=(Region("x", rect, texts=(Text("Text", x - 40, y + 4),)),)),
    }[case.what]
    return swapped(drawn, part, new)


@pytest.mark.parametrize(
    "case",
    [
        Spoilt("moved up onto the next", "layers.0.mixer.pre", "layers.0.mixer.body"),
        Spoilt("moved out of its panel", "layers.0.mixer.body", "sticks out of layers.0"),
        Spoilt("moved out of the drawing", "stream.embedding", "outside of the drawing"),
        Spoilt("too narrow for its label", "layers.0.mlp.body", "sticks out of layers.0.mlp.body"),
        Spoilt("crossed by a line", "stream.head", "a line crosses 'Output layer'"),
        Spoilt("another's text on it", "stream.head", "'Output layer' lies on 'Text'"),
    ],
    ids=lambda case: case.what,
)
def test_checker_finds_a_broken_layout(case: Spoilt) -> None:
    drawn = drawing("llama-3-8b")
    assert not faults(drawn)
    assert any(case.fault in fault for fault in faults(spoil(drawn, case)))


# Every drawing


@pytest.mark.parametrize("name", [entry.id for entry in catalog.entries() if not entry.like])
def test_nothing_overlaps_or_is_cut(name: str) -> None:
    assert faults(drawing(name)) == []


@pytest.mark.parametrize("name", EDITED)
def test_nothing_overlaps_in_an_edited_one(name: str) -> None:
    drawn = draw(edited()[name])
    assert faults(drawn) == []
    ElementTree.fromstring(drawn.svg)


@pytest.mark.parametrize("names", PAIRS, ids=" ".join)
def test_nothing_overlaps_side_by_side(names: tuple[str, str]) -> None:
    drawn = draw_side_by_side([*map(architecture, names)])
    assert faults(drawn) == []
    check_document(drawn)


@pytest.mark.parametrize("name", [entry.id for entry in catalog.entries() if not entry.like])
def test_document(name: str) -> None:
    check_document(drawing(name))


def check_document(drawn: Drawing) -> None:
    """Well-formed, accessible, not large, complete in itself, without scripts, each text in the embedded font."""
    assert len(drawn.svg.encode()) < 150_000
    assert "<script" not in drawn.svg
    assert re.findall(r"https?://[^\"]*", drawn.svg) == ["http://www.w3.org/2000/svg"]
    root = ElementTree.fromstring(drawn.svg)
    space = {"": "http://www.w3.org/2000/svg"}
    assert root.get("role") == "img"
    assert root.findtext("title", namespaces=space)
    assert root.findtext("desc", namespaces=space)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    fonts = embedded_fonts(drawn.svg)
    used: dict[int, set[str]] = {400: set(), 600: set()}
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        used[600 if " b" in (text.get("class") or "") else 400] |= set(text.text or "")
    for weight, characters in used.items():
        assert characters <= set(map(chr, fonts[weight].getBestCmap()))
    texts = [box.text for box in drawn.boxes if box.text is not None]
    assert sorted(texts) == sorted(text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text"))


def embedded_fonts(svg: str) -> dict[int, TTFont]:
    found = re.findall(r"font-weight:(\d+);src:url\(data:font/otf;base64,([^)]*)\)", svg)
    return {int(weight): TTFont(BytesIO(b64decode(data))) for weight, data in found}


# What it says


def texts(drawn: Drawing, within: str = "") -> list[str]:
    """The lines of text of the parts whose name begins so, without the letters of badges."""
    boxes = [box for box in drawn.boxes if box.text is not None and len(box.text) > 1]
    return [str(box.text) for box in boxes if box.name.startswith(within)]


def said(drawn: Drawing, within: str = "") -> str:
    """The same in one, as if no line had been broken."""
    return " ".join(texts(drawn, within))


@pytest.mark.parametrize("name", [entry.id for entry in catalog.entries() if not entry.like])
def test_figures_are_the_spec_s(name: str) -> None:
    arch, drawn = architecture(name), drawing(name)
    everywhere = said(drawn)
    assert f"{len(arch.layers)} layers" in said(drawn, "ladder")
    assert f"vocabulary of {arch.embedding.vocab:,}" in everywhere
    assert f"embedding width {arch.width:,}" in everywhere
    assert f"context of {arch.context:,} tokens" in everywhere
    assert f"{arch.width:,} → {arch.head.vocab:,}" in everywhere
    assert ("shares its table" in everywhere) == arch.embedding.tied
    assert ("Learned positions" in everywhere) == (arch.positions is not None)
    beside = ""
    for block in blocks(arch)[:SHOWN]:  # what one block has said, the next need not repeat
        beside += said(drawn, f"notes.layers.{block.indices[0]}.")
        for kind in block.kinds:
            for branch in kind.layer.branches:
                for wanted in expected(branch.body):
                    assert wanted in beside, f"{wanted!r} is not beside the layer {kind.name}"


@pytest.mark.parametrize("name", catalog.names())
def test_what_stands_beside_a_part_is_what_its_description_says(name: str) -> None:
    """All of it, nothing else, and what only some kinds of layers have in the colours of just these."""
    arch, drawn = architecture(name), drawing(name)
    told: dict[str, set[frozenset[tuple[str, frozenset[str]]]]] = {}  # "mixer.body" -> what blocks below have said
    for block in blocks(arch):
        for slot, variants in bodies(block).items():
            wanted: dict[str, set[str]] = {}
            for number, spec in variants:
                for each in callouts(spec):
                    if not each.quiet:
                        wanted.setdefault(each.text, set()).add(f"kind-{number}")
            several = {text: frozenset(c) if len(c) < len(variants) else frozenset() for text, c in wanted.items()}
            if not wanted:
                continue
            start = f"layers.{block.indices[0]}"
            note = find(drawn.root, f"notes.{start}.{start}.{slot}")
            words = " ".join(text.string for text in note.texts)
            if words.startswith("as in the "):
                assert frozenset(several.items()) in told[slot], f"{slot} of {block.name} has not been told"
                continue
            told.setdefault(slot, set()).add(frozenset(several.items()))
            for text in sorted(several, key=len, reverse=True):
                assert text in words
                assert squares_before(note, text) == several[text], text
                words = words.replace(text, "", 1)
            assert not words.strip(), f"nothing says {words!r} of {slot} of {block.name}"


def squares_before(note: Region, text: str) -> frozenset[str]:
    """The colours before the line of a note that begins so."""
    line = next(line for line in note.texts if text.startswith(line.string))
    return frozenset(part.role for part in note.parts if abs(part.rect.center[1] - line.y + 4.0) < 3)


def bodies(block: LayerBlock) -> dict[str, list[tuple[int, s.Spec]]]:
    """The bodies of the kinds in a block by where they stand in a layer, but for those side by side."""
    found: dict[str, list[tuple[int, s.Spec]]] = {}
    for kind, number in zip(block.kinds, block.numbers, strict=True):
        for branch in kind.layer.branches:
            if not isinstance(branch.body, s.Parallel):
                found.setdefault(f"{branch.name}.body", []).append((number, branch.body))
    return found


def test_factors_are_written_as_papers_write_them() -> None:
    values = (12.0, 1 / 128, 0.125, 5376**0.5, 128**-0.5, 0.22, 1.0)
    assert [factor(value) for value in values] == ["× 12", "÷ 128", "÷ 8", "× √5,376", "÷ √128", "× 0.22", "× 1"]


def test_every_factor_of_falcon_h1_is_drawn() -> None:
    config = CASES["falcon_h1"]
    boxes = [box for box in draw(vt.architecture(config)).boxes if not box.name.startswith("stream.repeat")]
    words = [box.text for box in boxes if box.text]
    factors = [*config["ssm_multipliers"], *config["mlp_multipliers"]]
    factors += [value for key, value in config.items() if key.endswith("_multiplier") and key != "key_multiplier"]
    assert len(factors) == 13
    shown = Counter(word for word in words if word.startswith(("× ", "÷ ")))
    assert shown == Counter(factor(value) for value in factors)
    assert any(word.startswith("q · k × ") for word in words)  # the keys' factor is in the scores'


def test_what_is_left_out_is_named() -> None:
    assert "The text model; a vision tower of 423M parameters is not drawn" in texts(drawing("gemma-3-27b"), "header")
    assert not [line for line in texts(drawing("gemma-3-1b"), "header") if "not drawn" in line]


def test_norms_inside_a_mixture_are_drawn_and_told() -> None:
    """Gemma 4: the router and the experts each read the stream through a norm of their own."""
    drawn = drawing("gemma-4-26b-a4b")
    inside = {part.path for part, _ in drawn.root.walk() if part.role == "norm" and part.name.startswith("inside.")}
    mixture = next(path.removesuffix(".router.norm") for path in inside if path.endswith(".router.norm"))
    assert f"{mixture}.norm" in inside
    words = said(drawn)
    assert "router reads x through" in words
    assert "experts read x through RMSNorm" in words


def test_headers() -> None:
    names = ("gpt2", "gemma-3-27b", "deepseek-v3")
    assert {name: texts(drawing(name), "header")[1:] for name in names} == {
        "gpt2": ["124M parameters · 12 layers · width 768 · context 1,024"],
        "gemma-3-27b": [
            "27.0B parameters · 62 layers · width 5,376 · context 131,072",
            "The text model; a vision tower of 423M parameters is not drawn",
            "Attention, from the first layer: 5 : 1, 10 × (5 window 1,024, 1 full), then 2 window 1,024",
        ],
        "deepseek-v3": [
            "671B parameters, 37.6B active · 61 layers · width 7,168 · context 163,840",
            "Feed-forward, from the first layer: 3 dense, then 58 MoE",
        ],
    }


def expected(body: s.Spec) -> list[str]:
    """What must be told of a body, put together here from its fields."""
    match body:
        case s.Attention():
            window = [f"sliding window of {body.mask.size:,}"] if isinstance(body.mask, s.Window) else []
            groups = [f"{body.kv.heads} key/value head"] if body.kv.heads != body.heads else []
            rope = [f"θ = {body.positions.theta:,.0f}"] if isinstance(body.positions, s.RoPE) else []
            norm = (
                ["QK norm"] if isinstance(body.kv, s.KeyValue) and body.q_norm and body.q_norm == body.kv.k_norm else []
            )
            rope += ["no RoPE"] if body.positions is None and isinstance(body.kv, s.KeyValue) else []
            return [f"{body.heads} heads", f"head dimension {body.head_dim}", *window, *groups, *rope, *norm]
        case s.LatentAttention():
            queries = [f"latent of {body.q.rank:,}"] if body.q else []
            widths = f"{body.nope_dim} + {body.rope_dim} for scores"
            return [f"{body.heads} heads", widths, f"{body.v_dim} for values", f"one of {body.kv.rank}", *queries]
        case s.MoE():
            router = body.router
            of_groups = [f"{router.groups.active} of {router.groups.count}"] if router.groups else []
            groups = of_groups if router.groups and router.groups.count > 1 else []
            chosen = f"{router.active} of {router.experts:,} experts per token"
            shared = ["a shared expert"] if body.shared else []
            return [chosen, f"hidden {body.expert.dim:,}", f"router: {router.score}", *groups, *shared]
        case s.MLP() | s.GatedMLP():
            return [f"hidden dimension {body.dim:,}"]
    return []


@pytest.mark.parametrize("name", [entry.id for entry in catalog.entries() if not entry.like])
def test_norms_and_sums_stand_where_they_are(name: str) -> None:
    arch, drawn = architecture(name), drawing(name)
    shapes = {box.name: box.rect for box in drawn.boxes if box.text is None}
    stacks = {"": arch} | ({"encoder.": arch.encoder} if arch.encoder else {})
    for above, stack in stacks.items():
        for block in blocks(stack)[:SHOWN]:
            start = f"{above}layers.{block.indices[0]}"
            assert start in shapes
            check_order(block.kinds[0].layer.branches, start, shapes)


def check_order(branches: tuple[s.Branch, ...], start: str, shapes: dict[str, Rect]) -> None:
    """Each branch's steps one above the other, all that are there and none that is not."""
    upwards: list[str] = []
    for branch in branches:
        path = f"{start}.{branch.name}"
        slots = ["fork", "pre", "body", "post", "scale", "sum"]
        there = {"fork", "body", "sum"} | {slot for slot in ("pre", "post") if getattr(branch, slot)}
        there |= {"scale"} if branch.scale != 1.0 else set()
        if isinstance(branch.body, s.Parallel):
            there.remove("body")
            for inner in branch.body.branches:
                assert f"{path}.body.{inner.name}.body" in shapes
                assert (f"{path}.body.{inner.name}.post" in shapes) == (inner.post is not None)
        assert {slot for slot in slots if f"{path}.{slot}" in shapes} == there
        assert (f"{path}.skip" in shapes) == (branch.skip != 1.0)
        upwards += [f"{path}.{slot}" for slot in slots if slot in there]
    heights = [shapes[name].y for name in upwards]
    assert heights == sorted(set(heights), reverse=True)


def test_ladder_shows_every_layer_in_its_kind_s_colour() -> None:
    arch, drawn = architecture("gemma-3-27b"), drawing("gemma-3-27b")
    local, full = (find(drawn.root, f"ladder.{i}") for i in range(2))
    assert (len(local.cells), len(full.cells)) == (52, 10)
    cells = [(cell.y, "local") for cell in local.cells] + [(cell.y, "full") for cell in full.cells]
    order = [kind for _, kind in sorted(cells, reverse=True)]  # from the bottom
    windows = ["local" if isinstance(x.branches[0].body.mask, s.Window) else "full" for x in arch.layers]
    assert order == windows
    assert local.role != full.role
    assert "52 × window 1,024: 0–4, 6–10, 12–16, …" in said(drawn)


def test_layers_that_refer_to_other_layers_are_one_kind() -> None:
    arch = s.edit(architecture("llama-3-8b"), "layers.1,3.mixer.body.kv", kept_by(0))
    arch = s.edit(arch, "layers.5.mixer.body.kv", kept_by(2))
    assert [kind.indices for kind in kinds(arch)] == [(0, 2, 4, *range(6, 32)), (1, 3, 5)]
    assert [[kind.indices[0] for kind in block.kinds] for block in blocks(arch)] == [[0, 1]]
    drawn = draw(arch, {"layers.5.mixer.body.kv"})
    assert {"layers.0.mixer.body"} <= different(drawn)
    assert "keys and values of an earlier" in marked_texts(drawn)


def kept_by(layer: int) -> s.LayerKeyValue:
    return s.LayerKeyValue(layer=layer, heads=8, head_dim=128, v_dim=128)


# The order of the layers


@pytest.mark.parametrize("name", catalog.names())
def test_blocks_stand_above_each_other_in_the_order_of_the_network(name: str) -> None:
    """And each layer is in one: nothing of the stream can be read as a branch beside another."""
    arch, drawn = architecture(name), drawing(name)
    found = blocks(arch)
    assert sorted(index for block in found for index in block.indices) == list(range(len(arch.layers)))
    assert len(found) <= SHOWN
    panels = [find(drawn.root, f"layers.{block.indices[0]}").rect for block in found]
    assert all(upper.bottom < lower.y for lower, upper in pairwise(panels))
    assert len({(panel.x, panel.width) for panel in panels}) == 1


def test_brackets_say_how_often() -> None:
    names = ("deepseek-v3", "qwen3-next-80b-a3b", "glam-64b-64e", "kimi-linear-48b-a3b", "gemma-3-27b")
    words = {name: [text for part, _ in drawing(name).root.walk() for text in _repeats(part)] for name in names}
    assert words == {
        "deepseek-v3": ["× 3", "× 58"],
        "qwen3-next-80b-a3b": ["× 3", "× 1", "× 12"],
        "glam-64b-64e": ["× 1", "× 1", "× 32"],
        "kimi-linear-48b-a3b": ["× 1", "19 layers", "7 layers", "in turn"],
        "gemma-3-27b": ["× 62"],
    }


def _repeats(part: Region) -> list[str]:
    return [text.string for text in part.texts] if re.match(r"stream\.(repeat|turns)\.", part.name) else []


@pytest.mark.parametrize("name", catalog.names())
def test_brackets_add_up_to_all_layers(name: str) -> None:
    arch = architecture(name)
    for section in sections(blocks(arch)):
        layers = sum(len(block.indices) for block in section.blocks)
        assert section.counts is None or sum(section.counts) * section.times == layers


def test_patterns_are_those_that_people_know() -> None:
    assert {name: patterns(architecture(name)) for name in PATTERNS} == PATTERNS


PATTERNS = {
    "gemma-3-27b": {"attention": "5 : 1, 10 × (5 window 1,024, 1 full), then 2 window 1,024"},
    "kimi-linear-48b-a3b": {
        "attention": "3 : 1, 6 × (3 KDA, 1 MLA), then 2 KDA, 1 MLA",
        "feed-forward": "1 dense, then 26 MoE",
    },
    "mimo-v2-flash": {
        "attention": "5 : 1, 1 full, then 4 window 128, 1 full, then 7 × (5 window 128, 1 full)",
        "feed-forward": "1 dense, then 47 MoE",
    },
    "trinity-mini-26b": {
        "attention": "3 : 1, 8 × (3 window 2,048, 1 full)",
        "feed-forward": "2 dense, then 30 MoE",
    },
    "gemma-3n-e2b": {
        "attention": "4 : 1, 6 × (4 window 512, 1 full)",
        "keys and values": "20 own, then 10 an earlier layer's",
        "feed-forward": "10 sparse, then 20 dense",
    },
    "glm-5.2": {
        "attention": "3 : 1, 3 indexer, then 18 × (3 choice of an earlier layer, 1 indexer), "
        "then 3 choice of an earlier layer",
        "feed-forward": "3 dense, then 75 MoE",
    },
    "llama-3-8b": {},
}


@pytest.mark.parametrize("name", catalog.names())
def test_no_text_is_smaller_than_can_be_read(name: str) -> None:
    assert min(text.size for part, _ in drawing(name).root.walk() for text in part.texts) >= 11


def test_the_encoder_s_output_goes_to_every_attention_that_looks_across() -> None:
    drawn = drawing("switch-base-8")
    output = find(drawn.root, "encoder.stream.output").rect
    boxes = [find(drawn.root, f"layers.{i}.cross.body").rect for i in (0, 1)]
    streams = find(drawn.root, "across")
    assert [(line.points[0], line.points[-1]) for line in streams.lines] == [
        ((output.center[0], output.y), (box.x, box.center[1])) for box in boxes
    ]
    assert all(line.arrow for line in streams.lines)


def test_insides() -> None:
    titles = {
        name: sorted(part.texts[0].string for part, _ in drawing(name).root.walk() if part.role.startswith("card-"))
        for name in ("gpt2", "gemma-3-27b", "smollm3-3b", "mixtral-8x7b", "deepseek-v3")
    }
    assert titles == {
        "gpt2": ["Feed-forward", "Multi-head attention"],
        "gemma-3-27b": ["GeGLU feed-forward", "Grouped-query attention"],
        "smollm3-3b": ["Grouped-query attention", "Grouped-query attention", "SwiGLU feed-forward"],
        "mixtral-8x7b": ["Grouped-query attention", "Mixture of experts", "SwiGLU feed-forward"],
        "deepseek-v3": [
            "Mixture of experts",
            "Multi-head latent attention",
            "Multi-token prediction",
            "SwiGLU feed-forward",
        ],
    }


def test_a_square_for_each_expert() -> None:
    drawn = drawing("deepseek-v3")
    squares = {part.role: part.cells for part, _ in drawn.root.walk() if part.role.startswith("expert-")}
    assert (len(squares["expert-active"]), len(squares["expert-idle"])) == (8, 248)
    rows = sorted({round(cell.y, 3) for cells in squares.values() for cell in cells})
    assert len(rows) == 8
    assert len({round(cell.y, 3) for cell in squares["expert-active"]}) == 4  # tokens choose from 4 of the 8 groups


@pytest.mark.parametrize(("experts", "active"), [(8, 2), (16, 1), (128, 8), (384, 8), (64, 6), (3, 3), (10, 7)])
def test_the_example_chooses_as_many_experts_as_the_router(experts: int, active: int) -> None:
    rows = choice(s.Router(experts=experts, active=active))
    assert sum(map(len, rows)) == experts
    assert sum(map(sum, rows)) == active


# Highlighting


def different(drawn: Drawing) -> set[str]:
    return {box.path for box in drawn.boxes if box.differs}


def test_nothing_is_highlighted_by_itself() -> None:
    llama = architecture("llama-3-8b")
    assert different(drawing("llama-3-8b")) == set()
    same = draw_side_by_side([llama, replace(llama, name="its twin")])
    assert {box.name for box in same.boxes if box.differs} == {"legend.detail.color", "legend.whole.color"}


def test_highlight_marks_exactly_what_differs() -> None:
    llama, body = architecture("llama-3-8b"), "layers.0.mixer.body"
    keys = draw(llama, {f"{body}.kv.heads"})
    assert different(keys) == {body, f"{body}.kv.k", f"{body}.kv.v"}
    assert marked_texts(keys) == {"32 heads, 8 key/value heads", "8 × 128"}
    theta = draw(llama, {f"{body}.positions.theta"})
    assert different(theta) == {body, f"{body}.positions"}
    assert marked_texts(theta) == {"RoPE, θ = 500,000"}
    assert different(draw(llama, {"context"})) == {"context"}
    assert marked_texts(draw(llama, {"layers"})) == {"32 layers"}


def marked_texts(drawn: Drawing) -> set[str]:
    return {box.text for box in drawn.boxes if box.text is not None and box.differs}


def test_highlight_of_an_expert_marks_its_inside() -> None:
    drawn = draw(architecture("mixtral-8x7b"), {"layers.0.mlp.body.expert.dim"})
    body = "layers.0.mlp.body"
    steps = {f"{body}.experts.{step}" for step in ("gate", "up", "down")}
    assert different(drawn) == {body, f"{body}.experts", *steps}
    assert {"expert: SwiGLU, hidden 14,336", "4,096 → 14,336", "14,336 → 4,096"} <= marked_texts(drawn)


def test_a_part_that_is_another_is_marked_as_a_whole() -> None:
    drawn = draw(architecture("llama-3-8b"), {"layers.0.mlp.body", "layers.0.mixer.pre"})
    whole = {part.path for part, _ in drawn.root.walk() if part.differs == "whole"}
    assert whole == {"layers.0.mlp.body", "layers.0.mixer.pre"}
    assert marked_texts(drawn) == {"SwiGLU feed-forward", "RMSNorm"}


def test_a_path_counts_for_the_layer_that_is_drawn() -> None:
    gemma = architecture("gemma-3-27b")
    assert different(draw(gemma, {"layers.61.mixer.body.mask"})) >= {"layers.0.mixer.body"}
    assert marked_texts(draw(gemma, {"layers.61.mixer.body.mask"})) == {"sliding window of 1,024"}
    assert marked_texts(draw(gemma, {"layers.11.mixer.body.mask"})) == {"sees all earlier tokens"}


def test_encoder_and_decoder_are_highlighted_apart() -> None:
    arch = architecture("switch-base-8")
    assert "output of the encoder" in texts(drawing("switch-base-8"))
    assert different(draw(arch, {"encoder.layers.4.mlp.body.dim"})) >= {"encoder.layers.0.mlp.body"}
    assert "layers.0.mlp.body" not in different(draw(arch, {"encoder.layers.4.mlp.body.dim"}))
    assert "encoder.layers.0.mlp.body" not in different(draw(arch, {"layers.4.mlp.body.dim"}))


def test_what_is_the_usual_is_told_only_where_it_differs() -> None:
    llama = architecture("llama-3-8b")
    assert "no QK norm" not in texts(drawing("llama-3-8b"))
    assert "no QK norm" in marked_texts(draw(llama, {"layers.0.mixer.body.q_norm"}))


def test_side_by_side_marks_both_sides() -> None:
    drawn = draw_side_by_side([architecture("gemma-3-27b"), architecture("mistral-small-3.1-24b")])
    a, b = ({box.text for box in drawn.boxes if box.differs and box.text and box.name.startswith(x)} for x in "ab")
    assert {"62 layers", "sliding window of 1,024", "QK norm of each head", "hidden dimension 21,504"} <= a
    assert {"40 layers", "sees all earlier tokens", "no QK norm", "hidden dimension 32,768"} <= b
    assert not {"head dimension 128"} & (a | b)
    assert not {text for text in a | b if "context" in text}
    norms = {part.path: part.differs for part, _ in drawn.root.walk() if part.name == "a.layers.0.mixer.post"}
    assert norms == {"layers.0.mixer.post": "whole"}  # Mistral has none there


# The file


def test_drawing_twice_gives_the_same_bytes() -> None:
    code = (
        "import hashlib, vitruvius as vt; from vitruvius.views.svg import draw_side_by_side as d;"
        "svg = d([*map(vt.architecture, ('gemma-3-1b', 'deepseek-v3'))]).svg;"
        "print(hashlib.sha256(svg.encode()).hexdigest())"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    here = draw_side_by_side([architecture("gemma-3-1b"), architecture("deepseek-v3")]).svg
    assert hashes == {hashlib.sha256(here.encode()).hexdigest() + "\n"}


def test_save(tmp_path: Path) -> None:
    folder, drawn = tmp_path, drawing("gpt2")
    drawn.save(folder / "gpt2.svg")
    assert (folder / "gpt2.svg").read_text("utf-8") == drawn.svg == drawn._repr_svg_()
    assert [file.name for file in folder.iterdir()] == ["gpt2.svg"]
    with pytest.raises(InputError, match="SVG, PNG or PDF"):
        drawn.save(folder / "gpt2.jpg")
    with pytest.raises(InputError, match="folder"):
        drawn.save(folder / "missing" / "gpt2.svg")


def test_themes_differ_in_colours_only() -> None:
    day, night = drawing("gpt2"), draw(architecture("gpt2"), theme=NIGHT)
    assert NIGHT.paper in night.svg
    assert NIGHT.paper not in day.svg
    assert day.boxes == night.boxes


# Measuring


def test_measures_are_the_font_s() -> None:
    # Inter 3.019, units per em 2816: advances of H, a and a space, read with fontTools' ttx.
    font = embedded_fonts(drawing("gpt2").svg)[400]
    em, advance, glyph = font["head"].unitsPerEm, font["hmtx"], font.getBestCmap()
    text = "12 heads"
    assert measure(text, 12) == pytest.approx(12 * sum(advance[glyph[ord(c)]][0] for c in text) / em)
    assert measure(text, 12, bold=True) > measure(text, 12)


def test_wrap() -> None:
    text = "keys and values from one of 512"
    lines = wrap(text, 120, 12)
    assert len(lines) > 1
    assert " ".join(lines) == text
    assert all(measure(line, 12) <= 120 for line in lines)
    endless = wrap("x" * 100, 60, 12)
    assert "".join(endless) == "x" * 100
    assert all(measure(line, 12) <= 60 for line in endless)


INSETS = {
    "qwen3-next-80b-a3b": ("Gated DeltaNet", "S ← α S + β k × (v − α k · S)", "32 × 128 × 128, kept for each sequence"),
    "kimi-linear-48b-a3b": (
        "Kimi Delta Attention",
        "S ← α S + β k × (v − k · α S)",
        "32 × 128 × 128, kept for each sequence",
    ),
    "nemotron-3-nano-30b-a3b": ("Mamba-2", "S ← exp(−A · dt) S + dt · b × x", "64 × 128 × 64, kept for each sequence"),
    "deepseek-v3.2": ("Indexer", "Σ over heads  w · relu(q · k)", "the best 2,048 tokens"),
}


@pytest.mark.parametrize("name", INSETS)
def test_what_is_new_has_an_inset(name: str) -> None:
    shown = {box.text for box in drawing(name).boxes if box.name.startswith("inside.")}
    assert set(INSETS[name]) <= shown


def test_every_mixer_of_the_catalog_has_an_inset() -> None:
    bodies = {
        type(branch.body)
        for entry in vt.catalog()
        for layer in architecture(entry.id).layers
        for branch in layer.branches
    }
    without = {body.__name__ for body in bodies} - {
        type(spec).__name__ for entry in vt.catalog() for spec in _lettered(architecture(entry.id))
    }
    assert without <= {"Parallel", "PerLayerInput"}


def _lettered(arch: s.Decoder) -> list[s.Spec]:
    return [spec for inside in insides([("", kind) for kind in kinds(arch)]) for spec in inside.specs]


@pytest.mark.parametrize("name", ["deepseek-v3", "switch-base-8", "gemma-3n-e2b"])
def test_without_insides_only_the_stream_is_left(name: str) -> None:
    folded = draw(architecture(name), insides=False)
    assert faults(folded) == []
    whole = {box.name for box in drawing(name).boxes}
    assert {box.name for box in folded.boxes} == {n for n in whole if not n.startswith("inside.")}
    assert folded.rect.height < drawing(name).rect.height
