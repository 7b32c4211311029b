"""Memory: formats of weights, engines' accounting of state, and what fits, against what others publish and measure."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES
from click.testing import CliRunner, Result
from kvfit.architectures import estimate_cache
from kvfit.models import UnsupportedArchitecture
from reference import offline, transformers_model

from vitruvius import catalog
from vitruvius.architectures import read
from vitruvius.cli import main
from vitruvius.cost import cost, fits
from vitruvius.cost.counting import Counted, counted
from vitruvius.cost.devices import device
from vitruvius.cost.formats import NAMES, weight_format
from vitruvius.cost.gguf_kinds import mixture
from vitruvius.cost.policies import POLICIES, kept, page_tokens, reserved
from vitruvius.cost.setting import Attained, Layout
from vitruvius.errors import InputError
from vitruvius.sharding import share
from vitruvius.spec import Axis, Decoder

ENTRIES = [entry for entry in catalog.entries() if not entry.like]  # the others differ in sizes only
BY_ENTRY = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
ONE_OF_EACH = {entry.config["model_type"]: entry for entry in ENTRIES}.values()
BY_TYPE = pytest.mark.parametrize("entry", ONE_OF_EACH, ids=lambda entry: entry.id)


def arch(name: str) -> Decoder:
    entry = catalog.entry(name)
    return read(entry.config, entry.id, catalog.implicit)


def tiny(name: str, **changes: Any) -> Decoder:
    return read({**catalog.entry(name).config, **changes}, "tiny", catalog.implicit)


def stored(tree: Decoder, name: str) -> int:
    form = weight_format(name, tree)
    return sum(form.stored(weight, "bf16") for weight in counted(tree) if weight.part != "mtp")


# ------------------------------------------------------------------ formats of weights

# bits per weight of Llama 3.1 8B, ggml-org/llama.cpp, tools/quantize/README.md
PUBLISHED = """
IQ1_S 2.0042 IQ1_M 2.1460 IQ2_XXS 2.3824 IQ2_XS 2.5882 IQ2_S 2.7403 IQ2_M 2.9294 IQ3_XXS 3.2548 IQ3_XS 3.4977
IQ3_S 3.6606 IQ3_M 3.7628 IQ4_XS 4.4597 IQ4_NL 4.6818 Q2_K_S 2.9697 Q2_K 3.1593 Q3_K_S 3.6429 Q3_K_L 4.2979
Q4_K_S 4.6672 Q4_K_M 4.8944 Q5_K_S 5.5704 Q5_K_M 5.7036 Q6_K 6.5633 Q8_0 8.5008 F16 16.0005
""".split()
FREQUENCIES = 64  # of RoPE, which its file holds as one more float32 tensor


@pytest.mark.parametrize(("name", "bits"), zip(PUBLISHED[::2], map(float, PUBLISHED[1::2]), strict=True))
def test_gguf_file_types_have_the_published_bits(name: str, bits: float) -> None:
    tree = arch("llama-3-8b")
    form = mixture(name, tree)
    assert form is not None
    size = sum(form.stored(weight, "bf16") for weight in counted(tree)) + 4 * FREQUENCIES
    assert round(8 * size / (8_030_261_248 + FREQUENCIES), 4) == bits


@pytest.mark.parametrize(("name", "gibibytes"), [("gpt-oss-20b", 12.8), ("gpt-oss-120b", 60.8)])
def test_mxfp4_is_as_large_as_openais_checkpoints(name: str, gibibytes: float) -> None:
    """arXiv 2508.10925, table 1: checkpoint size."""
    assert round(stored(arch(name), "mxfp4") / 2**30, 1) == gibibytes


def test_fp8_blocks_by_hand() -> None:
    tree = arch("deepseek-v3")
    kept = 2 * 129_280 * 7168 + 123 * 7168 + 61 * (1536 + 512) + 58 * 256 * 7168  # tables, norms, routers
    packed = 671_026_404_352 - kept
    tall = {(18_432, 7168): 3 * 2, (7168, 18_432): 3, (2048, 7168): 58 * 257 * 2, (7168, 2048): 58 * 257}
    attention = {(1536, 7168): 61, (24_576, 1536): 61, (576, 7168): 61, (32_768, 512): 61, (7168, 16_384): 61}
    scales = sum(
        count * ceil(rows / 128) * ceil(columns / 128) for (rows, columns), count in (tall | attention).items()
    )
    assert stored(tree, "fp8-block") == 2 * kept + packed + 4 * scales + 4 * 14_848


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("int8-channel", 300 + 2),
        ("int4-g128", 150 + 3 * 2),
        ("int4-g64", 150 + 5 * 2),
        ("int4-g32", 150 + 10 * 2),
        ("awq", (300 * 4 + 3 * 20) / 8),
        ("mxfp4", 150 + 10),
        ("nvfp4", 150 + 19),
    ],
)
def test_scales_are_counted_for_a_rest_too(name: str, row: float) -> None:
    """A matrix of 40 rows of 300, which no group divides."""
    sizes = {"hidden_size": 300, "intermediate_size": 40, "num_attention_heads": 6, "head_dim": 50}
    tree = tiny("llama-3-8b", num_hidden_layers=1, num_key_value_heads=2, **sizes)
    (up,) = [weight for weight in counted(tree) if weight.name == "up.weight"]
    beside = 4 if name == "nvfp4" else 0
    assert weight_format(name, tree).stored(up, "bf16") == 40 * row + beside


@pytest.mark.parametrize("name", ["fp8-block", "int8-channel", "int4-g128", "awq", "mxfp4", "nvfp4"])
@BY_TYPE
def test_what_must_stay_exact_is_not_packed(entry: catalog.Entry, name: str) -> None:
    tree = arch(entry.id)
    form, sparse = weight_format(name, tree), any(weight.copies > 1 for weight in counted(tree))
    for weight in counted(tree):
        matrix = weight.product and len(weight.weight.shape) == 2 and weight.dtype is None
        exact = weight.part in ("embedding", "head", "router", "positions", "norms") or not matrix
        if exact:
            width = 4 if weight.dtype == "float32" else 2
            assert form.stored(weight, "bf16") == width * weight.elements
        elif not (name == "mxfp4" and sparse and weight.copies == 1) and weight.part != "mtp":
            assert form.stored(weight, "bf16") < 2 * weight.elements or weight.weight.shape[-1] < 8


@BY_TYPE
@pytest.mark.parametrize("name", ["q4_k_m", "q8_0", "q2_k", "mxfp4_moe", "iq3_xs", "q4_k-pure"])
def test_gguf_stays_between_its_kinds(entry: catalog.Entry, name: str) -> None:
    tree = arch(entry.id)
    elements = sum(weight.elements for weight in counted(tree) if weight.part != "mtp")
    size = 8 * stored(tree, name) / elements
    least = {"q4_k_m": 4.5, "q8_0": 8.5, "q2_k": 2.6, "mxfp4_moe": 4.25, "iq3_xs": 3.0, "q4_k-pure": 4.5}[name]
    assert least <= size < max(2.2 * least, 8.6)


def test_every_name_of_a_format_is_one() -> None:
    tree = arch("mixtral-8x7b")
    sizes = {name: stored(tree, name) for name in NAMES}
    assert sizes["bf16"] == 2 * 46_702_792_704
    assert sizes["q4_k_m"] == weight_format("Q4_K", tree).stored(counted(tree)[0], "bf16") + sum(
        weight_format("q4_k_m", tree).stored(weight, "bf16") for weight in counted(tree)[1:]
    )
    assert weight_format("FP8_block", tree).name == "fp8-block"
    assert [
        weight_format(name, tree).compute("bf16") for name in ("fp8", "fp8-block", "int4-g128", "int4", "q4_k_m")
    ] == [
        "fp8",
        "fp8",
        "bf16",
        "bf16",
        "bf16",
    ]


# ------------------------------------------------------------------ policies of state


# grok, glam and nemotron-nas have no class in transformers; and it cannot ask a cache without attention how long it is
NOT_THERE = {"glam", "grok", "nemotron_h_biases", "nemotron_nas"}
# … nor has it a causal class for the text models of Qwen's vision models
CASES_BY_TYPE = {
    config["model_type"]: case
    for case, config in CASES.items()
    if case not in NOT_THERE and "_vl_" not in config["model_type"]
}


@pytest.mark.parametrize("case", CASES_BY_TYPE.values())
@torch.no_grad()
def test_transformers_keeps_what_the_policy_says(case: str) -> None:
    """The bytes of a live cache."""
    config = CASES[case]
    with offline():
        model = transformers_model(config)
    layers = kept(read(config, "tiny", catalog.implicit))
    for prompt in (5, 37):
        ids = torch.randint(3, 40, (2, prompt))
        out = model(input_ids=ids, use_cache=True)
        cache = out.get("past_key_values") or out.cache_params  # Mamba-2 has another name for it
        assert held(cache) == reserved(layers, prompt, "f32", 2)["transformers"]


def held(cache: Any) -> int:
    """Bytes of all floating-point tensors of all layers."""
    return sum(tensor.nbytes for layer in cache.layers for tensor in tensors(vars(layer)))


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for each in inside for tensor in tensors(each)]


@BY_TYPE
def test_policies_reserve_at_least_the_minimum(entry: catalog.Entry) -> None:
    tree = arch(entry.id)
    layers = kept(tree)
    for context in (1, 1000, 131_072):
        found = reserved(layers, context, "f32", 3)
        assert found["minimum"] == found["vitruvius"] == cost(tree, context, 3, "f32").state.bytes
        assert found["llama.cpp"] >= found["minimum"]
        assert found["llama.cpp-swa-full"] >= found["llama.cpp"]
        # vLLM keeps an indexer's keys in FP8, so not for these
        if not any(each.kind == "indexer" for each in layers):
            assert found["vllm"] >= found["minimum"]
        recurrent = any(each.token == 0 for each in layers)
        assert ("vllm-no-hybrid" in found) == (not recurrent)


def test_gemma3_by_each_policy_by_hand() -> None:
    """52 layers with a window of 1,024 and 10 without, 16 heads of 128 for keys and for values, 16 bits."""
    token, context = 2 * 16 * 128 * 2, 131_072
    found = reserved(kept(arch("gemma-3-27b")), context, "bf16", chunk=2048)
    assert found["minimum"] == token * (52 * 1024 + 10 * context)
    assert found["transformers"] == token * (52 * 1023 + 10 * context)
    assert found["llama.cpp"] == token * (52 * 1536 + 10 * context)
    assert found["llama.cpp-swa-full"] == found["vllm-no-hybrid"] == token * 62 * context
    # 6 groups of 10 with windows, the last one padded; each of (1023 + 2048) / 16 pages and one
    assert found["vllm"] == 16 * token * 10 * (6 * (192 + 1) + context // 16)


def test_pages_and_cells_are_whole() -> None:
    layers, token = kept(arch("llama-3-8b")), 32 * 2 * 8 * 128 * 2
    for context, pages, cells in ((1, 16, 256), (16, 16, 256), (17, 32, 256), (257, 272, 512)):
        found = reserved(layers, context, "bf16")
        assert (found["vllm"], found["llama.cpp"]) == (pages * token, cells * token)
        assert found["transformers"] == context * token


def test_groups_of_nearly_equal_size_take_the_larger() -> None:
    """12 layers with windows and 13 without are two groups of 13, not three of 12 (vLLM's own example)."""
    kinds = ["sliding_attention", "full_attention"] * 12 + ["full_attention"]
    layers = kept(tiny("gpt-oss-20b", num_hidden_layers=25, layer_types=kinds))
    page = 16 * 2 * 8 * 64 * 2
    assert reserved(layers, 16_000, "bf16", chunk=1024)["vllm"] == 13 * page * (1000 + ceil((127 + 1024) / 16) + 1)


def test_pages_of_qwen35_are_as_long_as_vllm_logged() -> None:
    """ "Setting attention block size to 2096 tokens": Qwen3.5 35B-A3B with an FP8 cache, vLLM 2026, its log as quoted
    in an article on hybrid caches."""
    layers = kept(arch("qwen3.5-35b-a3b"))
    (recurrent,) = [each for each in layers if not each.token]
    (keys,) = [each for each in layers if each.token]
    assert page_tokens(2 * 3 * recurrent.inputs[1] + 4 * recurrent.memory, keys.token) == 2096
    # 10 layers of attention, 30 recurrent ones: 4 groups of 10; a recurrent layer's page is padded to attention's
    assert reserved(layers, 2097, "fp8")["vllm"] == 10 * 2096 * keys.token * (2 + 3)


def test_latents_indexers_and_unified_keys() -> None:
    v32 = reserved(kept(arch("deepseek-v3.2")), 1600, "bf16")
    assert v32["minimum"] == 61 * 1600 * (576 + 128) * 2
    assert v32["vllm"] == 61 * 1600 * (576 * 2 + 128 + 4)
    gemma4 = reserved(kept(arch("gemma-4-26b-a4b")), 100, "bf16")
    assert gemma4["minimum"] == 100 * 2 * (25 * 2 * 8 * 256 + 5 * 2 * 512)
    assert gemma4["transformers"] == 100 * 2 * (25 * 2 * 8 * 256 + 5 * 2 * 2 * 512)


# kvfit 0.3.0 refuses these: families it does not know, and configs of keys it does not read
REFUSED = """gemma-3n-e2b gemma-3n-e4b glam-64b-64e glm-4.5-air glm-4.5 gpt2 gpt2-medium gpt2-large gpt2-xl grok-2
kimi-k2 kimi-linear-48b-a3b kimi-k2-thinking llama-4-scout llama-4-maverick mimo-v2-flash minimax-m2 ministral-3-3b
ministral-3-8b ministral-3-14b nemotron-3.5-lightning-30b-a3b nemotron-3-ultra-550b-a55b olmo-3-7b olmo-3-32b
smollm3-3b switch-xxl switch-c-2048 switch-base-8 trinity-nano-6b trinity-mini-26b trinity-large-400b falcon-h1-7b
glm-4-9b granite-4.0-h-small devstral-small-2-24b devstral-2-123b qwen3-vl-8b qwen3-vl-235b-a22b""".split()
CONTEXTS = (1, 5000, 131_072)


def others(entry: catalog.Entry, context: int, width: float) -> float:
    return estimate_cache(entry.config, context_tokens=context, kv_bytes=width).total_bytes


@BY_ENTRY
def test_kvfit_agrees_wherever_it_accepts_a_model(entry: catalog.Entry) -> None:
    if entry.id in REFUSED:
        with pytest.raises(UnsupportedArchitecture):
            others(entry, 100, 2)
        return
    tree = arch(entry.id)
    for context in CONTEXTS:
        # what it counts with two bytes has a memory in float32, which Qwen3-Next's config does not ask for
        width, dtype = (4, "f32") if entry.id == "qwen3-next-80b-a3b" else (2, "bf16")
        found = cost(tree, context, dtype=dtype).state.bytes
        if entry.family == "Gemma 4":  # keys that are values: it counts both, as engines keep both
            found += sum(
                2 * each.token * context * count for each, count in kept(tree).items() if each.kind == "unified"
            )
        assert found == others(entry, context, width)


def test_kvfit_accepts_most_of_the_catalog() -> None:
    assert set(REFUSED) <= {entry.id for entry in ENTRIES}
    assert len(ENTRIES) - len(REFUSED) >= 49


# ------------------------------------------------------------------ on devices


@pytest.mark.parametrize(
    ("dimensions", "tensor", "expected"),
    [
        ((Axis("heads", 32, 128, cut="heads"), Axis("width", 4096, cut="replicated")), 8, (1, 8)),
        ((Axis("kv_heads", 8, 128, cut="kv_heads"), Axis("width", 4096, cut="replicated")), 16, (1, 8)),  # copied
        (
            (Axis("kv_heads", 3, 64, cut="kv_heads"), Axis("width", 4096, cut="replicated")),
            2,
            (2, 3),
        ),  # the fuller device
        ((Axis("width", 4096, cut="replicated"), Axis("hidden", 14_336, cut="hidden")), 4, (1, 4)),
        ((Axis("latent", 1, 512, cut="replicated"), Axis("width", 7168, cut="replicated")), 8, (1, 1)),
        ((Axis("experts", 256, cut="replicated"), Axis("width", 7168, cut="replicated")), 8, (1, 1)),
    ],
)
def test_matrices_are_cut_between_heads(dimensions: Any, tensor: int, expected: tuple[int, int]) -> None:
    found = share(tuple((axis,) for axis in dimensions), tensor)
    assert (found.numerator, found.denominator) == expected


def test_llama_on_four_devices_by_hand() -> None:
    found = cost(arch("llama-3-8b"), 8192, 10, device="l4", devices=4).memory
    vectors = 65 * 4096
    assert found.per_device.weights_bytes == 2 * ((8_030_261_248 - vectors) // 4 + vectors)
    assert found.per_device.state_bytes == 10 * 8192 * 131_072 // 4
    assert found.state_bytes == 10 * 8192 * 131_072
    # 2,048 tokens: stream and copy, then gate, up and down, all in 16 bits; logits of 10 in float32
    assert found.per_device.activations_bytes == 2 * 2048 * (2 * 4096 + 2 * 14_336 // 4 + 4096) + 4 * 10 * 128_256 // 4
    assert found.fits is (found.per_device.needed_bytes <= 24 * 10**9) is True


def test_latents_are_on_every_device_and_experts_may_be_spread() -> None:
    tree = arch("deepseek-v3")
    whole = cost(tree, 4096, 32, "fp8")
    cut = cost(tree, 4096, 32, "fp8", "h200", 16).memory.per_device
    spread = cost(tree, 4096, 32, "fp8", "h200", layout=Layout(1, 16, "spread")).memory.per_device
    assert cut.state_bytes == whole.state.bytes
    assert spread.state_bytes == whole.state.bytes // 16
    parts = whole.parameters.by_part
    others = sum(size for part, size in parts.items() if part not in ("experts", "mtp", "router selection bias"))
    assert spread.weights_bytes == parts["experts"] // 16 + others + 4 * parts["router selection bias"]


def test_state_is_cut_between_heads() -> None:
    """By hand, for 8 devices: what 8 of them hold together, over what one holds alone."""
    copies = {"llama-3-8b": 1, "gpt2": 16 / 12, "deepseek-v3": 8}
    for name, times in copies.items():
        tree = arch(name)
        one, eight = (cost(tree, 512, devices=count).memory.per_device.state_bytes for count in (1, 8))
        assert 8 * eight / one == pytest.approx(times)
    short = read(CASES["lfm2"], "tiny", catalog.implicit)
    (conv,) = [each for each in kept(short, 4) if not each.token]
    assert conv.inputs[1] == ceil(short.width / 4)


def test_prediction_and_vision_stand_apart() -> None:
    found = cost(arch("deepseek-v3"), 100).memory
    assert found.mtp_bytes == 2 * (11_610_068_224 - 256) + 4 * 256
    assert found.vision_bytes is None
    assert cost(arch("gemma-3-27b"), 100).memory.vision_bytes == 2 * (27_432_406_640 - 27_009_346_304)


@pytest.mark.parametrize(
    ("name", "policy"),
    [*(("gemma-3-27b", policy) for policy in POLICIES), ("gpt-oss-120b", "vllm"), ("deepseek-v3.2", "minimum")],
)
def test_what_is_said_to_fit_is_the_most_that_does(name: str, policy: str) -> None:
    tree, asked = arch(name), {"device": "h200", "policy": policy, "weights": "int4-g128"}
    devices = 4 if name == "deepseek-v3.2" else 1

    def holds(context: int, batch: int, count: int = devices) -> bool | None:
        return cost(tree, context, batch, devices=count, **asked).memory.fits

    found = fits(tree, 5000, 7, devices=devices, **asked)
    context, batch = found.context_at_batch, found.batch_at_context
    assert context
    assert batch
    assert holds(context, 7)
    assert not holds(context + 1, 7)
    assert holds(5000, batch)
    assert not holds(5000, batch + 1)
    assert found.devices
    assert holds(5000, 7, found.devices)
    assert found.devices == 1 or not holds(5000, 7, found.devices // 2)


def test_groups_that_share_the_batch_hold_its_parts() -> None:
    tree, layout = arch("deepseek-v3"), Layout(1, 16, "spread")
    found = fits(tree, 32_768, 64, "fp8", "h100-sxm", layout=layout)
    assert found.batch_at_context
    assert found.batch_at_context % 16 == 0
    assert cost(tree, 32_768, found.batch_at_context, "fp8", "h100-sxm", layout=layout).memory.fits
    assert not cost(tree, 32_768, found.batch_at_context + 1, "fp8", "h100-sxm", layout=layout).memory.fits
    assert found.devices == 16
    assert not cost(tree, 32_768, 64, "fp8", "h100-sxm", layout=Layout(1, 8, "spread")).memory.fits


def test_nothing_fits_or_everything() -> None:
    assert fits(arch("llama-3.1-405b"), 100, device="l4").context_at_batch == 0
    assert fits(arch("kimi-k2"), 100, device="h200").devices == 16  # 2.053 TB of weights are 14.6 of 141 GB
    assert fits(arch("kimi-k2"), 100, device="m3-max").devices is None  # they have no links
    assert fits(arch("qwen3-235b-a22b"), 100, device="rtx-5090").devices is None  # none beyond a node
    recurrent = read(CASES["mamba2"], "tiny", catalog.implicit)
    assert fits(recurrent, device="l4").context_at_batch is None
    assert fits(recurrent, device="l4").batch_at_context
    with pytest.raises(InputError, match="name one"):
        fits(arch("gpt2"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": "q4"}, "weight format 'q4' is not known: it is one of f32"),
        ({"policy": "sglang"}, "policy 'sglang' is not known: it is one of minimum"),
        ({"state": "q8"}, "dtype 'q8' of the state is not known"),
        ({"chunk": 0}, "chunk must be a whole number from 1 on, got 0"),
        ({"devices": 0}, "devices must be a whole number from 1 on, got 0"),
        ({"devices": 3, "layout": Layout(2)}, "the layout takes 2 devices, not 3"),
        ({"device": "h999"}, "no device named 'h999'"),
    ],
)
def test_unusable_settings_are_refused_in_one_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        cost(arch("gpt2"), **wrong)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_policies_that_cannot_serve_say_so() -> None:
    with pytest.raises(InputError, match="cannot serve recurrent layers"):
        cost(arch("qwen3.5-27b"), policy="vllm-no-hybrid")


@pytest.mark.parametrize("wrong", [{"compute": 0.0}, {"bandwidth": 1.1}, {"network": True}])
def test_attained_fractions_are_fractions(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be above 0 and at most 1"):
        Attained(**wrong)


def test_steps_are_larger_where_there_is_much_memory() -> None:
    tree = arch("gpt2")
    chunks = {name: cost(tree, device=name).setting.chunk for name in ("l4", "m3-ultra", "h100-sxm")}
    assert chunks == {"l4": 2048, "m3-ultra": 2048, "h100-sxm": 8192}
    assert cost(tree, device=device("l4")).setting.device == device("l4")


def test_counted_weights_know_their_copies() -> None:
    experts = [weight for weight in counted(arch("mixtral-8x7b")) if weight.part == "experts"]
    assert all(isinstance(weight, Counted) and weight.copies == 8 for weight in experts)
    assert sum(weight.elements for weight in experts) == 4 * sum(weight.active for weight in experts)


# ------------------------------------------------------------------ the command


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["cost", *arguments])


def test_the_command_says_what_fits() -> None:
    result = run("llama-3-70b", "-c", "8k", "-b", "16", "--device", "h100-sxm", "--devices", "4", "--fits")
    assert result.exit_code == 0
    for line in (
        "on 4 × NVIDIA H100 SXM 80 GB (tensor parallel 4), each",
        "of 74.5 GiB: fits",
        "fewest devices for 16 sequences of 8,192 tokens",
        "assumed of the peaks: computing 0.6, memory 0.8, network 0.7; products in bf16",
        "unconfirmed figures of the device: network",
    ):
        assert line in result.output


def test_the_command_says_what_engines_refuse() -> None:
    """vllm-project/vllm, issue 11797: 32 query heads among 3 devices."""
    output = run("gemma-3-27b", "-c", "8k", "--tensor", "3", "--policy", "vllm", "--device", "h100-sxm").output
    assert "note: engines refuse this layout: 32 heads do not divide among 3 devices" in output
    assert "engines refuse" not in run("gemma-3-27b", "-c", "8k", "--tensor", "4", "--device", "h100-sxm").output


def test_the_commands_options_are_those_of_the_function() -> None:
    options = (
        "-c 4k --device h200 --devices 8 --data 4 --experts spread --weights fp8-block --state-dtype fp8 --policy vllm"
    )
    found = json.loads(run("deepseek-v3", *options.split(), "--attained", "compute=0.5", "--fits", "--json").output)
    asked = {"weights": "fp8-block", "state": "fp8", "policy": "vllm", "layout": Layout(2, 4, "spread")}
    asked |= {"attained": Attained(compute=0.5), "device": "h200"}
    expected = cost(arch("deepseek-v3"), 4096, **asked)
    assert found.pop("fits") == asdict(fits(arch("deepseek-v3"), 4096, **asked))
    assert found == json.loads(json.dumps(expected.to_dict()))


def test_the_command_lists_devices(tmp_path: Path) -> None:
    output = run("--list-devices").output
    assert "989.4" in output
    assert "756?" in output  # whose sheet was not read
    mine = tmp_path / "mine.json"
    mine.write_text('[{"name": "abacus", "peaks": {"f32": 2}, "bandwidth": 8, "capacity": 100}]')
    assert "abacus" in run("--devices-file", str(mine), "--list-devices").output
    assert "on abacus" in run("gpt2", "--devices-file", str(mine), "--device", "abacus").output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--attained compute=2 --device l4", "compute must be above 0"),
        ("--attained speed=1", "say compute=, bandwidth= or network="),
        ("--attained compute=fast", "'fast' is not a fraction"),
        ("--data 3 --devices 8", "the layout takes 6 devices, not 8"),
        ("--fits", "what fits can only be said of a device"),
        ("--device m4-max --devices 2", "link"),
    ],
)
def test_the_command_refuses_in_one_line(options: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["cost", "gpt2", *options.split()])
    assert stopped.value.code == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
