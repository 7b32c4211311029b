"""Costs against the recorded figures, against sums over single positions, and against a count that knows no spec."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from vitruvius import catalog
from vitruvius.architectures import read
from vitruvius.cost import Cost, cost
from vitruvius.cost.quantity import count, flops, number, ratio, size
from vitruvius.errors import InputError
from vitruvius.spec import Causal, Chunk, Decoder, Static, Window, edit, walk

ENTRIES = catalog.entries()
BY_ENTRY = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)


def arch(name: str) -> Decoder:
    entry = catalog.entry(name)
    return read(entry.config, entry.id, catalog.implicit)


def tiny(name: str, **changes: Any) -> Decoder:
    return read({**catalog.entry(name).config, **changes}, "tiny", catalog.implicit)


# ------------------------------------------------------------------ recorded figures


@BY_ENTRY
def test_parameters_are_the_recorded_ones(entry: catalog.Entry) -> None:
    if not entry.exact["tested"]:
        pytest.skip("hangs on values that are not confirmed; test_catalog.py lists these models")
    found, bias = cost(arch(entry.id)).parameters, entry.exact["router_bias"]
    assert found.total == entry.exact["total"] + bias
    if "experts" not in found.by_part:
        assert found.active == found.total
    for way in ("active", "active_without_input_embedding", "active_without_embeddings"):
        if entry.exact[way] is not None:
            assert getattr(found, way) == entry.exact[way] + bias


@BY_ENTRY
def test_state_is_the_recorded_one(entry: catalog.Entry) -> None:
    per_token, at_128k = entry.exact["state_elements_per_token"], entry.exact["state_elements_at_131072"]
    tree = arch(entry.id)
    found = cost(tree, context=131_072, batch=3, dtype="f32").state
    states = [state for node in walk(tree, tree.width) for state in node.spec.state().values()]
    static = sum(state.elements(131_072) for state in states if isinstance(state, Static))
    # The recorded figures are of attention's own keys and values: neither an indexer's nor an encoder's.
    recorded = per_token * 131_072 if at_128k is None else at_128k
    assert found.by_part["attention"] == 3 * 4 * (recorded + static)
    if set(found.by_part) == {"attention"}:
        assert found.bytes_per_token == 4 * per_token
    assert found.bytes == found.policies["vitruvius"] == sum(found.by_part.values())


@BY_ENTRY
def test_parts_add_up(entry: catalog.Entry) -> None:
    found = cost(arch(entry.id), context=300, batch=2)
    parts = dict(found.parameters.by_part)
    parts.pop("mtp", None)
    assert sum(parts.values()) == found.parameters.total
    assert sum(found.flops.by_part["prefill"].values()) == found.flops.prefill
    assert sum(found.flops.by_part["decode_per_token"].values()) == found.flops.decode_per_token


def test_the_parts_of_deepseek_v3() -> None:
    """From the shapes of its report (arXiv 2412.19437, section 4.2) by hand."""
    width, dense, sparse = 7168, 3, 58
    latent = 1536 * (width + 128 * 192) + 512 * (128 * 256) + width * 576 + 128 * 128 * width + 1536 + 512
    parts = cost(arch("deepseek-v3")).parameters.by_part
    assert parts == {
        "embedding": 129_280 * width,
        "head": 129_280 * width,
        "attention": (dense + sparse) * latent,
        "norms": (2 * (dense + sparse) + 1) * width,
        "feed-forward": dense * 3 * width * 18_432,
        "router": sparse * 256 * width,
        "router selection bias": sparse * 256,
        "experts": sparse * 256 * 3 * width * 2048,
        "shared experts": sparse * 3 * width * 2048,
        "mtp": latent + 257 * 3 * width * 2048 + 256 * width + 256 + 2 * width * width + 5 * width,
    }


def test_positions_and_a_tied_matrix_have_their_place() -> None:
    parts = cost(arch("gpt2")).parameters.by_part
    assert parts["positions"] == 1024 * 768
    assert parts["head"] == 50_257 * 768
    assert "embedding" not in parts
    found = cost(arch("gpt2")).parameters
    assert found.active_without_input_embedding == found.active
    assert found.active_without_embeddings == 124_439_808 - 50_257 * 768


@pytest.mark.parametrize(("active", "experts"), [(1, 3), (5, 7), (8, 384), (6, 160), (22, 512), (511, 512)])
def test_active_experts_are_counted_exactly(active: int, experts: int) -> None:
    sizes = {"num_local_experts": experts, "num_experts_per_tok": active, "intermediate_size": 14_337}
    found = cost(tiny("mixtral-8x7b", **sizes)).parameters
    inactive = 32 * (experts - active) * 3 * 4096 * 14_337
    assert found.total - found.active == inactive


# ------------------------------------------------------------------ FLOPs


@pytest.mark.parametrize(
    "kind", [Causal(), *(Window(size=n) for n in (1, 2, 5, 9)), *(Chunk(size=n) for n in (1, 4, 7))]
)
def test_pairs_are_those_of_the_mask(kind: Causal | Window | Chunk) -> None:
    def mask(query: int, key: int) -> bool:
        if isinstance(kind, Window):
            return query - kind.size < key <= query
        if isinstance(kind, Chunk):
            return key <= query and key // kind.size == query // kind.size
        return key <= query

    for context in range(40):
        assert kind.pairs(context) == sum(mask(q, k) for q in range(context) for k in range(context))


SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "vocab_size": 96,
    "num_hidden_layers": 6,
    "max_position_embeddings": 64,
}
GROUPED = dict(SMALL, num_attention_heads=6, num_key_value_heads=2, head_dim=8)
WINDOWED = dict(GROUPED, sliding_window=7, layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2)
LATENT = dict(
    SMALL,
    num_attention_heads=4,
    q_lora_rank=20,
    kv_lora_rank=12,
    qk_nope_head_dim=8,
    qk_rope_head_dim=4,
    v_head_dim=10,
    n_routed_experts=8,
    num_experts_per_tok=3,
    n_group=2,
    topk_group=1,
    moe_intermediate_size=16,
    first_k_dense_replace=2,
)
MODELS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "llama": ("llama-3-8b", GROUPED),
    "gemma3": ("gemma-3-27b", WINDOWED),
    "mixtral": ("mixtral-8x7b", dict(GROUPED, num_local_experts=5, num_experts_per_tok=2)),
    "deepseek": ("deepseek-v3", LATENT),
}


def counted_forward(c: Mapping[str, Any], prompt: int, cached: int = 0) -> int:
    """Multiply-adds, times 2, of `prompt` tokens after `cached` ones, written down from config.json loop by loop."""
    work = 0
    for layer in range(c["num_hidden_layers"]):
        windowed = "layer_types" in c and c["layer_types"][layer] == "sliding_attention"
        for token in range(cached, cached + prompt):
            seen = min(token + 1, c["sliding_window"]) if windowed else token + 1
            work += latent(c, seen, one=prompt == 1) if "kv_lora_rank" in c else grouped(c, seen)
            work += feed_forward(c, layer)
    return 2 * (work + prompt * c["hidden_size"] * c["vocab_size"])


def grouped(c: Mapping[str, Any], seen: int) -> int:
    width, dim, heads, kv = c["hidden_size"], c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
    work = width * heads * dim + 2 * width * kv * dim + heads * dim * width
    for _ in range(heads):
        for _ in range(seen):
            work += dim  # q·k
            work += dim  # p·v
    return work


def latent(c: Mapping[str, Any], seen: int, one: bool) -> int:
    """Expanded for a prompt, absorbed for one token: there the queries move into the latent space, and its sums out."""
    width, heads, rank = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"]
    nope, rope, v = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
    work = width * c["q_lora_rank"] + c["q_lora_rank"] * heads * (nope + rope) + width * (rank + rope)
    work += heads * v * width
    if one:
        work += heads * nope * rank + heads * rank * v  # queries in, sums out
        return work + heads * seen * (rank + rope + rank)
    work += rank * heads * (nope + v)  # the token's own keys and values
    return work + heads * seen * (nope + rope + v)


def feed_forward(c: Mapping[str, Any], layer: int) -> int:
    width = c["hidden_size"]
    experts = c.get("n_routed_experts") or c.get("num_local_experts")
    if not experts or layer < c.get("first_k_dense_replace", 0):
        return 3 * width * c["intermediate_size"]
    dim = c.get("moe_intermediate_size") or c["intermediate_size"]
    return width * experts + (c["num_experts_per_tok"] + c.get("n_shared_experts", 0)) * 3 * width * dim


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("context", [2, 7, 8, 29])
def test_flops_are_those_of_a_forward_written_out(model: str, context: int) -> None:
    name, changes = MODELS[model]
    config = {**catalog.entry(name).config, **changes}
    found = cost(read(config, model, catalog.implicit), context, batch=3).flops
    assert found.prefill == 3 * counted_forward(config, context)
    assert found.decode_per_token == counted_forward(config, prompt=1, cached=context - 1)


@BY_ENTRY
def test_prefill_is_the_sum_over_positions(entry: catalog.Entry) -> None:
    """For every part of every layer, whatever it sees; but for an encoder, which sees what comes later."""
    tree = arch(entry.id)
    if tree.encoder:
        pytest.skip("not causal")
    for node in {type(node.spec): node for node in walk(tree, tree.width)}.values():
        for context in (1, 2, 5, 64, 5000):
            forms: tuple[str | None, ...] = ("expanded", "absorbed") if "form" in vars(type(node.spec)) else (None,)
            for form in forms:
                steps = range(1, context + 1) if context <= 64 else range(context - 40, context + 1)
                total = node.spec.flops(context, len(steps), form)
                assert total == sum(node.spec.flops(step, 1, form) for step in steps)


def test_multi_token_prediction_is_in_no_other_figure() -> None:
    whole = arch("deepseek-v3")
    without = cost(replace(whole, mtp=())).to_dict()
    found = cost(whole).to_dict()
    assert found["parameters"]["by_part"].pop("mtp") == 11_610_068_224
    assert found["memory"].pop("mtp_bytes") > without["memory"].pop("mtp_bytes") == 0
    assert found == without


# ------------------------------------------------------------------ state and memory


@pytest.mark.parametrize("context", [1, 6, 7, 8, 29])
def test_windowed_layers_keep_their_window(context: int) -> None:
    tree = tiny("gemma-3-27b", **WINDOWED)
    kept = sum(2 * 2 * 8 for layer in range(6) for token in range(context) if layer % 3 == 2 or token >= context - 7)
    state = cost(tree, context, batch=5, dtype="f32").state
    assert state.bytes == 5 * 4 * kept
    assert state.bytes_per_token == 4 * 6 * 2 * 2 * 8


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("f32", 32), ("float32", 32), ("bf16", 16), ("float16", 16), ("fp8", 8), ("int8", 8), ("int4", 4)],
)
def test_bytes_by_dtype(dtype: str, bits: int) -> None:
    found = cost(arch("llama-3-8b"), 1000, dtype=dtype)
    assert found.memory.weights_bytes * 8 == 8_030_261_248 * bits
    assert found.memory.state_bytes * 8 == 65_536 * 1000 * bits
    assert found.memory.total_bytes == found.memory.weights_bytes + found.memory.state_bytes
    assert found.memory.fits is None
    assert found.time is None


def test_a_weight_that_fixes_its_dtype_keeps_it() -> None:
    eight = cost(arch("deepseek-v3"), dtype="fp8").memory.weights_bytes
    assert eight == 671_026_404_352 + 4 * 14_848  # the selection bias is float32


def test_figures_are_integers() -> None:
    def leaves(value: Any) -> list[Any]:
        return [leaf for item in value.values() for leaf in leaves(item)] if isinstance(value, dict) else [value]

    for entry in ENTRIES:
        kinds = {type(leaf) for leaf in leaves(cost(arch(entry.id)).to_dict())}
        assert kinds == {int, str, type(None)}


def test_the_json_is_the_contract() -> None:
    found = cost(arch("gpt2"), 100, 2).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert list(found) == ["model", "parameters", "state", "flops", "memory", "time"]
    assert set(found["parameters"]) == {
        "total",
        "active",
        "active_without_input_embedding",
        "active_without_embeddings",
        "by_part",
    }
    assert {"context", "batch", "bytes", "bytes_per_token", "policies"} <= set(found["state"])
    assert set(found["flops"]) == {"prefill", "decode_per_token", "by_part"}
    sizes = {"weights_bytes": 248_879_616, "state_bytes": 7_372_800, "total_bytes": 256_252_416, "fits": None}
    assert sizes.items() <= found["memory"].items()
    assert (found["model"], found["time"]) == ("gpt2", None)
    assert (found["state"]["context"], found["state"]["batch"]) == (100, 2)


def test_the_context_defaults_to_the_models_own_and_may_be_longer() -> None:
    tree = arch("gpt2")
    assert cost(tree).state.context == 1024
    assert cost(tree, context=4096).state.bytes == 4 * cost(tree).state.bytes


def test_an_edited_tree_costs_what_it_is() -> None:
    tree = arch("llama-3-8b")
    edited = edit(tree, "layers.*.mlp.body.dim", lambda dim: dim + 100)
    assert cost(edited).parameters.total - cost(tree).parameters.total == 32 * 3 * 4096 * 100


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"context": 0}, "context must be a whole number from 1 on, got 0"),
        ({"context": -5}, "context must be a whole number from 1 on, got -5"),
        ({"context": 1.5}, "context must be a whole number from 1 on, got 1.5"),
        ({"context": True}, "context must be a whole number from 1 on, got True"),
        ({"batch": 0}, "batch must be a whole number from 1 on, got 0"),
        ({"dtype": "bf17"}, "dtype 'bf17' is not known: it is one of f32"),
        ({"device": "h100"}, "no device named 'h100'; did you mean h100-sxm, h100-pcie?"),
    ],
)
def test_unusable_values_are_refused_in_one_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        cost(arch("gpt2"), **wrong)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_the_package_is_the_function() -> None:
    code = (
        "import vitruvius as vt, vitruvius.cost as c; print(vt.cost(vt.architecture('gpt2')).parameters.total, c.cost)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("124439808 <function cost")


def test_costs_are_equal_whenever_they_are_computed() -> None:
    assert isinstance(cost(arch("gemma-3-1b")), Cost)
    assert cost(arch("gemma-3-1b")) == cost(arch("gemma-3-1b"))


# ------------------------------------------------------------------ figures as text


def test_figures_as_people_read_them() -> None:
    counts = {0: "0", 7: "7", 999: "999", 1000: "1.00 K", 12_345: "12.3 K", 999_499: "999 K", 999_999: "1.00 M"}
    counts |= {27_009_346_304: "27.0 B", 671 * 10**9: "671 B", 1_026_408_232_448: "1.03 T"}
    assert {n: count(n) for n in counts} == counts
    sizes = {
        0: "0 B",
        1023: "1,023 B",
        1024: "1.00 KiB",
        507_904: "496 KiB",
        66_571_993_088: "62.0 GiB",
        2**40: "1.00 TiB",
    }
    assert {n: size(n) for n in sizes} == sizes
    assert [flops(n) for n in (5, 76_363_235_328, 8_603_000_000_000_000)] == ["5 FLOP", "76.4 GFLOP", "8.60 PFLOP"]
    numbers = {262_208: "262,208", 1e9: "1,000,000,000", 0.08838834764: "0.08839", 1e-6: "1e-06", 1.5: "1.5"}
    assert {x: number(x) for x in numbers} == numbers
    ratios = {0.000394: "× 0.00039", 1.0: "× 1.00", 0.8729: "× 0.87", 9.999: "× 10.0", 64.53: "× 64.5", 417.2: "× 417"}
    assert {x: ratio(x) for x in ratios} == ratios
