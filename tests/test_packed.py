"""FP8 and MXFP4 checkpoints, as DeepSeek and OpenAI ship them."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import vitruvius as vt
from vitruvius.checkpoints.codecs import Unpacked
from vitruvius.checkpoints.codecs.small_floats import E4M3
from vitruvius.checkpoints.safetensors import Safetensors

DEEPSEEK = {
    "model_type": "deepseek_v3",
    "vocab_size": 61,
    "hidden_size": 192,
    "intermediate_size": 160,
    "moe_intermediate_size": 136,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "n_shared_experts": 1,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "routed_scaling_factor": 2.5,
    "norm_topk_prob": True,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 32,
    "q_lora_rank": 48,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 24,
    "v_head_dim": 40,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
}
GPT_OSS = {
    "model_type": "gpt_oss",
    "vocab_size": 61,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_local_experts": 3,
    "num_experts_per_tok": 2,
    "sliding_window": 8,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 150000.0,
}


def random_model(config: dict) -> object:
    model = vt.build(config, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            value.copy_(torch.randn(value.shape, generator=generator) * 0.2)
    return model


def rewrite(folder, tensors: dict, method: dict) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": method}))
    save_file({name: value.contiguous() for name, value in tensors.items()}, str(folder / "model.safetensors"))


def pack_fp8(value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What DeepSeek's files hold: each block of 128 × 128 divided so that its largest value is 448."""
    rows, columns = (-(-size // 128) for size in value.shape)
    scales, packed = torch.empty(rows, columns), torch.empty(value.shape, dtype=torch.float8_e4m3fn)
    for i in range(rows):
        for j in range(columns):
            block = (slice(128 * i, 128 * (i + 1)), slice(128 * j, 128 * (j + 1)))
            scales[i, j] = value[block].abs().max() / 448
            packed[block] = (value[block] / scales[i, j]).to(torch.float8_e4m3fn)
    return packed, scales


def test_fp8_with_block_scales_loads_as_what_it_stands_for(tmp_path):
    model = random_model(DEEPSEEK)
    vt.save(model, tmp_path)
    tensors, plain = load_file(tmp_path / "model.safetensors"), {}
    for name in list(tensors):
        if tensors[name].ndim == 2 and "embed" not in name and "head" not in name and ".gate.weight" not in name:
            tensors[name], scales = pack_fp8(tensors[name])
            plain[name] = torch.empty(tensors[name].shape)
            for i in range(tensors[name].shape[0]):  # written out, element by element along the rows
                wide = scales[i // 128].repeat_interleave(128)[: tensors[name].shape[1]]
                plain[name][i] = tensors[name][i].float() * wide
            tensors[f"{name}_scale_inv"] = scales
    assert len(plain) > 10
    rewrite(tmp_path, tensors, {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]})
    reference = tmp_path / "reference"
    vt.save(model, reference)
    rewritten = load_file(reference / "model.safetensors") | plain
    save_file(rewritten, str(reference / "model.safetensors"))
    ids = torch.arange(20)[None] % 61
    got, want = vt.load(tmp_path)(ids), vt.load(reference)(ids)
    assert torch.equal(got, want)
    assert (got - model(ids)).abs().max() > 1e-4, "packing must have changed something"


def test_fp8_scales_of_another_size_are_refused(tmp_path):
    vt.save(random_model(DEEPSEEK), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name], scales = pack_fp8(tensors[name])
    tensors[f"{name}_scale_inv"] = scales[:1, :1]
    rewrite(tmp_path, tensors, {"quant_method": "fp8"})
    with pytest.raises(vt.InputError, match=r"needs scales \(2, 2\) for blocks of 128 × 128, got \(1, 1\)"):
        vt.load(tmp_path)


def unpacked(blocks: torch.Tensor, scales: torch.Tensor, folder) -> torch.Tensor:
    """What a file with these blocks holds, (in, out) for each expert."""
    save_file({"w_blocks": blocks, "w_scales": scales}, str(folder / "model.safetensors"))
    return torch.from_numpy(Unpacked(Safetensors(folder)).stored("w").floats().copy())


def test_mxfp4_equals_the_reference(tmp_path):
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (3, 10, 4, 16), dtype=torch.uint8, generator=generator)
    scales = torch.randint(110, 140, (3, 10, 4), dtype=torch.uint8, generator=generator)
    want = convert_moe_packed_tensors(blocks.clone(), scales.clone(), dtype=torch.float32)
    assert torch.equal(unpacked(blocks, scales, tmp_path), want)


def test_mxfp4_checkpoint_loads_as_what_it_stands_for(tmp_path):
    model = random_model(GPT_OSS)
    vt.save(model, tmp_path)
    tensors, plain = load_file(tmp_path / "model.safetensors"), {}
    generator = torch.Generator().manual_seed(3)
    for name in [n for n in tensors if n.endswith(("gate_up_proj", "down_proj"))]:
        experts, into, out = tensors.pop(name).shape
        blocks = torch.randint(0, 256, (experts, out, into // 32, 16), dtype=torch.uint8, generator=generator)
        scales = torch.randint(121, 126, (experts, out, into // 32), dtype=torch.uint8, generator=generator)
        plain[name] = unpacked(blocks, scales, tmp_path)
        tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    rewrite(tmp_path, tensors, {"quant_method": "mxfp4"})
    reference = tmp_path / "reference"
    vt.save(model, reference)
    save_file(
        {k: v.contiguous() for k, v in (load_file(reference / "model.safetensors") | plain).items()},
        str(reference / "model.safetensors"),
    )
    ids = torch.arange(20)[None] % 61
    packed = vt.load(tmp_path, dtype="checkpoint")
    assert torch.equal(vt.load(tmp_path)(ids), vt.load(reference)(ids))
    assert packed.get_parameter("layers.0.mlp.body.experts.up.weight").dtype == torch.bfloat16


def test_fp8_values_are_those_of_torch():
    every = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    assert torch.equal(torch.from_numpy(E4M3).nan_to_num(9.0), every.nan_to_num(9.0))


@pytest.mark.parametrize("method", ["aqlm", "quanto", "exl3"])
def test_other_formats_are_refused_by_name_and_still_costed(tmp_path, method):
    vt.save(random_model(DEEPSEEK), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": method}}))
    assert vt.architecture(tmp_path).width == 192
    with pytest.raises(vt.InputError, match=method):
        vt.load(tmp_path)
