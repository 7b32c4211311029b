"""Formats of keys and values, options of vLLM, layouts that engines refuse, adapters, and what fits into a size."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import cases
import pytest
from click.testing import CliRunner

import vitruvius as vt
from vitruvius.cli import main
from vitruvius.cost import Layout
from vitruvius.cost.formats import PACKED
from vitruvius.cost.policies import kept, reserved
from vitruvius.cost.refusals import refusals
from vitruvius.cost.setting import setting_for
from vitruvius.cost.state_formats import entry_bits
from vitruvius.cost.training import training
from vitruvius.spec import Decoder


@cache
def arch(name: str) -> Decoder:
    return vt.architecture(name)


def run(*args: str) -> Any:
    return json.loads(CliRunner().invoke(main, ["cost", *args, "--json"], catch_exceptions=False).stdout)


# ------------------------------------------------------------------ keys and values


@pytest.mark.parametrize(
    ("form", "bytes_of_32"),
    [("q8_0", 34), ("q5_1", 24), ("q5_0", 22), ("q4_1", 20), ("q4_0", 18), ("iq4_nl", 18), ("nvfp4", 18), ("bf16", 64)],
)
def test_blocks_of_keys_and_values(form: str, bytes_of_32: int) -> None:
    """The sizes of llama.cpp's blocks (ggml-common.h); of NVFP4, 16 bytes and two scales."""
    assert entry_bits("k", 128, form) * 32 / 8 == bytes_of_32
    tokens = 8 * 2 * 64 * 16  # heads of keys and values, channels, layers: Llama 3.2 1B
    assert vt.cost("llama-3.2-1b", context=1000, state=form).state.bytes == 1000 * tokens * bytes_of_32 // 32


def test_a_scale_for_each_token_and_head() -> None:
    per_token = 16 * 8 * 2 * (64 + 4)
    assert vt.cost("llama-3.2-1b", context=100, state="fp8_per_token_head").state.bytes == 100 * per_token


def test_llama_cpps_cache_of_gemma_at_8_bits() -> None:
    """ "-ctk q8_0 -ctv q8_0", 85,000 tokens: 10 layers of all cells, 52 of a window's; keys and values may differ."""
    cells, window, heads = 85_248, 1_536, 16 * 128
    both = (10 * cells + 52 * window) * heads * 2
    found = run("gemma-3-27b", "-c", "85000", "--state-dtype", "q8_0", "--policy", "llama.cpp")
    assert found["memory"]["state_bytes"] == both * 34 // 32
    apart = run("gemma-3-27b", "-c", "85000", "--state-dtype", "k=q8_0,v=q4_0", "--policy", "llama.cpp")
    assert apart["memory"]["state_bytes"] == both * (34 + 18) // 64


def test_keys_and_values_of_unlike_width() -> None:
    mimo = arch("mimo-v2-flash")
    layer = mimo.layers[0].branches[0].body
    keys, values = layer.kv.heads * layer.kv.head_dim, layer.kv.heads * layer.kv.v_dim
    assert keys != values
    layers = kept(vt.replace(mimo, "layers", lambda layers: layers[:1]))
    assert reserved(layers, 256, "k=q8_0,v=q4_0")["llama.cpp"] == 256 * (keys * 34 + values * 18) // 32


def test_recurrent_memories_are_never_in_blocks() -> None:
    tree = "qwen3-next-80b-a3b"
    blocks, plain = (vt.cost(tree, context=1024, state=form).state.bytes for form in ("q8_0", "bf16"))
    tokens = 1024 * 12 * 2 * 2 * 256  # 12 layers of 2 heads of 256
    assert plain - blocks == tokens * 2 - tokens * 34 // 32


def test_an_fp8_latent_beside_an_indexer_has_scales() -> None:
    """656 + 132 bytes for each token and layer (vLLM, `fp8_ds_mla`)."""
    found = run("deepseek-v3.2", "-c", "131072", "--state-dtype", "fp8", "--policy", "vllm")
    assert found["memory"]["state_bytes"] == 131_072 * 61 * (656 + 132)
    assert vt.cost("deepseek-v3", context=16, state="fp8_ds_mla", policy="vllm").memory.state_bytes == 16 * 61 * 656
    assert vt.cost("deepseek-v3", context=16, state="fp8", policy="vllm").memory.state_bytes == 16 * 61 * 576


def test_vllm_with_prefix_caching_and_drafts() -> None:
    """Logged: 299 blocks for 4.33 sequences of 131,072 tokens, so 69 pages of each (cases of Qwen3.5 35B-A3B)."""
    options = ("qwen3.5-35b-a3b", "-c", "131072", "--state-dtype", "fp8", "--policy", "vllm", "--chunk", "8192")
    plain, caching = (run(*options, *more)["memory"]["state_bytes"] for more in ((), ("--prefix-caching",)))
    assert caching == 1_480_949_760
    page = caching // 69
    assert plain == 66 * page
    assert run(*options, "--speculative", "2")["memory"]["state_bytes"] == (66 + 3 * 2) * page
    assert run("llama-3.2-1b", "-c", "1k", "--prefix-caching")["state"] == run("llama-3.2-1b", "-c", "1k")["state"]


@pytest.mark.parametrize("asked", ["q9_0", "k=q8_0", "k=q8_0,v=", "v=q8_0,k=q8_0,x=q8_0"])
def test_formats_that_are_none(asked: str) -> None:
    with pytest.raises(vt.InputError, match=r"the state"):
        vt.cost("llama-3.2-1b", state=asked)


# ------------------------------------------------------------------ layouts


@pytest.mark.parametrize(
    ("model", "weights", "tensor", "said"),
    [
        ("gemma-3-27b", None, 3, "32 heads do not divide among 3 devices"),
        ("qwen3-30b-a3b", "fp8-block", 4, "192 of 768 hidden channels on each of 4 devices cut blocks of 128"),
        ("deepseek-r1", "fp8-block", 32, "64 of 2,048 hidden channels on each of 32 devices cut blocks of 128"),
    ],
)
def test_what_engines_refuse_is_said(model: str, weights: str | None, tensor: int, said: str) -> None:
    asked = setting_for(arch(model), 8192, weights=weights, layout=Layout(tensor=tensor))
    assert said in refusals(arch(model), asked)
    options = [model, "-c", "8k", "--tensor", str(tensor), *(["--weights", weights] if weights else [])]
    assert said in run(*options)["refusals"]
    assert f"refuse this layout: {said}" in CliRunner().invoke(main, ["cost", *options]).stdout


@pytest.mark.parametrize(
    ("model", "weights", "layout"),
    [
        ("qwen3-30b-a3b", "fp8-block", Layout(tensor=2)),
        ("qwen3-30b-a3b", "bf16", Layout(tensor=4)),
        ("qwen3-30b-a3b", "fp8-block", Layout(tensor=4, experts="spread")),
        ("gpt-oss-120b", "mxfp4", Layout(tensor=8)),  # engines pad what a device has
    ],
)
def test_what_engines_take_is_not_refused(model: str, weights: str, layout: Layout) -> None:
    assert refusals(arch(model), setting_for(arch(model), 8192, weights=weights, layout=layout)) == ()


# ------------------------------------------------------------------ adapters


def test_nf4_takes_the_published_bits() -> None:
    """QLoRA, arXiv 2305.14314, section 3: 0.5 bits of scales for a parameter, 0.127 where they are packed too."""
    for name, scales in (("nf4", 0.5), ("nf4-nested", 0.127)):
        packed = PACKED[name]
        beside = (packed.scale or 0) / (packed.tile[1] or 1)
        assert beside == pytest.approx(scales, abs=5e-4)


def test_adapters_are_all_that_is_trained() -> None:
    tree = vt.architecture(cases.TEXT["llama"])
    r, w = 4, tree.width
    layer = tree.layers[0]
    mixer, mlp = (branch.body for branch in layer.branches)
    q, kv = mixer.heads * mixer.head_dim, mixer.kv.heads * mixer.kv.head_dim
    own = r * (2 * (w + q) + 2 * (w + kv) + 3 * (w + mlp.dim)) * len(tree.layers)
    found, full = training(tree, 1000, sequence=8, lora=r), training(tree, 1000, sequence=8)
    assert found.memory.adapter_parameters == own
    assert found.memory.gradients_bytes == 2 * own
    assert found.memory.optimizer_bytes == 12 * own
    assert found.memory.weights_bytes == vt.cost(tree, 8, dtype="bf16", weights="bf16").memory.weights_bytes + 2 * own
    assert found.backward_flops * 2 == full.backward_flops
    assert found.memory.activations_bytes - full.memory.activations_bytes == 2 * r * 8 * 7 * len(tree.layers)
    assert full.memory.adapter_parameters == 0


def test_qlora_on_the_command_line() -> None:
    options = ("llama-3-70b", "-c", "4k", "--training", "--lora", "16", "--weights", "nf4-nested", "--checkpointing")
    memory = run(*options, "--sequence", "512", "--memory", "48GB")["training"]["memory"]
    assert memory["fits"]  # as QLoRA's 65B on one GPU of 48 GB
    assert not run("llama-3-70b", "--training", "--memory", "48GB")["training"]["memory"]["fits"]


# ------------------------------------------------------------------ what fits into a size


def test_what_fits_into_a_size() -> None:
    found = run("qwen3-8b", "--memory", "24GiB", "-c", "32k")
    per_token, rest = 147_456, found["memory"]["per_device"]
    room = 24 * 2**30 - rest["weights_bytes"] - rest["activations_bytes"]
    assert found["fits"]["context_at_batch"] == room // per_token
    assert found["fits"]["batch_at_context"] == 1
    assert found["time"] is None
    larger = run("qwen3-8b", "--device", "rtx-3090", "--memory", "48GB", "-c", "32k")
    assert larger["memory"]["per_device"]["capacity_bytes"] == 48 * 10**9
    assert larger["time"]["device"] == "rtx-3090"


@pytest.mark.parametrize("size", ["24", "24Gx", "0GiB", "-1GB", "a lot"])
def test_sizes_that_are_none(size: str) -> None:
    result = CliRunner().invoke(main, ["cost", "gpt2", f"--memory={size}"])
    assert result.exit_code == 2
    assert "is not a size such as 24GiB" in result.stderr
