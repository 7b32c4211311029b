"""How axes may be cut, the plan that follows, what is exchanged, and that cost prices this plan."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from functools import cache
from math import prod
from typing import Any

import pytest
from click.testing import CliRunner

from vitruvius import catalog
from vitruvius.architectures import read
from vitruvius.cli import main
from vitruvius.cost import cost
from vitruvius.cost.devices import Device
from vitruvius.cost.setting import Attained
from vitruvius.cost.training import training
from vitruvius.cost.work import cut, work
from vitruvius.errors import InputError
from vitruvius.sharding import RULES, Layout, Replicate, Shard, fullest, parts, plan, sent, share, share_of, stage_of
from vitruvius.sharding.cutting import copied
from vitruvius.spec import CUTS, Axis, Decoder, Exchange, Indexer, walk


@cache
def arch(name: str) -> Decoder:
    entry = catalog.entry(name)
    return read(entry.config, entry.id, catalog.implicit)


def placed(name: str, layout: Layout, zero: Any = None) -> dict[str, Any]:
    found = plan(arch(name), layout, zero)
    return {weight.name: weight for weight in found.weights}


# ------------------------------------------------------------------ axes


def test_an_axis_says_how_it_may_be_cut() -> None:
    axis: Any = Axis
    with pytest.raises(TypeError, match="cut"):
        axis("heads", 32, 128)
    with pytest.raises(ValueError, match=r"axis .heads. must say how it is cut, one of heads"):
        axis("heads", 32, 128, cut="sometimes")
    assert {axis("x", 3, 2, cut=kind).size for kind in CUTS} == {6}


def test_every_kind_has_a_rule() -> None:
    assert set(RULES) == set(CUTS)
    assert {kind for kind in CUTS if RULES[kind].cut} == {"heads", "kv_heads", "groups", "hidden", "vocabulary"}
    assert {kind for kind in CUTS if RULES[kind].copied} == {"kv_heads", "groups"}


# ------------------------------------------------------------------ placements, by hand


def test_llama_by_hand() -> None:
    """8 devices of a node: 4 of 32 query heads of 128, one of 8 key heads, 1,792 of 14,336 channels each."""
    found = placed("llama-3-8b", Layout(tensor=8, data=2), zero=3)
    rows = {"q": 4096, "kv.k": 1024, "kv.v": 1024}
    for name, size in rows.items():
        weight = found[f"layers.31.mixer.body.{name}.weight"]
        assert weight.placements == {"data": Shard(0, ((size, 2),)), "tensor": Shard(0, ((size, 8),))}
        assert (weight.shape, weight.elements, weight.stage) == ((size, 4096), size * 4096 // 8, 0)
        assert weight.placements["tensor"].plain(8)
    assert found["layers.0.mixer.body.o.weight"].placements["tensor"] == Shard(1, ((4096, 8),))
    assert found["layers.0.mlp.body.down.weight"].placements["tensor"] == Shard(1, ((14_336, 8),))
    assert found["layers.0.mixer.pre.weight"].placements == {"data": Shard(0, ((4096, 2),)), "tensor": Replicate()}
    assert found["head.weight"].placements["tensor"] == Shard(0, ((128_256, 8),))
    assert placed("llama-3-8b", Layout(8, 2), 2)["head.weight"].placements["data"] == Replicate()


def test_modules_say_how_their_inputs_and_outputs_lie() -> None:
    found = {m.name: (m.input, m.output) for m in plan(arch("deepseek-v3.2"), Layout(tensor=4)).modules}
    assert found["embedding"] == ("replicate", "partial")
    assert found["layers.0.mixer.body.q_a"] == ("replicate", "replicate")
    assert found["layers.0.mixer.body.q_b"] == ("replicate", "shard")
    assert found["layers.0.mixer.body.mask.q"] == ("replicate", "replicate")
    assert found["layers.0.mixer.body.o"] == ("shard", "partial")
    assert found["layers.0.mlp.body.down"] == ("shard", "partial")
    assert found["layers.9.mlp.body.router"] == ("replicate", "replicate")
    assert found["layers.9.mlp.body.experts.up"] == ("replicate", "shard")
    assert found["head"] == ("replicate", "shard")
    spread = {m.name: m.output for m in plan(arch("deepseek-v3.2"), Layout(4, experts="spread")).modules}
    assert spread["layers.9.mlp.body.experts.down"] == "replicate"
    assert spread["layers.9.mlp.body.shared.down"] == "partial"


def test_fused_matrices_are_cut_segment_by_segment_and_few_heads_are_copied() -> None:
    """Nemotron 3 Nano on 16: z and x of 64 heads of 64, b and c of 8 groups of 128, dt of 64 heads; 2 key heads."""
    found = plan(arch("nemotron-3-nano-30b-a3b"), Layout(tensor=16))
    weights = {weight.name: weight for weight in found.weights}
    segments = ((4096, 16), (4096, 16), (1024, 8), (1024, 8), (64, 16))
    inside = weights["layers.0.mixer.body.in_proj.weight"]
    assert inside.placements == {"tensor": Shard(0, segments)}
    assert inside.elements == (256 + 256 + 128 + 128 + 4) * 2688
    assert not inside.placements["tensor"].plain(16)
    assert weights["layers.5.mixer.body.kv.k.weight"].placements["tensor"] == Shard(0, ((256, 2),))
    assert found.notes == (
        "8 groups are fewer than 16 devices: each is on 2",
        "2 kv heads are fewer than 16 devices: each is on 8",
    )
    states = {state.name: state for state in found.states}
    assert states["layers.0.mixer.body.conv"].share * 6144 == 256 + 128 + 128
    assert states["layers.0.mixer.body.memory"].placements == {"tensor": Shard(0, ((64, 16),))}
    assert found.refusals == ()


def test_latents_and_indexers_are_whole_everywhere() -> None:
    found = plan(arch("deepseek-v3.2"), Layout(tensor=8))
    assert {state.share for state in found.states} == {1}
    indexer = {w.name: w for w in found.weights if w.name.startswith("layers.0.mixer.body.mask.")}
    assert len(indexer) == 5
    assert {weight.placements["tensor"] for weight in indexer.values()} == {Replicate()}
    spec = next(node.spec for node in walk(arch("deepseek-v3.2"), 7168) if isinstance(node.spec, Indexer))
    assert cut(spec, 8) == 1  # each of 8 devices scores with all 64 heads


def test_what_multi_token_prediction_joins_is_whole() -> None:
    join = placed("deepseek-v3", Layout(tensor=8))["mtp.0.join.weight"]
    assert (join.shape, join.share) == ((7168, 2 * 7168), 1)


def test_experts_are_cut_or_spread() -> None:
    up = "layers.3.mlp.body.experts.up.weight"
    whole, inside = (placed("deepseek-v3", Layout(2, 8, experts))[up] for experts in ("spread", "cut"))
    assert whole.placements == {"data": Replicate(), "tensor": Replicate(), "expert": Shard(0, ((256, 16),))}
    assert inside.placements == {"data": Replicate(), "tensor": Shard(1, ((2048, 2),))}
    assert whole.elements == 16 * 2048 * 7168
    some = placed("deepseek-v3", Layout(2, 8, 4), zero=3)[up]
    assert some.placements["expert"] == Shard(0, ((256, 4),))
    assert some.placements["data"] == Shard(0, ((256, 4),))  # 16 devices, 4 of them hold the same


def test_a_pipeline_has_runs_of_layers() -> None:
    tree, layout = arch("llama-3-8b"), Layout(pipeline=5)
    stages = [stage_of(f"layers.{i}.mixer", tree, layout) for i in range(32)]
    assert [stages.count(stage) for stage in range(5)] == [7, 7, 6, 6, 6]
    assert stages == sorted(stages)
    assert [stage_of(path, tree, layout) for path in ("embedding", "final_norm", "head")] == [0, 4, 4]
    sends = [c for c in plan(tree, layout).collectives if c.kind == "send"]
    assert [c.module for c in sends] == ["layers.6", "layers.13", "layers.19", "layers.25"]
    assert {c.elements for c in sends} == {4096}
    with pytest.raises(InputError, match="32 layers cannot fill 33 stages"):
        plan(tree, Layout(pipeline=33))


@pytest.mark.parametrize(
    ("name", "tensor", "why"),
    [
        ("gemma-3-27b", 3, ["32 heads do not divide among 3 devices", "16 kv heads do not divide among 3 devices"]),
        ("gpt2", 8, ["12 heads do not divide among 8 devices", "12 kv heads do not divide among 8 devices"]),
        ("llama-3-8b", 16, []),
        ("llama-3-8b", 12, ["32 heads", "8 kv heads", "14,336 hidden"]),
    ],
)
def test_what_engines_refuse_says_why(name: str, tensor: int, why: list[str]) -> None:
    found = plan(arch(name), Layout(tensor=tensor)).refusals
    assert [said[: len(each)] for said, each in zip(found, why, strict=True)] == why


def test_experts_must_divide_and_vocabularies_are_padded() -> None:
    found = plan(arch("gpt-oss-20b"), Layout(3, experts="spread"))
    assert "32 experts do not divide among 3 devices" in found.refusals
    assert plan(arch("gpt2"), Layout(tensor=4)).notes == ("the vocabulary of 50,257 is padded to 50,260",)


# ------------------------------------------------------------------ exchanges


def test_what_one_device_sends() -> None:
    assert sent(Exchange("reduce", 4096), Layout(tensor=8)) == 2 * 4096 * 7 / 8
    assert sent(Exchange("gather", 4096), Layout(tensor=8)) == 4096 * 7 / 8
    assert sent(Exchange("reduce", 4096), Layout(data=8)) == 0
    assert sent(Exchange("reduce", 4096, when="spread"), Layout(tensor=8)) == 0
    assert sent(Exchange("reduce", 4096, when="cut"), Layout(8, 1, "spread")) == 0
    spread = Exchange("spread", 7168, active=8, when="spread")
    assert sent(spread, Layout(1, 16, "spread")) == pytest.approx(2 * 7168 * 15 * (1 - (15 / 16) ** 8))
    assert sent(spread, Layout(2, 8, 4)) == pytest.approx(7168 * 3 * (1 - (3 / 4) ** 8))
    assert sent(spread, Layout(tensor=16)) == 0


def test_the_exchanges_of_a_layer() -> None:
    """After every mixer and feed-forward layer, of a mixture also after the shared expert, which stays cut."""
    found = plan(arch("deepseek-v3"), Layout(2, 2, "spread")).collectives
    layer = [(c.kind, c.over, c.module) for c in found if c.module.startswith("layers.3.")]
    assert layer == [
        ("all_reduce", "tensor", "layers.3.mixer.body"),
        ("all_to_all", "expert", "layers.3.mlp.body"),
        ("all_reduce", "tensor", "layers.3.mlp.body.shared"),
    ]
    whole = [(c.kind, c.module) for c in plan(arch("deepseek-v3"), Layout(2, 2)).collectives]
    assert whole[:2] == [("all_reduce", "embedding"), ("all_reduce", "layers.0.mixer.body")]
    assert whole[-1] == ("all_gather", "head")
    assert len(whole) == 2 + 2 * 61
    assert not any(module.startswith("mtp") for _, module in whole)


def test_gradients_and_weights_of_a_step() -> None:
    """By hand for GPT-2: 2(d − 1)/d of every gradient, or three times (d − 1)/d with weights shared out."""
    total = 124_439_808
    for zero, times in ((0, 2), (1, 2), (2, 1), (3, 3)):
        step = [c for c in plan(arch("gpt2"), Layout(data=4), zero).collectives if c.per == "step"]
        assert sum(c.elements for c in step) == times * total * 3 / 4
    assert plan(arch("gpt2"), Layout(data=4)).collectives == ()
    forward = plan(arch("gpt2"), Layout(tensor=4)).collectives
    both = plan(arch("gpt2"), Layout(tensor=4), 0).collectives
    assert [c.elements for c in both] == [2 * c.elements for c in forward]


def test_a_cut_sequence_sends_its_keys_round_and_its_memory_on() -> None:
    found = {(c.module, c.kind): c for c in plan(arch("nemotron-3-nano-30b-a3b"), Layout(context=4)).collectives}
    keys, memory = found["layers.5.mixer.body", "all_gather"], found["layers.0.mixer.body", "send"]
    assert (keys.elements, keys.per, keys.over) == (2 * 2 * 128 * 3 / 4, "token", "context")
    assert (memory.elements, memory.per, memory.over) == (64 * 64 * 128 + 3 * 6144, "sequence", "context")
    assert len(found) == 23 + 6
    trained = plan(arch("nemotron-3-nano-30b-a3b"), Layout(2, context=4), 0).collectives
    half = {c.module: c for c in trained if c.over == "context"}
    both = 2  # forward and backward
    assert half["layers.5.mixer.body"].elements == both * 2 * 128 * 3 / 4
    assert half["layers.0.mixer.body"].elements == both * (64 * 64 * 128 + 3 * 6144) / 2


def test_a_cut_sequence_sends_an_entry_for_each_stride(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = arch("gpt2")
    spec: Any = type(tree.layers[0].branches[0].body)
    plain = spec.state
    monkeypatch.setattr(
        spec, "state", lambda self: {name: replace(each, stride=4) for name, each in plain(self).items()}
    )
    assert {c.elements for c in plan(tree, Layout(context=2)).collectives} == {2 * 768 / 4 / 2}


def test_only_equal_blocks_are_plain() -> None:
    assert Shard(0, ((64, 8),)).plain(8)
    assert not Shard(0, ((60, 8),)).plain(8)  # torch.chunk gives 8, 8, … and 4
    assert not Shard(0, ((64, 8),)).plain(4)
    assert not Shard(0, ((64, 8), (64, 8))).plain(8)


def test_what_is_copied() -> None:
    heads = [(2, 8), (8, 8), (16, 8), (3, 8)]
    said = [copied(Axis("kv_heads", count, cut="kv_heads"), tensor) for count, tensor in heads]
    assert said == ["2 kv heads are fewer than 8 devices: each is on 4", None, None, None]
    assert copied(Axis("heads", 2, cut="heads"), 8) is None


def test_parts() -> None:
    assert parts(Axis("heads", 12, 64, cut="heads"), 8) == 8
    assert parts(Axis("kv_heads", 2, 64, cut="kv_heads"), 8) == 2
    assert parts(Axis("width", 768, cut="replicated"), 8) == 1


# ------------------------------------------------------------------ cost prices this plan

DEVICE = Device("square", "", "", "gpu", {"bf16": 1e14, "fp8": 1e14}, 1e12, 10**11, 1e11, 1e10, 8)
LAYOUTS = [Layout(8), Layout(6), Layout(2, 4, "spread"), Layout(2, 1, pipeline=3), Layout(1, 2, context=4)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", ["gpt2", "deepseek-v3.2", "qwen3-next-80b-a3b", "gemma-3n-e2b"])
def test_memory_is_that_of_the_plan(name: str, layout: Layout) -> None:
    found, memory = plan(arch(name), layout), cost(arch(name), 4000, layout=layout).memory.per_device
    weights, state = [0] * layout.pipeline, [0] * layout.pipeline
    for weight in found.weights:
        if not weight.name.startswith("mtp."):
            size = 4 if weight.name.endswith("selection_bias") else 2
            weights[weight.stage] += size * weight.elements
            if weight.name == "head.weight" and arch(name).embedding.tied and weight.stage:
                weights[0] += size * weight.elements
    for each in found.states:
        if not each.name.startswith("mtp."):
            state[each.stage] += int(2 * each.entry.elements(4000 // layout.context) * each.share)
    assert (memory.weights_bytes, memory.state_bytes) == max(zip(weights, state, strict=True), key=sum)


@pytest.mark.parametrize("layout", LAYOUTS[:3], ids=str)
@pytest.mark.parametrize("name", ["llama-3-8b", "deepseek-v3", "nemotron-3-super-120b-a12b", "gemma-3n-e2b"])
def test_bytes_sent_are_those_of_the_plan(name: str, layout: Layout) -> None:
    time = cost(arch(name), 100, 24, "fp8", device=DEVICE, layout=layout, attained=Attained(1.0, 1.0, 1.0)).time
    assert time is not None
    tokens = -(-24 // layout.data)
    elements = sum(c.elements for c in plan(arch(name), layout).collectives)
    assert sum(part.sent for part in time.decode.parts.values()) == pytest.approx(float(2 * tokens * elements))


def test_an_encoder_exchanges_nothing_for_the_next_token() -> None:
    tree = arch("switch-base-8")
    time = cost(tree, 100, device=DEVICE, layout=Layout(tensor=2)).time
    assert time is not None
    decoder = [c for c in plan(tree, Layout(tensor=2)).collectives if not c.module.startswith("encoder.")]
    assert sum(part.sent for part in time.decode.parts.values()) == pytest.approx(sum(2 * c.elements for c in decoder))
    assert len(decoder) == 2 + 12 * 3
    assert {each.encoder_side for part in work(tree) for each in part.sent} == {True, False}


def test_training_holds_the_plan() -> None:
    for layout in (Layout(4, 2), Layout(2, 4, 4), Layout(2, 2, pipeline=2)):
        found = plan(arch("deepseek-v2-lite"), layout, 3)
        held = training(arch("deepseek-v2-lite"), layout=layout, zero=3).memory
        stages = [0.0] * layout.pipeline
        for weight in found.weights:
            if not weight.name.endswith("selection_bias"):
                placed = weight.placements.get("data", Replicate())
                groups = placed.segments[0][1] if isinstance(placed, Shard) else 1
                stages[weight.stage] += 16 * prod(weight.shape) * weight.share / groups
        sizes = held.weights_bytes + held.gradients_bytes + held.optimizer_bytes
        assert sizes == pytest.approx(max(stages), rel=1e-6)


def test_times_are_given_for_what_is_estimated() -> None:
    assert cost(arch("gpt2"), 100, device=DEVICE, layout=Layout(pipeline=2)).time is not None
    assert cost(arch("gpt2"), 100, device=DEVICE, layout=Layout(context=2)).time is None
    assert cost(arch("gpt2"), 100, device=DEVICE, layout=Layout(tensor=2)).time is not None


def test_shares() -> None:
    heads, width = Axis("heads", 12, 64, cut="heads"), Axis("width", 768, cut="replicated")
    assert share(((heads,), (width,)), 8) == share(((width,), (heads,)), 8) == Fraction(2, 12)
    assert share(((heads, width),), 4) == Fraction(192 + 768, 1536)
    assert share((), 4) == 1
    nothing = Axis("inputs", 0, cut="replicated")
    assert share_of((nothing,), 4) == 1  # a convolution over one input keeps none
    assert [fullest(Axis("x", 10, cut=kind), 4) for kind in CUTS] == [3, 3, 3, 3, 3, 10, 10]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tensor": 0}, "tensor must be a whole number from 1 on, got 0"),
        ({"pipeline": 1.5}, "pipeline must be a whole number from 1 on, got 1.5"),
        ({"context": -1}, "context must be a whole number"),
        ({"experts": "whole"}, 'experts are "cut", "spread", or whole'),
        ({"tensor": 4, "experts": 3}, "divide the 4 of a stage, got 3"),
    ],
)
def test_layouts_that_cannot_be(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        Layout(**wrong)
    assert message in str(error.value)


# ------------------------------------------------------------------ the command


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["shard", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_shows_the_plan() -> None:
    text = run("deepseek-v3", "--devices", "64x8", "--experts", "64", "--pipeline", "4")
    assert text.startswith("deepseek-v3 on 512 devices: 4 pipeline × 16 data × 8 tensor, experts whole over 64\n")
    flat = [" ".join(line.split()) for line in text.splitlines()]
    assert "all-reduce tensor layers.*.mixer.body 61 50,176 token" in flat  # 2 passes, 2 · 7/8 of 7,168 at 2 bytes
    assert "layers.*.mixer.body.kv_a.weight 61 576 × 7,168 data cut 0" in flat
    assert "layers.*.mixer.body.o.weight 61 7,168 × 16,384 data cut 0, tensor cut 1" in flat


def test_the_command_as_json() -> None:
    found = json.loads(run("llama-3-8b", "--devices", "2x8", "--inference", "-c", "8k", "-b", "4", "--json"))
    assert found["layout"] == {"devices": 16, "data": 2, "tensor": 8}
    memory = cost(arch("llama-3-8b"), 8192, 4, layout=Layout(8, 2)).memory.per_device
    assert found["memory"]["weights_bytes"] == memory.weights_bytes
    assert found["memory"]["total_bytes"] == memory.needed_bytes
    (head,) = [each for each in found["communication"] if each["after"] == "head"]
    assert head == {
        "kind": "all_gather",
        "over": "tensor",
        "after": "head",
        "bytes": 2 * 128_256 * 7 / 8,
        "per": "token",
    }
    weights = {weight["name"]: weight for weight in found["weights"]}
    assert weights["layers.0.mixer.body.o.weight"]["placements"] == {"data": "whole", "tensor": "cut 1"}
    assert {"modules", "state", "refusals", "notes"} <= set(found)


def test_the_command_takes_what_divides_the_heads() -> None:
    assert json.loads(run("gpt2", "--devices", "8", "--json"))["layout"] == {"devices": 8, "data": 2, "tensor": 4}
    text = run("gemma-3-27b", "--devices", "3", "--tensor", "3", "--inference")
    assert text.rstrip().endswith("engines refuse this: 16 kv heads do not divide among 3 devices")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--devices 0x3", "'0x3' is not a number of devices such as 16 or 64x8"),
        ("--devices 12 --pipeline 5", "5 stages of 1 devices do not divide 12 devices"),
        ("--devices 20 --pipeline 20", "12 layers cannot fill 20 stages"),
        ("--devices 8 --tensor 3", "--tensor 3 does not divide the 8 devices"),
        ("--devices 8 --experts some", "experts are"),
    ],
)
def test_the_command_refuses_in_one_line(arguments: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["shard", "gpt2", *arguments.split()])
    assert stopped.value.code == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1


# ------------------------------------------------------------------ what mutations found untested


def test_gradients_are_exchanged_layer_by_layer() -> None:
    """By unit: each layer, each layer for multi-token prediction, and the parts around them; whole experts only among
    the devices that hold the same."""
    name, layout = "deepseek-v3", Layout(tensor=2, data=8, experts=4, pipeline=1)
    found = plan(arch(name), layout, zero=1)
    assert found.zero == 1
    weights: dict[str, Fraction] = {}
    for weight in found.weights:
        unit = weight.name.split(".")
        groups = 16 // 4 if isinstance(weight.placements["expert"], Shard) else 8
        key = ".".join(unit[:2]) if unit[0] in ("layers", "mtp") else unit[0]
        weights[key] = weights.get(key, Fraction(0)) + Fraction(weight.elements * (groups - 1), groups)
    sent_by = [c for c in found.collectives if c.per == "step"]
    assert {(c.kind, c.over) for c in sent_by} == {("all_reduce", "data")}
    assert {c.module: c.elements for c in sent_by} == {unit: 2 * moved for unit, moved in weights.items() if moved}
    assert {"layers.60", "mtp.0", "embedding", "head", "final_norm"} <= weights.keys()


def test_states_of_a_cut_sequence_lie_apart_and_memories_do_not() -> None:
    found = plan(arch("qwen3-next-80b-a3b"), Layout(context=4))
    kinds = {type(state.entry).__name__: state.placements["context"] for state in found.states}
    assert kinds == {"PerToken": Shard(0, ()), "Fixed": Replicate()}
    assert all("context" not in state.placements for state in plan(arch("llama-3.2-1b"), Layout(tensor=2)).states)


def test_a_pipeline_sends_its_stream_to_the_next_stage() -> None:
    sends = [c for c in plan(arch("llama-3.2-1b"), Layout(pipeline=4, tensor=2)).collectives if c.kind == "send"]
    assert [(c.over, c.module, c.elements) for c in sends] == [
        ("pipeline", f"layers.{i}", Fraction(2048, 2)) for i in (3, 7, 11)
    ]


# ------------------------------------------------------------------ the pipeline's bubble


def steps_of_one_forward_one_backward(stages: int, micro_batches: int) -> int:
    """How many steps the schedule takes, played through: a forward or a backward pass of a stage is one step each."""
    ran: list[list[str]] = [[] for _ in range(stages)]
    done: dict[tuple[str, int, int], int] = {}
    clock = 0
    while any(len(own) < 2 * micro_batches for own in ran):
        now = {}
        for stage, own in enumerate(ran):
            forward, backward = own.count("f"), own.count("b")
            warm = min(stages - stage, micro_batches)
            turn = "f" if forward < micro_batches and forward - backward < warm else "b"
            of = forward if turn == "f" else backward
            if of == micro_batches:
                continue
            if turn == "f":
                ready = stage == 0 or done.get(("f", stage - 1, of), clock) < clock
            else:
                after = ("b", stage + 1, of) if stage + 1 < stages else ("f", stage, of)
                ready = done.get(after, clock) < clock
            if ready:
                now[turn, stage, of] = clock
                own.append(turn)
        done |= now
        clock += 1
    return clock


@pytest.mark.parametrize(("stages", "micro_batches"), [(1, 5), (4, 4), (4, 16), (8, 3), (2, 1)])
def test_the_bubble_is_that_of_the_schedule_played_through(stages: int, micro_batches: int) -> None:
    steps = steps_of_one_forward_one_backward(stages, micro_batches)
    assert Layout(pipeline=stages).bubble(micro_batches) == Fraction(steps - 2 * micro_batches, steps)


def test_shard_says_how_long_a_stage_waits() -> None:
    asked = ["shard", "llama-3-8b", "--devices", "8", "--pipeline", "4", "--micro-batches", "12"]
    shown = CliRunner().invoke(main, asked)
    assert "a stage waits for 20.0% of a step of 12 micro-batches" in shown.output
    found = json.loads(CliRunner().invoke(main, [*asked, "--json"]).output)
    assert found["pipeline"] == {"micro_batches": 12, "bubble": 0.2}
    plain = json.loads(CliRunner().invoke(main, ["shard", "llama-3-8b", "--json"]).output)
    assert plain["pipeline"] is None
