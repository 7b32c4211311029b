"""Roofline times: against sums written out by hand, and against what must hold of any device."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from vitruvius import catalog
from vitruvius.architectures import read
from vitruvius.cost import cost
from vitruvius.cost.devices import Device
from vitruvius.cost.explain import explain
from vitruvius.cost.offload import Offload
from vitruvius.cost.roofline import Time, touched
from vitruvius.cost.setting import Attained, Layout
from vitruvius.cost.work import decode_flops, prefill_flops, work
from vitruvius.errors import InputError
from vitruvius.spec import Decoder, LatentAttention, walk

PEAK, BANDWIDTH, LINK, NETWORK = 1e14, 1e12, 1e11, 1e10
SQUARE = Device(
    "square",
    "Square",
    "",
    "gpu",
    peaks={"bf16": PEAK, "fp8": 2 * PEAK},
    bandwidth=BANDWIDTH,
    capacity=10**11,
    link=LINK,
    network=NETWORK,
    devices_per_node=8,
)
ALL = Attained(1.0, 1.0, 1.0)


@cache
def arch(name: str) -> Decoder:
    entry = catalog.entry(name)
    return read(entry.config, entry.id, catalog.implicit)


def time_of(name: str | Decoder, context: int, batch: int = 1, **options: Any) -> Time:
    asked = {"device": SQUARE, "attained": ALL, "chunk": 10**9, **options}
    found = cost(arch(name) if isinstance(name, str) else name, context, batch, **asked).time
    assert found is not None
    return found


# ------------------------------------------------------------------ one device, by hand


def test_decoding_a_dense_model_by_hand() -> None:
    """Llama 3 8B, 32 layers of 32 query and 8 key heads of 128; each part by itself."""
    batch, context = 4, 1000
    found = time_of("llama-3-8b", context, batch).decode
    attention = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024)
    feed_forward = 32 * 3 * 4096 * 14_336
    entry = 32 * 2 * 8 * 128
    assert found.parts["attention"].bytes == 2 * attention
    assert found.parts["attention"].flops == 2 * attention * batch
    assert found.parts["feed-forward"].seconds == pytest.approx(2 * feed_forward / BANDWIDTH)
    assert found.parts["attention scores"].bytes == 2 * batch * entry * (context + 1)  # read, and the new one written
    assert found.parts["attention scores"].flops == batch * 32 * 2 * 32 * 2 * 128 * context
    assert found.parts["head"].bytes == 2 * 128_256 * 4096
    assert found.parts["embedding"].bytes == pytest.approx(2 * batch * 4096)  # rows, not the table
    assert {part.bound for part in found.parts.values()} == {"memory"}
    assert found.seconds == pytest.approx(sum(part.seconds for part in found.parts.values()))


def test_prefill_is_bound_by_compute_and_reads_weights_once_for_each_chunk() -> None:
    whole = time_of("llama-3-8b", 4096).prefill
    chunks = time_of("llama-3-8b", 4096, chunk=1000).prefill
    part = whole.parts["feed-forward"]
    assert (whole.bound, part.bound) == ("compute", "compute")
    assert part.seconds == pytest.approx(4096 * 2 * 32 * 3 * 4096 * 14_336 / PEAK)
    assert chunks.parts["feed-forward"].bytes == 5 * part.bytes
    assert whole.parts["head"].flops == 2 * 128_256 * 4096  # the last token's


def test_fractions_and_formats_count() -> None:
    full = time_of("llama-3-8b", 1000)
    half = time_of("llama-3-8b", 1000, attained=Attained(1.0, 0.5, 1.0))
    assert half.per_token == pytest.approx(2 * full.per_token)
    eight = time_of("llama-3-8b", 1000, weights="fp8")
    assert eight.computed_in == "fp8"
    assert eight.decode.parts["feed-forward"].bytes * 2 == full.decode.parts["feed-forward"].bytes
    assert eight.prefill.parts["feed-forward"].seconds * 2 == pytest.approx(full.prefill.parts["feed-forward"].seconds)
    assert eight.prefill.parts["attention scores"].compute == full.prefill.parts["attention scores"].compute


def test_totals() -> None:
    found = time_of("gemma-3-1b", 2048, batch=16)
    assert found.first_token == found.prefill.seconds
    assert found.tokens_per_second == pytest.approx(16 * found.tokens_per_second_each)
    assert found.prefill_tokens_per_second == pytest.approx(16 * 2048 / found.first_token)
    assert sum(found.decode.bounds.values()) == pytest.approx(found.decode.seconds)


# ------------------------------------------------------------------ what is really read


def test_a_window_and_a_borrowed_cache_are_read_as_they_are_seen() -> None:
    """Gemma 3 1B: 22 layers with a window of 512 and 4 without, one key head of 256."""
    moved = time_of("gemma-3-1b", 5000).decode.parts["attention scores"].bytes
    assert moved == 2 * 2 * 256 * (22 * 513 + 4 * 5001)
    nano = arch("gemma-3n-e4b")  # 15 of its 35 layers read the cache of another
    state = cost(nano, 5000).state.bytes
    assert time_of(nano, 5000).decode.parts["attention scores"].bytes > 1.5 * state


def test_sparse_attention_reads_what_its_indexer_chose() -> None:
    parts = time_of("deepseek-v3.2", 100_000).decode.parts
    assert parts["attention scores"].bytes == 2 * 61 * 576 * (2048 + 1)
    assert parts["indexer scores"].bytes == 2 * 61 * 128 * (100_000 + 1)


def test_a_recurrence_reads_and_writes_its_memory_whatever_the_context() -> None:
    short, long = (time_of("kimi-linear-48b-a3b", c).decode.parts["recurrence updates"].bytes for c in (10, 10**6))
    memory, inputs = 20 * 32 * 128 * 128 * 2, 20 * 3 * 3 * 4096 * 2
    assert short == long == 2 * (memory + inputs)


# ------------------------------------------------------------------ experts


@pytest.mark.parametrize(
    ("experts", "chosen", "tokens"), [(256, 8, 1), (256, 8, 32), (8, 2, 3), (4, 4, 5), (128, 1, 500)]
)
def test_distinct_experts_are_those_of_a_simulation(experts: int, chosen: int, tokens: int) -> None:
    """Every way of choosing, for each token by itself: exact for one token, by random draws for more."""
    import random

    some = random.Random(0)
    rounds = 2000
    drawn = sum(len({e for _ in range(tokens) for e in some.sample(range(experts), chosen)}) for _ in range(rounds))
    assert experts * touched(chosen / experts, tokens) == pytest.approx(drawn / rounds, rel=0.02)


def test_experts_are_read_as_often_as_they_are_touched() -> None:
    one = time_of("deepseek-v3", 100)
    assert one.decode.distinct_experts == pytest.approx(8)
    assert one.decode.parts["experts"].bytes == pytest.approx(2 * 58 * 8 * 3 * 7168 * 2048)
    many = time_of("deepseek-v3", 100, batch=10_000)
    assert many.decode.distinct_experts == pytest.approx(256)
    assert many.decode.parts["experts"].bytes == pytest.approx(2 * 653_908_770_816)
    assert time_of("llama-3-8b", 100).decode.distinct_experts is None


# ------------------------------------------------------------------ latent attention


@pytest.mark.parametrize("name", [entry.id for entry in catalog.entries() if not entry.like])
def test_the_cheaper_form_is_taken(name: str) -> None:
    """For every context but the first token, what `cost` counts is the cheaper of the two already."""
    specs = {node.spec for node in walk(arch(name), arch(name).width) if isinstance(node.spec, LatentAttention)}
    for spec in specs:
        for context in (2, 100, 5000, 100_000):
            assert (
                prefill_flops(spec, context)
                == spec.flops(context, context)
                == min(spec.forms(context, context).values())
            )
            assert decode_flops(spec, context) == spec.flops(context) == min(spec.forms(context).values())
        assert decode_flops(spec, 1) < spec.flops(1)
    if specs:
        found = time_of(name, 3000)
        assert (found.prefill.form, found.decode.form) == ("expanded", "absorbed")


def test_expanding_makes_keys_and_values_again() -> None:
    """DeepSeek-V3: 512 latent channels become 128 heads of 128 + 128, for each of the 999 earlier tokens."""
    spec = next(n.spec for n in walk(arch("deepseek-v3"), 7168) if isinstance(n.spec, LatentAttention))
    forms = spec.forms(1000)
    assert forms["expanded"] == 2 * 128 * (192 + 128) * 1000 + 2 * 512 * 128 * 256 * 999
    assert forms["absorbed"] == 2 * 128 * (2 * 512 + 64) * 1000


# ------------------------------------------------------------------ several devices


def test_tensor_parallel_cuts_and_sends() -> None:
    """After attention and after the feed-forward layer, each of 8 devices sends 2 · 7/8 of the tokens' channels."""
    one, eight = (time_of("llama-3-8b", 1000, 16, layout=Layout(tensor=t)) for t in (1, 8))
    for part in ("attention", "feed-forward", "attention scores", "head"):
        assert eight.decode.parts[part].bytes == pytest.approx(one.decode.parts[part].bytes / 8)
        assert eight.decode.parts[part].flops == pytest.approx(one.decode.parts[part].flops / 8)
    assert eight.decode.parts["feed-forward"].sent == pytest.approx(2 * 7 / 8 * 16 * 4096 * 2 * 32)
    assert eight.decode.parts["feed-forward"].network == pytest.approx(eight.decode.parts["feed-forward"].sent / LINK)
    assert eight.decode.parts["head"].sent == pytest.approx(7 / 8 * 16 * 128_256 * 2)
    assert one.decode.parts["feed-forward"].sent == 0


def test_beyond_a_node_the_network_counts() -> None:
    sixteen = time_of("llama-3.1-405b", 1000, 16, layout=Layout(tensor=16)).decode.parts["feed-forward"]
    assert sixteen.network == pytest.approx(sixteen.sent / NETWORK)


def test_heads_are_cut_whole_and_latents_not_at_all() -> None:
    few = time_of("llama-3-8b", 999, layout=Layout(tensor=16)).decode.parts["attention scores"]
    assert few.bytes == 2 * 32 * 2 * 128 * 1000  # 8 key heads: one on each of 16
    latent = [time_of("deepseek-v3", 999, layout=Layout(tensor=t)).decode.parts["attention scores"] for t in (1, 8)]
    assert latent[0].bytes == latent[1].bytes
    assert latent[0].flops == 8 * latent[1].flops


def test_spread_experts() -> None:
    """Each of 16 devices holds 16 of 256 experts whole; a token goes to the devices that hold its 8, and back."""
    layout = Layout(tensor=1, data=16, experts="spread")
    part = time_of("deepseek-v3", 100, 1600, layout=layout).decode.parts["experts"]
    assert part.bytes == pytest.approx(2 * 653_908_770_816 / 16)
    others = 15 * (1 - (15 / 16) ** 8)
    assert part.sent == pytest.approx(2 * 100 * others * 7168 * 2 * 58)
    cut = time_of("deepseek-v3", 100, 1600, layout=replace(layout, tensor=16, data=1, experts="cut"))
    assert part.flops == pytest.approx(cut.decode.parts["experts"].flops)


def test_a_device_without_links_stays_alone() -> None:
    alone = replace(SQUARE, link=None, network=None)
    time_of("gemma-3-1b", 100, device=alone)
    with pytest.raises(InputError, match="link"):
        time_of("gemma-3-1b", 100, device=alone, layout=Layout(tensor=2))


# ------------------------------------------------------------------ all models


@pytest.mark.parametrize("name", [entry.id for entry in catalog.entries() if not entry.like])
def test_the_parts_are_those_of_the_cost(name: str) -> None:
    """Beyond the head and the first token, the operations are `cost`'s, and all weights are some part's."""
    whole = cost(arch(name), 777)
    parts = work(arch(name))
    for phase, prompt in (("prefill", True), ("decode_per_token", False)):
        found = {part.part: part.products(prompt) * (777 if prompt else 1) + part.scores(777, prompt) for part in parts}
        assert {part: flops for part, flops in found.items() if flops} == {
            part: flops for part, flops in whole.flops.by_part[phase].items() if flops
        }
    elements = sum(weight.elements for part in parts for weight in part.weights)
    assert elements == whole.parameters.total


# ------------------------------------------------------------------ explanations


@pytest.mark.parametrize("name", ["deepseek-v3", "gemma-3-27b", "qwen3-next-80b-a3b", "gpt2"])
def test_every_figure_says_where_it_comes_from(name: str) -> None:
    found = cost(arch(name), 1000, 3, device=SQUARE, attained=ALL)
    figures = {figure.name: figure for figure in explain(arch(name), found)}
    assert all(figure.formula and figure.origin in ("exact", "published", "estimated") for figure in figures.values())
    assert figures["parameters.total"].value == found.parameters.total
    assert figures["state.bytes"].value == found.state.bytes
    assert figures["time.per_token"].value == found.time.per_token if found.time else False
    assert {figures[name].origin for name in ("time.per_token", "memory.activations_bytes")} == {"estimated"}
    assert figures["square.bandwidth"].origin == "published"


def test_the_numbers_in_a_formula_give_the_figure() -> None:
    """State of DeepSeek-V3 and of Gemma 3, as it stands in the explanation, multiplied out."""
    for name in ("deepseek-v3", "gemma-3-27b", "kimi-linear-48b-a3b"):
        figures = {figure.name: figure for figure in explain(arch(name), cost(arch(name), 3000, 7))}
        for key in ("state.bytes", "state.bytes_per_token"):
            text = figures[key].numbers.replace("·", "*").replace(",", "").replace(" bytes", "")
            assert set(text) <= set("0123456789 *+().")
            assert eval(text) == figures[key].value


def test_this_machine_attains_what_was_measured() -> None:
    from vitruvius.cost.devices import THIS_MACHINE, device
    from vitruvius.cost.setting import Attained

    h100 = device("h100-sxm")
    assert Attained.of(replace(h100, name=THIS_MACHINE)) == Attained(1.0, 1.0, 1.0)
    assert Attained.of(h100) == Attained(0.6, 0.8, 0.7)


# ------------------------------------------------------------------ pipelines, and the processor's memory


@pytest.mark.parametrize(
    ("stages", "batch", "at_once", "factor"),
    [
        (4, 1, 1, 1.0),  # one sequence: a stage works while the others wait
        (4, 8, 2, 1.0),
        (4, 2, 1, 1.0),  # two of four stages work
        (3, 9, 3, 33 / 32),  # of 32 layers the longest stage has 11
        (3, 4, 2, 1.0),  # two parts of two sequences, which two stages hold
    ],
)
def test_decoding_through_a_pipeline_by_hand(stages: int, batch: int, at_once: int, factor: float) -> None:
    one, found = (
        time_of("llama-3-8b", 1000, at_once),
        time_of("llama-3-8b", 1000, batch, layout=Layout(pipeline=stages)),
    )
    sent = (stages - 1) * at_once * 4096 * 2 / LINK
    assert found.per_token == pytest.approx(factor * (one.per_token + sent))
    assert found.tokens_per_second == pytest.approx(batch / found.per_token)
    assert found.decode.parts["pipeline"].network == pytest.approx(sent)


def test_a_prompt_through_a_pipeline_by_hand() -> None:
    """Eight chunks: the first passes four stages, of which each following one waits for a quarter of its time."""
    one = time_of("llama-3-8b", 8192, chunk=1024)
    found = time_of("llama-3-8b", 8192, chunk=1024, layout=Layout(pipeline=4))
    sent = 3 * 8192 * 4096 * 2 / LINK
    assert found.first_token == pytest.approx((one.first_token + sent) * (1 + 7 / 4) / 8)
    assert sum(found.prefill.bounds.values()) == pytest.approx(found.prefill.seconds)
    whole = time_of("llama-3-8b", 8192, layout=Layout(pipeline=4))
    assert whole.first_token == pytest.approx(time_of("llama-3-8b", 8192).first_token + sent), "one chunk gains nothing"


def test_beyond_a_node_stages_send_over_the_network() -> None:
    found = time_of("llama-3-8b", 1000, layout=Layout(tensor=8, pipeline=2)).decode.parts["pipeline"]
    assert found.seconds == pytest.approx(4096 * 2 / 8 / NETWORK)


def test_memory_of_a_pipeline_is_that_of_its_fullest_stage() -> None:
    """Llama 3 8B in two stages: 16 layers each, the embedding on the first, head and norm on the last."""
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14_336 + 2 * 4096
    share = cost(arch("llama-3-8b"), 1000, device=SQUARE, layout=Layout(pipeline=2)).memory.per_device
    assert share.weights_bytes == 2 * (16 * layer + 128_256 * 4096 + 4096)
    assert share.state_bytes == 16 * 2 * 8 * 128 * 2 * 1000


RATE = 5e10


@pytest.mark.parametrize(("what", "layers"), [("experts", 32), ("experts:20", 20)])
def test_experts_in_the_processors_memory_by_hand(what: str, layers: int) -> None:
    """Mixtral 8x7B: a token passes through 2 of 8 experts of each layer."""
    tree, expert = arch("mixtral-8x7b"), 3 * 4096 * 14_336
    asked = cost(tree, 1000, device=SQUARE, attained=ALL, offload=Offload.named(what, RATE))
    plain, held, time = cost(tree, 1000, device=SQUARE, attained=ALL), asked.memory, asked.time
    assert held.offloaded_bytes == layers * 8 * expert * 2
    assert held.per_device.weights_bytes == plain.memory.weights_bytes - held.offloaded_bytes
    assert held.weights_bytes == plain.memory.weights_bytes
    assert time is not None
    assert plain.time is not None
    there, here = layers * 2 * expert * 2 / RATE, (32 - layers) * 2 * expert * 2 / BANDWIDTH
    assert time.decode.parts["experts"].memory == pytest.approx(there + here)
    assert time.per_token - plain.time.per_token == pytest.approx(there + here - 32 * 2 * expert * 2 / BANDWIDTH)


def test_layers_in_the_processors_memory_take_their_weights_with_them() -> None:
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14_336 + 2 * 4096
    found = cost(arch("llama-3-8b"), 1000, device=SQUARE, attained=ALL, offload="layers:10")
    assert found.memory.offloaded_bytes == 10 * layer * 2
    assert found.setting.offload == Offload("layers", 10, 89.6e9)
    assert found.memory.per_device.state_bytes == found.memory.state_bytes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offload": "half"}, "'half' is not experts, layers, or so many layers of them"),
        ({"offload": "layers:33"}, "33 layers cannot lie in the processor's memory: there are 32"),
        ({"offload": "experts"}, "llama-3-8b has no experts that could lie in the processor's memory; say layers"),
        ({"layout": Layout(pipeline=33)}, "32 layers cannot fill 33 stages of a pipeline"),
    ],
)
def test_what_cannot_be_split_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cost(arch("llama-3-8b"), 1000, **options)
    with pytest.raises(InputError, match="must be above 0, got 0"):
        Offload("layers", bandwidth=0)
