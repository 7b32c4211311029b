"""The text drawing and the comparison: golden files for every known model, and proofs that nothing is overlooked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from vitruvius import catalog, spec
from vitruvius.architectures import read
from vitruvius.spec import (
    Attention,
    Branch,
    Causal,
    Decoder,
    GatedMLP,
    Head,
    Layer,
    LayerNorm,
    MoE,
    RMSNorm,
    Router,
    Spec,
    Window,
    edit,
)
from vitruvius.views import Description, Difference, compare, describes, draw, tree
from vitruvius.views.aspects import aspects
from vitruvius.views.description import _DESCRIBED
from vitruvius.views.diff import properties
from vitruvius.views.drawing.kinds import kinds as drawn_kinds
from vitruvius.views.drawing.kinds import patterns
from vitruvius.views.layer_periods import Stretch, grouped, kinds, pattern
from vitruvius.views.nouns import describe, facts, phrase, title
from vitruvius.views.origins import as_precise, origins
from vitruvius.views.search import holds, searchable
from vitruvius.views.table import fitted, table

GOLDEN = Path(__file__).parent / "golden"
ENTRIES = [entry for entry in catalog.entries() if not entry.like]  # the others differ in sizes only
BY_ENTRY = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)


def arch(name: str) -> Decoder:
    entry = catalog.entry(name)
    return read(entry.config, entry.id, catalog.implicit)


def changes(a: Decoder, b: Decoder) -> dict[str, tuple[Any, Any]]:
    difference = compare(a, b)
    return {change.what: (change.a, change.b) for change in (*difference.nouns, *difference.numbers)}


# ------------------------------------------------------------------ every known model


@BY_ENTRY
def test_drawing_and_difference_are_the_golden_ones(entry: catalog.Entry, golden: Callable[[str, str], None]) -> None:
    mine = arch(entry.id)
    parts = [tree(mine)]
    if entry.predecessor:
        parts.append(str(compare(arch(entry.predecessor), mine)))
    golden(f"{entry.id}.txt", "\n\n".join(parts) + "\n")


def test_every_golden_file_belongs_to_a_model() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == {entry.id for entry in ENTRIES}


@BY_ENTRY
def test_a_drawing_fits_a_terminal_and_is_the_same_each_time(entry: catalog.Entry) -> None:
    text = tree(arch(entry.id))
    assert text == tree(arch(entry.id))
    assert all(0 < len(line) <= 100 and line == line.rstrip() for line in text.splitlines())


@BY_ENTRY
def test_patterns_tell_every_layer_of_every_kind(entry: catalog.Entry) -> None:
    """Read back, they put each layer where the definition has it."""
    mine = arch(entry.id)
    told = [read_back(text) for text in patterns(mine).values()]
    found: dict[str, list[int]] = {}
    for kind in drawn_kinds(mine):  # "dense (1)" and "dense (2)" are two that no word tells apart
        found.setdefault(re.sub(r" \(\d+\)$", "", kind.name) if "layer (" not in kind.name else kind.name, []).extend(
            kind.indices
        )
    if not told:
        assert len(found) == 1
        return
    places: dict[tuple[str, ...], list[int]] = {}
    for index, words in enumerate(zip(*told, strict=True)):
        places.setdefault(words, []).append(index)
    assert list(places.values()) == [sorted(indices) for indices in found.values()]


def read_back(text: str) -> list[str]:
    """The sequence that a pattern tells."""
    found, depth, start = [], 0, 0
    text = re.sub(r"^\d+ : 1, ", "", text) + ", "
    for i, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if not depth and text[i : i + 2] == ", ":
            found.append(text[start:i].removeprefix("then "))
            start = i + 2
    sequence = []
    for part in found:
        if again := re.fullmatch(r"(\d+) × \((.*)\)", part):
            sequence += int(again[1]) * read_back(again[2])
        else:
            count, name = part.split(" ", 1)
            sequence += int(count) * [name]
    return sequence


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [
        ("aaaa", "4 a"),
        ("abab", "2 × (1 a, 1 b)"),
        ("aaab" * 3 + "aa", "3 : 1, 3 × (3 a, 1 b), then 2 a"),
        ("aaa" + "b" * 9, "3 a, then 9 b"),
        ("baaaab" + "aaaaab" * 7, "5 : 1, 1 b, then 4 a, 1 b, then 7 × (5 a, 1 b)"),
        ("ababac" * 2 + "ab", "2 × (2 × (1 a, 1 b), 1 a, 1 c), then 1 a, 1 b"),
    ],
)
def test_the_units_of_a_pattern_end_on_what_is_rare(sequence: str, expected: str) -> None:
    assert pattern(list(sequence)) == expected
    assert read_back(expected) == list(sequence)


@BY_ENTRY
def test_a_model_is_its_own_equal_under_any_name(entry: catalog.Entry) -> None:
    mine = arch(entry.id)
    difference = compare(mine, replace(mine, name="other"))
    assert difference.same
    assert (difference.nouns, difference.numbers, difference.paths) == ((), (), frozenset())
    assert difference.changes() == f"{entry.id} and other are the same architecture"


# ------------------------------------------------------------------ patterns


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [
        ("aaaa", ["4 × a"]),
        ("a", ["1 × a"]),
        ("abab", ["2 × (1 × a, 1 × b)"]),
        ("aaab" * 3, ["3 × (3 × a, 1 × b)"]),
        ("aaab" * 3 + "aa", ["3 × (3 × a, 1 × b)", "2 × a"]),
        ("aaa" + "b" * 9, ["3 × a", "9 × b"]),
        ("baab" + "ab" * 4, ["1 × b", "2 × a", "4 × (1 × b, 1 × a)", "1 × b"]),
        ("abcd", ["1 × a", "1 × b", "1 × c", "1 × d"]),
    ],
)
def test_the_longest_repetition_with_the_shortest_period_wins(sequence: str, expected: list[str]) -> None:
    assert [str(stretch) for stretch in grouped(list(sequence))] == expected


def test_a_stretch_knows_where_it_stands() -> None:
    first, rest = grouped(list("aaaaab" * 10 + "aa"))
    assert (first, first.last, first.period) == (Stretch(0, ((5, "a"), (1, "b")), 10), 59, 6)
    assert (rest, rest.last) == (Stretch(60, ((2, "a"),)), 61)


def test_kinds_are_named_by_what_tells_them_apart() -> None:
    names = {
        name: [kind.name for kind in kinds(arch(name))] for name in ("gemma-3-27b", "deepseek-v3", "smollm3-3b", "gpt2")
    }
    assert names == {
        "gemma-3-27b": ["window 1,024", "full"],
        "deepseek-v3": ["dense", "MoE"],
        "smollm3-3b": ["RoPE", "NoPE"],
        "gpt2": ["layer"],
    }


def test_kinds_that_no_word_tells_apart_are_numbered() -> None:
    scaled = edit(arch("gpt2"), "layers.3.mixer.body.softmax.scale", 0.5)
    assert [kind.name for kind in kinds(scaled)] == ["layer (1)", "layer (2)"]
    both = edit(edit(arch("gemma-3-1b"), "layers.0.mlp.body.dim", 64), "layers.1.mlp.body.dim", 65)
    assert [kind.name for kind in kinds(both)] == ["window 512 (1)", "window 512 (2)", "window 512 (3)", "full"]


# ------------------------------------------------------------------ the drawing


def test_the_drawing_of_gemma_3_shows_its_pattern_and_its_norms() -> None:
    text = tree(arch("gemma-3-27b"))
    assert "attention: 5 : 1, 10 × (5 window 1,024, 1 full), then 2 window 1,024" in text
    assert "x + RMSNorm(attention(RMSNorm(x)))" in text
    assert "32 query heads, 16 key/value heads of 128" in text
    assert "RoPE theta 1,000,000, linear scaling factor 8" in text
    assert "scores ÷ √168" in text
    assert text.count("32 query heads") == 1  # equal things are told once


def test_norms_are_drawn_where_they_are() -> None:
    assert "x + attention(RMSNorm(x))" in tree(arch("llama-3-8b"))
    assert "x + RMSNorm(attention(x))" in tree(arch("olmo-2-7b"))
    deep = edit(arch("llama-3-8b"), "layers.*.mixer", lambda branch: replace(branch, scale=0.5, skip=2.0))
    assert "2 · x + 0.5 · attention(RMSNorm(x))" in tree(deep)


def test_a_noun_without_words_describes_itself() -> None:
    @dataclass(frozen=True, kw_only=True)
    class TurboMixer(Spec):  # without a docstring
        ranks: int
        gate: bool
        off: bool
        nothing: None
        norm: RMSNorm

    turbo = TurboMixer(ranks=4096, gate=True, off=False, nothing=None, norm=RMSNorm())
    assert title(turbo) == "turbo mixer"
    assert facts(turbo) == ["ranks 4,096", "gate", "RMSNorm eps 1e-06"]
    assert [(a.label, a.value) for a in aspects(turbo)][:2] == [("ranks", 4096), ("gate", True)]
    drawn = tree(edit(arch("llama-3-8b"), "layers.0.mixer.body", turbo))
    assert "x + turbo mixer(RMSNorm(x))" in drawn
    assert "ranks 4,096" in drawn


@dataclass(frozen=True, kw_only=True)
class Pooling(Spec):
    """The mean of the last `size` inputs (arXiv 1234.56789, sec. 2). Of no use to anybody.

    Args:
        size: how many.
    """

    size: spec.Size
    part = "pooling"
    mixes = True


def test_a_foreign_noun_draws_and_compares_at_once_and_can_bring_its_own_words() -> None:
    mine, pooling = arch("llama-3-8b"), Pooling(size=4)
    assert facts(pooling) == ["The mean of the last size inputs (arXiv 1234.56789, sec. 2)", "size 4"]
    other = edit(mine, "layers.*.mixer.body", pooling)
    assert changes(mine, other)["mixer"][1].startswith("pooling: The mean of the last size inputs")
    assert changes(other, edit(mine, "layers.*.mixer.body", Pooling(size=8))) == {"size": (4, 8)}
    assert "Pooling" in [box.text for box in draw(other).boxes]

    @describes(Pooling)
    def _(spec: Pooling) -> Description:
        return Description(
            title="mean pooling",
            facts=[f"over {spec.size} tokens"],
            equation=f"mean of the last {spec.size} x",
            names={"size": "pooling over"},
            marks={"mixer": f"pooling {spec.size}"},
        )

    try:
        assert "mean pooling over 4 tokens" in tree(other)
        assert changes(other, edit(mine, "layers.*.mixer.body", Pooling(size=8))) == {"pooling over": (4, 8)}
        mixed = edit(mine, "layers.1,3.mixer.body", pooling)
        assert [kind.name for kind in kinds(mixed)] == ["GQA", "pooling 4"]
        texts = [box.text for box in draw(other).boxes]
        assert "Mean pooling" in texts
        assert "over 4 tokens" in texts
    finally:
        del _DESCRIBED[Pooling]


def body(name: str, layer: int, branch: str = "mixer") -> Spec:
    found = next(b for b in arch(name).layers[layer].branches if b.name == branch).body
    assert isinstance(found, Spec)
    return found


def test_equations_have_the_terms_of_this_model_only() -> None:
    def equation(part: Spec) -> str:
        return str(describe(part).equation)

    assert equation(body("llama-3-8b", 0)) == "W_o softmax(q kᵀ / √128) v"
    assert equation(body("gemma-2-27b", 0)) == "W_o softmax(50 · tanh(q kᵀ / √144 / 50)) v"
    assert equation(body("gpt-oss-20b", 0)) == "W_o softmax(q kᵀ / √64, sink) v"
    assert equation(body("switch-base-8", 0)) == "W_o softmax(q kᵀ + bias) v"
    assert equation(body("mixtral-8x7b", 0, "mlp")) == "Σ over the best 2 of 8 experts of wₑ · expertₑ(x)"
    shared = "Σ over the best 8 of 256 experts of wₑ · expertₑ(x), + shared(x)"
    assert equation(body("deepseek-v3", 3, "mlp")) == shared
    assert equation(body("llama-3-8b", 0, "mlp")) == "W_down (SiLU(W_gate x) ⊙ W_up x)"
    assert equation(arch("llama-3-8b").head) == "x Wᵀ"
    assert equation(arch("gemma-2-27b").head) == "30 · tanh(x Wᵀ / 30)"
    assert equation(arch("llama-3-8b").embedding) == "E[token]"
    assert equation(arch("llama-3-8b").final_norm) == "w ⊙ x / √(mean(x²) + ε)"
    assert equation(arch("gemma-3-1b").final_norm) == "(1 + w) ⊙ x / √(mean(x²) + ε)"


def test_terms_of_equations_are_there_exactly_where_the_model_has_them() -> None:
    for part, name in everything().items():
        equation = describe(part).equation or ""
        if isinstance(part, MoE):
            assert ("shared(x)" in equation) == (part.shared is not None), name
            assert f"best {part.router.active} of {part.router.experts}" in equation, name
        elif isinstance(part, Head):
            assert ("tanh" in equation) == (part.softcap is not None), name
        elif isinstance(part, Attention):
            assert ("tanh" in equation) == (part.softmax.softcap is not None), name
            assert ("sink" in equation) == part.softmax.sinks, name
            assert ("attention(x)" in equation) == (part.gate is not None), name
        elif isinstance(part, Router):
            assert ("selection bias" in equation) == part.selection_bias, name


def test_one_name_for_one_activation() -> None:
    """gpt-oss's was "clamped SwiGLU" in words and "clamped SiLU" in its inset; there stand its two formulas now."""
    texts = [box.text or "" for box in draw(arch("gpt-oss-20b")).boxes]
    assert "z · σ(1.702 z), z ≤ 7" in texts
    assert "clamped to ±7, + 1" in texts
    assert "Clamped SwiGLU feed-forward" in texts
    assert not any("clamped SiLU" in text for text in texts)


def test_rope_s_rows_are_there_where_rope_is() -> None:
    def labels(name: str) -> set[str]:
        return {row.label for row in properties(arch(name))}

    assert "RoPE channels" in labels("llama-3-8b")
    assert not {"RoPE channels", "RoPE theta"} & (labels("gpt2") | labels("switch-base-8") | labels("glam-64b-64e"))
    assert "RoPE channels" not in changes(arch("gpt2"), arch("llama-3-8b"))  # "positions" says it
    partial = changes(arch("llama-3-8b"), arch("glm-4.5-air"))
    assert partial["RoPE channels"] == ("all", "64")


def everything() -> dict[Spec, str]:
    """Every distinct part of every known model, records too, with a model that has it."""
    found: dict[Spec, str] = {}

    def collect(value: Any, name: str) -> None:
        if isinstance(value, tuple):
            for item in value:
                collect(item, name)
        elif isinstance(value, Spec) and value not in found:
            found[value] = name
            for field in fields(value):
                collect(getattr(value, field.name), name)

    for entry in ENTRIES:
        collect(arch(entry.id), entry.id)
    return found


NOUNS = sorted(
    (c for c in vars(spec).values() if isinstance(c, type) and issubclass(c, Spec)), key=lambda c: c.__name__
)


ABSTRACT = {Spec, spec.Residual, spec.Ends}  # what kinds of nouns have in common


@pytest.mark.parametrize("noun", [noun for noun in NOUNS if noun not in ABSTRACT], ids=lambda noun: noun.__name__)
def test_every_noun_is_described_in_the_file_of_its_own(noun: type[Spec]) -> None:
    """views/nouns/ mirrors spec/."""
    described = _DESCRIBED[noun].__module__
    assert described.rpartition(".")[2] == noun.__module__.rpartition(".")[2]


def test_names_are_those_of_fields_and_no_field_is_dumped() -> None:
    found = everything()
    assert len({type(part) for part in found}) > 35
    for part, name in found.items():
        own = describe(part)
        assert set(own.names) <= {f.name for f in fields(part)}, name
        for fact in own.facts:
            assert not re.search(r"gelu_tanh|relu2|before_rope|after_rope|top2_sum|\w_\w", fact), (name, fact)
            assert not re.match(r"(act|dim|k heads|v heads|kernel|alpha|groups|active|topk) ", fact), (name, fact)


# ------------------------------------------------------------------ differences


def test_gemma_3_against_mistral_small() -> None:
    found = changes(arch("gemma-3-27b"), arch("mistral-small-3.1-24b"))
    assert found == {
        "norms": ("before and after each branch", "before each branch"),
        "attention sees": ("5 × window 1,024, 1 × full attention, …", "full attention"),
        "RoPE scaling": ("5 × none, 1 × linear scaling factor 8, …", "none"),
        "query and key norm": ("RMSNorm of each head, eps 1e-06, weight 1 + w", "none"),
        "scores scaled by": ("1/√168", "1/√(head dim)"),
        "norm weight": ("1 + w", "w"),
        "activation": ("tanh GELU", "SiLU"),
        "embedding scale": ("√width", 1.0),
        "head's matrix": ("the embedding's", "its own"),
        "layers": (62, 40),
        "width": (5376, 5120),
        "vocabulary": (262_208, 131_072),
        "RoPE theta": ("5 × 10,000, 1 × 1,000,000, …", 1e9),
        "key/value heads": (16, 8),
        "norm eps": (1e-6, 1e-5),
        "feed-forward width": (21_504, 32_768),
    }


def test_nouns_come_before_numbers() -> None:
    difference = compare(arch("gpt2"), arch("llama-3-8b"))
    assert {change.what for change in difference.nouns} == {
        "mixer",
        "rotary positions",
        "absolute positions",
        "biases",
        "norm",
        "feed-forward",
        "head's matrix",
    }
    assert [change.what for change in difference.numbers][:4] == ["layers", "width", "context", "vocabulary"]
    text = str(difference)
    assert text.index("feed-forward") < text.index("layers") < text.index("parameters")


def test_equal_architectures_are_called_so() -> None:
    difference = compare(arch("deepseek-r1"), arch("deepseek-v3"))
    assert difference.same
    assert str(difference).startswith("deepseek-r1 and deepseek-v3 are the same architecture\n")


def test_depth_alone_is_one_line() -> None:
    assert changes(arch("smollm2-135m"), arch("smollm2-135m-instruct")) == {}
    shallow = replace(arch("gemma-3-27b"), layers=arch("gemma-3-27b").layers[:20])
    assert changes(arch("gemma-3-27b"), shallow) == {"layers": (62, 20)}


def test_another_order_of_the_same_layers_is_a_difference() -> None:
    mine = arch("gemma-3-1b")
    turned = replace(mine, layers=mine.layers[::-1])
    found = changes(mine, turned)
    assert set(found) == {"attention sees", "RoPE theta"}
    assert found["attention sees"][0] == "5 × window, 1 × full attention, …"
    assert compare(mine, turned).paths == {"layers"}


def test_roles_are_told_only_where_others_stay() -> None:
    mine = arch("gemma-3-1b")
    assert changes(mine, edit(mine, "final_norm.eps", 1e-3)) == {"final norm eps": (1e-6, 1e-3)}
    keys = edit(mine, "layers.*.mixer.body.kv.k_norm.norm.eps", 1e-3)
    assert changes(mine, keys) == {"key norm eps": (1e-6, 1e-3)}


def test_what_is_close_is_still_different() -> None:
    mine = arch("gemma-3-1b")
    near = edit(mine, "final_norm.eps", 1.00001e-6)
    assert changes(mine, near) == {"final norm eps": (1e-6, 1.00001e-6)}
    text = compare(mine, near).changes()
    assert "1.00001e-06" in text


def test_places_that_differ_are_canonical_paths() -> None:
    difference = compare(arch("gemma-3-27b"), arch("mistral-small-3.1-24b"))
    assert {"layers.0.mixer.body.kv.heads", "layers.61.mlp.post", "layers.0.mixer.body.mask"} <= difference.paths_a
    assert {"embedding.tied", "layers.5.mixer.body.positions.scaling"} <= difference.paths_a
    assert "layers.5.mixer.body.mask" not in difference.paths_a  # full attention, as everywhere in the other
    assert not any(path.endswith(("mixer.pre", "mlp.pre", ".heads.heads")) for path in difference.paths_a)
    assert "layers.0.mixer.body.heads" not in difference.paths  # 32 on both sides
    assert "layers.39.mixer.body.kv.heads" in difference.paths_b
    assert difference.paths == difference.paths_a | difference.paths_b


def test_experts_instead_of_an_mlp_are_described() -> None:
    mine = arch("llama-3-8b")
    moe = MoE(router=Router(experts=16, active=2), expert=GatedMLP(dim=1024, act="silu"))
    found = changes(mine, edit(mine, "layers.*.mlp.body", moe))
    assert found["feed-forward"] == (
        "gated MLP 14,336 wide, SiLU (SwiGLU)",
        (
            "mixture of experts: 16 experts, 2 for each token; expert: gated MLP 1,024 wide, SiLU (SwiGLU); "
            "router: softmax scores"
        ),
    )
    upper = changes(mine, edit(mine, "layers.31.mlp.body", moe))["feed-forward"]
    assert upper[0] == "gated MLP"
    assert upper[1].startswith("31 × gated MLP, then mixture of experts\nmixture of experts: 16 experts")


def test_another_class_of_attention_is_described() -> None:
    latent = arch("deepseek-v2-lite").layers[0].branches[0].body
    found = changes(arch("gpt2"), edit(arch("gpt2"), "layers.*.mixer.body", latent))
    assert found["mixer"][0].startswith("multi-head attention: 12 heads of 64; full attention; no RoPE")
    assert found["mixer"][1].startswith("multi-head latent attention: 16 heads")


def test_branches_that_are_missing_are_told() -> None:
    mine = arch("llama-3-8b")
    halved = replace(
        mine, layers=tuple(Layer(branches=layer.branches[i % 2 :][:1]) for i, layer in enumerate(mine.layers))
    )
    assert changes(mine, halved)["branches"] == ("mixer, then mlp", "1 × mixer, 1 × mlp, …")
    assert not compare(halved, halved).nouns


def mutants(part: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, another value) for every scalar of a part of the tree."""
    if isinstance(part, Branch):
        slots: list[tuple[str, Any]] = [("pre", part.pre), ("body", part.body), ("post", part.post)]
        slots += [("scale", part.scale), ("skip", part.skip)]
    elif isinstance(part, Layer):
        slots = [(branch.name, branch) for branch in part.branches]
    else:
        slots = [(f.name, getattr(part, f.name)) for f in fields(part) if f.compare]
    for name, value in slots:
        where = f"{path}.{name}" if path else name
        if isinstance(value, bool):
            yield where, not value
        elif isinstance(value, (int, float)):
            yield where, value * 2 if isinstance(value, int) else value * 1.5 + 0.5
        elif isinstance(value, str):
            yield from ((where, other) for other in OTHERS.get(value, ()))
        elif isinstance(value, Spec):
            yield from mutants(value, where)


OTHERS = {
    "silu": ["relu"],
    "gelu_tanh": ["gelu"],
    "softmax": ["sigmoid"],
    "sigmoid": ["softmax"],
    "head": ["projection"],
    "before_rope": ["after_rope"],
    "max": ["top2_sum"],
    "top2_sum": ["max"],
    "output": ["input"],
}
ROOTS = ("width", "context", "embedding", "positions", "final_norm", "head")


@pytest.mark.parametrize(
    "name", ["gpt2", "gemma-2-27b", "gemma-3-1b", "olmo-3-7b", "smollm3-3b", "mixtral-8x7b", "deepseek-v3"]
)
def test_no_change_is_overlooked(name: str) -> None:
    """Every number, flag and word of the tree, changed in the last layer alone: the comparison says so, and where."""
    whole = arch(name)
    mine = replace(whole, layers=whole.layers[:4] + whole.layers[-3:])
    last = len(mine.layers) - 1
    places = [*mutants(mine.layers[last], f"layers.{last}")]
    places += [(path, value) for path, value in mutants(mine, "") if path.split(".")[0] in ROOTS]
    refused = 0
    for path, value in places:
        try:
            mutant = edit(mine, path, value)
        except ValueError:  # the tree says that this cannot be
            refused += 1
            continue
        there = compare(mine, mutant)
        assert not there.same, path
        assert path in there.paths_b, path
        assert path in compare(mutant, mine).paths_a, path
    assert len(places) - refused >= 15
    assert refused <= len(places) // 2


def test_multi_token_prediction_is_compared() -> None:
    mine = arch("deepseek-v3")
    (module,) = mine.mtp
    assert changes(mine, replace(mine, mtp=())) == {"multi-token prediction": ("1 module", "none")}
    other = edit(module, "layer.mlp.body.router.active", 4)
    assert changes(mine, replace(mine, mtp=(other,))) == {"MTP experts per token": (8, 4)}
    everywhere = edit(replace(mine, layers=mine.layers[3:]), "layers.*.mlp.body.router.active", 4)
    same = edit(replace(mine, layers=mine.layers[3:]), "layers.*.mlp.body.router.scale", 2.5)
    assert changes(same, replace(everywhere, mtp=(other,))) == {"experts per token": (8, 4)}


def test_costs_stand_below_the_difference() -> None:
    difference = compare(arch("gemma-3-27b"), arch("mistral-small-3.1-24b"), context=131_072)
    assert [cost.model for cost in difference.costs] == ["gemma-3-27b", "mistral-small-3.1-24b"]
    assert {cost.state.context for cost in difference.costs} == {131_072}
    assert compare(arch("gpt2"), arch("llama-3-8b")).costs[1].state.context == 1024  # the longest that both take
    lines = {line.split("  ")[0]: line for line in str(difference).splitlines()}
    assert lines["state"].split()[1:] == ["10.4", "GiB", "20.0", "GiB", "×", "1.92"]


def test_as_json() -> None:
    found = compare(arch("llama-3-8b"), arch("llama-3-70b")).to_dict()
    assert (found["a"], found["b"], found["same"], found["nouns"]) == ("llama-3-8b", "llama-3-70b", False, [])
    assert {"what": "layers", "a": 32, "b": 80} in found["numbers"]
    assert [cost["model"] for cost in found["costs"]] == ["llama-3-8b", "llama-3-70b"]
    assert isinstance(compare(arch("gpt2"), arch("gpt2")), Difference)


# ------------------------------------------------------------------ words and tables


def test_words() -> None:
    attention = arch("gemma-3-1b").layers[0].branches[0].body
    assert isinstance(attention, Attention)
    assert title(attention) == "multi-query attention"
    assert title(replace(attention, kv=replace(attention.kv, heads=4))) == "multi-head attention"
    assert title(replace(attention, kv=replace(attention.kv, heads=2))) == "grouped-query attention"
    assert (phrase(Causal()), phrase(Window(size=4096))) == ("full attention", "window 4,096")
    assert phrase(LayerNorm(eps=1e-5, bias=False)) == "LayerNorm eps 1e-05, no bias"
    assert facts(Head(vocab=50_257, softcap=30.0)) == ["50,257 tokens", "logits capped at 30"]


def test_tables_align_and_wrap() -> None:
    assert table([["a", "bb"], [], ["ccc", "d"]]) == "a    bb\n\nccc  d"
    assert table([["", "one"], ["x", "12"]], left=1) == "   one\nx   12"
    assert table([["x", "two\nlines"]]) == "x  two\n   lines"
    wide = table([["key", "word " * 30, "short"]])
    assert max(map(len, wide.splitlines())) <= 100
    assert wide.count("word") == 30


@pytest.mark.parametrize(
    ("widths", "room", "expected"),
    [([3, 4], 10, [3, 4]), ([3, 50, 50], 63, [3, 30, 30]), ([3, 10, 90], 63, [3, 10, 50])],
)
def test_narrow_columns_keep_their_width(widths: list[int], room: int, expected: list[int]) -> None:
    assert fitted(widths, room) == expected


# ------------------------------------------------------------------ origins


def test_published_figures_are_judged() -> None:
    from vitruvius.cost import cost

    def told(name: str) -> str:
        return " ".join(origins(catalog.entry(name), cost(arch(name))).split())

    assert "671,026,419,200 exact, from the definition 671B published" in told("deepseek-v3")
    assert "37B published, deepseek-ai/DeepSeek-V3 README.md, README_WEIGHTS.md (without the input embedding)" in told(
        "deepseek-v3"
    )
    assert "12.9B published, arXiv 2401.04088 (both embeddings counted)" in told("mixtral-8x7b")
    assert "2.4B published, deepseek-ai/DeepSeek-V2 README.md; arXiv 2405.04434; no way of counting gives it" in told(
        "deepseek-v2-lite"
    )
    assert "13B published, allenai/OLMo-2-1124-13B model card; this definition rounds to 14B" in told("olmo-2-13b")
    assert "exact, from the definition, which hangs on unconfirmed values" in told("olmo-2-1b")
    assert "unconfirmed rope_theta 5000000" in told("smollm3-3b")


def test_rounding_as_precisely_as_published() -> None:
    assert as_precise("37B", 36_625_603_584) == "37B"
    assert as_precise("46.7B", 46_702_792_704) == "46.7B"
    assert as_precise("1T", 1_026_408_232_448) == "1T"
    assert as_precise("0.6B", 596_049_920) == "0.6B"


# ------------------------------------------------------------------ search


def test_models_are_found_by_what_people_type() -> None:
    found = {query: {name for name in SEARCHED if holds(searched(name), query.split())} for query in QUERIES}
    assert found == QUERIES


def searched(name: str) -> str:
    return searchable(arch(name), catalog.entry(name))


SEARCHED = ("gemma-3-1b", "smollm3-3b", "deepseek-v3", "qwen3-30b-a3b", "glm-4.5", "gpt2")
QUERIES = {
    "nope": {"smollm3-3b"},
    "yarn": {"deepseek-v3"},
    "128 experts": {"qwen3-30b-a3b"},
    "2025": {"gemma-3-1b", "smollm3-3b", "qwen3-30b-a3b", "glm-4.5"},
    "multi-query": {"gemma-3-1b"},
    "MLA yarn": {"deepseek-v3"},
    "learned positions": {"gpt2"},
    "no such thing": set(),
}
