"""Adapters: in every form, in PEFT's files both ways, merged, in four bits, and what training leaves alone."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_ready import ids_of, model_of
from torch import Tensor, nn

import vitruvius as vt
from vitruvius.errors import InputError
from vitruvius.nn import Decoder
from vitruvius.nn.adapters import (
    Adapted,
    adaptable,
    adapters,
    add_adapters,
    merge_adapters,
    normal_floats,
    packed,
    unpacked,
)
from vitruvius.training.losses import losses
from vitruvius.training.optimizers import build
from vitruvius.tuning import load_adapter, save_adapter


def tuned(case: str, rank: int = 3, **options: Any) -> Decoder:
    """A model whose adapters do something."""
    model = copy.deepcopy(model_of(case)).eval()
    add_adapters(model, rank, **options)
    generator = torch.Generator().manual_seed(6)
    for module in adapters(model).values():
        module.lora_b.data = torch.randn(module.lora_b.shape, generator=generator) * 0.5
    return model


def answers(ids: Tensor) -> Tensor:
    return torch.cat((ids[:, 1:], torch.full_like(ids[:, :1], -100)), 1)


# ------------------------------------------------------------------ modules


@pytest.mark.parametrize("case", ["llama_biases", "gpt_oss", "deepseek_v3", "qwen3_next", "nemotron_h_latent"])
@torch.no_grad()
def test_adapters_equal_merged_ones_in_every_form(case: str) -> None:
    model = tuned(case)
    ids = ids_of(model, 2, 11)
    logits = model(ids)
    assert float((model_of(case)(ids) - logits).abs().max()) > 0.05
    state = model.new_state(batch=2, capacity=11)
    chunks = torch.cat([model(part, state) for part in ids.split([7, 1, 1, 2], 1)], 1)
    torch.testing.assert_close(chunks, logits, atol=2e-4, rtol=1e-4)
    merge_adapters(model)
    assert not adapters(model)
    plain = adaptable(model_of(case))
    assert {path: type(layer) for path, layer in adaptable(model).items()} == {p: type(x) for p, x in plain.items()}
    torch.testing.assert_close(model(ids), logits, atol=2e-4, rtol=1e-4)


def test_a_new_adapter_changes_nothing_and_names_stay() -> None:
    model = copy.deepcopy(model_of("qwen3_moe"))
    before, ids = {name: p.clone() for name, p in model.named_parameters()}, ids_of(model, 2, 9)
    logits = model(ids)
    paths = add_adapters(model, 2)
    assert torch.equal(model(ids), logits)
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in before.items())
    assert now.keys() - before.keys() == {f"{path}.lora_{x}" for path in paths for x in "ab"}
    assert {name for name, p in now.items() if p.requires_grad} == now.keys() - before.keys()


def test_only_adapters_learn() -> None:
    model = copy.deepcopy(model_of("deepseek_v3"))
    add_adapters(model, 4, targets=["*.mixer.body.*"], dropout=0.1)
    before, ids = copy.deepcopy(model.state_dict()), ids_of(model, 2, 16)
    optimizer, seen = build(model, "adamw", 2e-2, 0.0), []
    for _ in range(8):
        optimizer.zero_grad()
        loss = losses(model, ids, answers(ids)).total
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert seen[-1] < seen[0] - 0.3, seen
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) != (".lora_" in name), name


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rank": 0}, "whole number"),
        ({"targets": ["*.nonsense"]}, "names end in down"),
        ({"dropout": 1.0}, "below 1"),
    ],
)
def test_what_cannot_be_is_said(options: dict[str, Any], says: str) -> None:
    model = copy.deepcopy(model_of("llama"))
    with pytest.raises(InputError, match=says):
        add_adapters(model, **options)
    add_adapters(model)
    with pytest.raises(InputError, match="already"):
        add_adapters(model)


# ------------------------------------------------------------------ PEFT's files

# PEFT 0.21 on transformers 5 takes dense layers and shared experts of a mixture for experts, whatever they are called
ATTENTION_ONLY = {"deepseek_v3"}
PEFT_CASES = ["llama_biases", "gpt2", "phi3", "deepseek_v3", "gemma3"]


def peft_model(folder: Path, adapter: Path | None = None) -> Any:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    base.set_experts_implementation("eager")
    base.eval()
    return base if adapter is None else peft.PeftModel.from_pretrained(base, adapter).eval()


def saved(case: str, folder: Path) -> Decoder:
    """The model of that case, loaded from a folder that transformers loads too."""
    vt.save(model_of(case), folder)
    return vt.load(folder)


@pytest.mark.parametrize("case", [*PEFT_CASES, "qwen3_moe_all_sparse"])
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_peft_loads_what_is_saved(case: str, tmp_path: Path) -> None:
    model = saved(case, tmp_path / "base")
    add_adapters(model, 3, targets=["*.mixer.body.*" if case in ATTENTION_ONLY else "*"])
    for module in adapters(model).values():
        module.lora_b.data = torch.randn(module.lora_b.shape, generator=torch.Generator().manual_seed(8)) * 0.5
    save_adapter(model, tmp_path / "adapter")
    ids = ids_of(model, 2, 12)
    logits = model(ids)
    theirs = peft_model(tmp_path / "base", tmp_path / "adapter")
    torch.testing.assert_close(theirs(ids).logits, logits, atol=3e-4, rtol=1e-3)
    assert float((peft_model(tmp_path / "base")(ids).logits - logits).abs().max()) > 0.05


@pytest.mark.parametrize("case", PEFT_CASES)
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_what_peft_saves_is_loaded(case: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = saved(case, tmp_path / "base")
    dense = r".*(q_a_proj|q_b_proj|kv_a_proj_with_mqa|kv_b_proj|o_proj)" if case in ATTENTION_ONLY else "all-linear"
    options = {"init_lora_weights": False, "use_rslora": True, "task_type": "CAUSAL_LM"}
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=dense, **options)
    theirs = peft.get_peft_model(peft_model(tmp_path / "base"), config).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    load_adapter(model, tmp_path / "adapter")
    assert len(adapters(model)) >= len(model.layers) * 4
    ids = ids_of(model, 2, 12)
    torch.testing.assert_close(model(ids), theirs(ids).logits, atol=3e-4, rtol=1e-3)
    assert float((vt.load(tmp_path / "base")(ids) - model(ids)).abs().max()) > 0.05


@pytest.mark.parametrize("case", ["llama", "qwen3_moe", "phi3", "gpt2"])
@torch.no_grad()
def test_saved_adapters_come_back(case: str, tmp_path: Path) -> None:
    """Also those of experts, each under its own name, and of matrices that files keep as one."""
    model = tuned(case, alpha=7)
    modules = save_adapter(model, tmp_path)
    again = copy.deepcopy(model_of(case)).eval()
    assert set(load_adapter(again, tmp_path, train=True)) == set(adapters(model))
    ids = ids_of(model, 2, 10)
    torch.testing.assert_close(again(ids), model(ids), atol=1e-5, rtol=1e-5)
    assert all(p.requires_grad == (".lora_" in name) for name, p in again.named_parameters())
    if case == "qwen3_moe":
        assert "model.layers.1.mlp.experts.2.gate_proj" in modules
    if case == "llama":
        for path, module in adapters(model).items():
            assert torch.equal(module.lora_a, adapters(again)[path].lora_a)
            assert torch.equal(module.lora_b, adapters(again)[path].lora_b)


@torch.no_grad()
def test_what_was_tuned_exports_as_a_folder(tmp_path: Path) -> None:
    model = saved("llama_biases", tmp_path / "base")
    add_adapters(model, 2)
    for module in adapters(model).values():
        module.lora_b.data.fill_(0.05)
    ids = ids_of(model, 1, 8)
    logits = model(ids)
    merge_adapters(model)
    vt.save(model, tmp_path / "tuned")
    torch.testing.assert_close(vt.load(tmp_path / "tuned")(ids), logits, atol=1e-4, rtol=1e-4)


def test_folders_that_are_no_adapters_are_said(tmp_path: Path) -> None:
    model = tuned("llama")
    save_adapter(model, tmp_path / "good")
    plain = copy.deepcopy(model_of("llama"))
    config = json.loads((tmp_path / "good" / "adapter_config.json").read_text())

    def refused(says: str, **changes: Any) -> None:
        folder = tmp_path / "bad"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps(config | changes))
        (folder / "adapter_model.safetensors").write_bytes(
            (tmp_path / "good" / "adapter_model.safetensors").read_bytes()
        )
        with pytest.raises(InputError, match=says):
            load_adapter(plain, folder)

    refused("LOHA", peft_type="LOHA")
    refused("use_dora=True", use_dora=True)
    refused("modules_to_save", modules_to_save=["lm_head"])
    with pytest.raises(InputError, match="no adapter is there"):
        load_adapter(plain, tmp_path)
    with pytest.raises(InputError, match=r"no matrices for|is for a matrix of"):
        load_adapter(copy.deepcopy(model_of("gpt2")), tmp_path / "good")
    with pytest.raises(InputError, match="is for a matrix of"):
        load_adapter(copy.deepcopy(model_of("llama_yarn")), tmp_path / "good")
    assert not adapters(plain)
    with pytest.raises(InputError, match="no adapters to write"):
        save_adapter(plain, tmp_path / "none")


def test_experts_that_peft_has_no_place_for_are_named(tmp_path: Path) -> None:
    """gpt-oss keeps all experts in one tensor."""
    with pytest.raises(InputError, match=r"experts.*leave"):
        save_adapter(tuned("gpt_oss"), tmp_path)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ four bits


def test_the_sixteen_values_are_those_of_the_paper() -> None:
    values = normal_floats()
    assert len(values) == 16
    wanted = {0: -1.0, 1: -0.6961928009986877, 6: -0.09105003625154495, 7: 0.0, 8: 0.07958029955625534}
    wanted |= {14: 0.7229568362236023, 15: 1.0}
    for i, value in wanted.items():
        assert values[i] == pytest.approx(value, abs=2e-7)


def test_packing_rounds_to_the_nearest() -> None:
    weight = torch.randn(5, 30, 13, generator=torch.Generator().manual_seed(1))  # whose blocks end in the middle
    again = unpacked(*packed(weight), weight.shape, weight.dtype)
    scales = packed(weight)[1].repeat_interleave(64)[: weight.numel()].view_as(weight)
    levels = torch.tensor(normal_floats())
    nearest = levels[(weight / scales)[..., None].sub(levels).abs().argmin(-1)] * scales
    torch.testing.assert_close(again, nearest)
    assert float((again - weight).pow(2).mean() ** 0.5) < 0.1


@pytest.mark.parametrize("case", ["llama_biases", "gpt_oss"])
def test_four_bits_compute_and_learn_as_their_numbers(case: str) -> None:
    """The gradients too, through experts and biases."""
    model = tuned(case, quantize=True)
    plain = copy.deepcopy(model)
    for module in adapters(plain).values():
        module.weight = nn.Parameter(unpacked(module.packed, module.scales, module.shape, module.dtype), False)
    ids = ids_of(model, 2, 10)
    results = []
    for each in (model, plain):
        loss = losses(each, ids, answers(ids)).total
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in each.parameters() if p.requires_grad)])
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)
    logits = model(ids)
    merge_adapters(model)
    torch.testing.assert_close(model(ids), logits, atol=2e-4, rtol=1e-4)


def test_four_bits_take_an_eighth_and_nothing_whole_is_kept_for_the_way_back() -> None:
    layer = nn.Linear(512, 512, bias=False)
    module = Adapted(layer, 4, 1.0)
    module.quantize()
    held = sum(b.nbytes for b in module.buffers())
    assert held <= 512 * 512 * (0.5 + 4 / 64)
    kept: list[int] = []
    x = torch.randn(3, 512, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        module(x).sum().backward()
    assert max(kept) <= 512 * 512 // 2
