"""What people have tried: real configs whose answer is known from elsewhere (transformers, engines)."""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from pathlib import Path
from typing import Any

import cases
import gguf
import gguf_files
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vitruvius as vt
from vitruvius.checkpoints import sources
from vitruvius.cost import cost
from vitruvius.errors import InputWarning
from vitruvius.server.explorer.upload import described as uploaded
from vitruvius.spec import RoPE

Config = dict[str, Any]

QWEN3_8B = {
    "model_type": "qwen3",
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
}
NEMOTRON_H_8B = {
    "model_type": "nemotron_h",
    "vocab_size": 131072,
    "hidden_size": 4096,
    "intermediate_size": 21504,
    "num_hidden_layers": 52,
    "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "attention_head_dim": 128,  # beside what others call head_dim
    "mamba_num_heads": 128,
    "mamba_head_dim": 64,
    "n_groups": 8,
    "ssm_state_size": 128,
    "conv_kernel": 4,
    "layer_norm_epsilon": 1e-5,
    "rms_norm_eps": 1e-5,  # the same again
    "max_position_embeddings": 8192,
}
QWEN3_VL_30B = {
    "model_type": "qwen3_vl_moe",
    "vision_config": {"model_type": "qwen3_vl_moe", "depth": 27},
    "tie_word_embeddings": False,
    "text_config": {
        "model_type": "qwen3_vl_moe_text",
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "norm_topk_prob": True,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "max_position_embeddings": 262144,
        "rms_norm_eps": 1e-6,
        "rope_theta": 5e6,
        "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [24, 20, 20]},
    },
}
MISTRAL_7B = {
    "model_type": "mistral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
}


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (NEMOTRON_H_8B, 8_100_852_736),
        (QWEN3_VL_30B, 30_532_122_624),
        (
            QWEN3_8B
            | {"vocab_size": 151669, "id2label": {"0": "yes"}, "architectures": ["Qwen3ForSequenceClassification"]},
            7_567_315_968,
        ),
        (MISTRAL_7B | {"architectures": ["MistralForCausalLM"]}, 7_241_732_096),
        (MISTRAL_7B | {"architectures": ["MistralModel"]}, 7_110_660_096),
    ],
)
def test_totals_equal_those_of_transformers(config: Config, parameters: int) -> None:
    assert cost(vt.architecture(config)).parameters.total == parameters


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LlamaForCausalLMEagle", "drafts for another model"),
        ("LlamaForCausalLMEagle3", "drafts for another model"),
        ("MedusaLlamaForCausalLM", "drafts for another model"),
        ("LlamaForQuestionAnswering", "not known here"),
    ],
)
def test_heads_that_are_not_known_are_refused_by_name(name: str, message: str) -> None:
    config = cases.CASES["llama"] | {"architectures": [name], "draft_vocab_size": 40}
    with pytest.raises(vt.InputError, match=f"architectures is {name}.*{message}"):
        vt.architecture(config)


def test_an_epsilon_that_contradicts_another_is_refused() -> None:
    with pytest.raises(vt.InputError, match="rms_norm_eps"):
        vt.architecture(NEMOTRON_H_8B | {"rms_norm_eps": 1e-6})


@pytest.mark.parametrize(
    ("positions", "context"),
    [
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ({"rope_type": "yarn", "factor": 1.0, "original_max_position_embeddings": 32768}, 40960),
        ({"rope_type": "linear", "factor": 4.0}, 40960),
    ],
)
def test_yarn_extends_the_context(positions: Config, context: int) -> None:
    """As vLLM takes it where `max_position_embeddings` was left as it was: factor times the original context."""
    arch = vt.architecture(QWEN3_8B | {"rope_scaling": positions})
    assert arch.context == context


def test_a_flat_config_of_a_vision_model_is_its_text_models() -> None:
    text = cases.CASES["qwen2"] | {"rope_scaling": {"type": "mrope", "mrope_section": [2, 2, 1]}}
    flat = text | {"model_type": "qwen2_5_vl", "vision_config": {"depth": 2}, "image_token_id": 5, "vision_token_id": 6}
    arch = vt.architecture(flat)
    positions = arch.layers[0].branches[0].body.positions
    assert isinstance(positions, RoPE)
    assert positions.sections is not None
    assert positions.sections.sizes == (2, 2, 1)
    turned = vt.replace(
        arch,
        "layers.*.mixer.body",
        lambda body: dataclasses.replace(body, positions=dataclasses.replace(body.positions, sections=None)),
    )
    assert turned.layers == vt.architecture(cases.CASES["qwen2"]).layers


# ------------------------------------------------------------------ folders


IDS = torch.arange(12)[None]
TIED = cases.CASES["llama_linear"]


def folder(path: Path, config: Config = TIED) -> dict[str, torch.Tensor]:
    """A checkpoint of random weights; its tensors, as the file has them."""
    vt.save(vt.build(config, seed=3), path)
    (path / "config.json").write_text(json.dumps(config))
    return load_file(path / "model.safetensors")


def shards(path: Path, files: dict[str, dict[str, torch.Tensor]], index: dict[str, str]) -> None:
    (path / "model.safetensors").unlink(missing_ok=True)
    for name, tensors in files.items():
        save_file(tensors, path / name, {"format": "pt"})
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def logits(path: Path) -> torch.Tensor:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        return vt.load(path)(IDS)


def test_the_index_decides_which_file_holds_a_tensor(tmp_path: Path) -> None:
    """An overlay beside the base shard, as https://github.com/JustVugg/colibri/issues/1479 has it."""
    tensors = folder(tmp_path)
    right, name = logits(tmp_path), "model.layers.0.mlp.down_proj.weight"
    files = {"a-overlay.safetensors": {name: tensors[name]}, "base.safetensors": tensors | {name: tensors[name] + 1}}
    for overlay in ("a-overlay.safetensors", "z-overlay.safetensors"):
        files[overlay] = files.pop(next(iter(set(files) - {"base.safetensors"})))
        shards(tmp_path, files, dict.fromkeys(tensors, "base.safetensors") | {name: overlay})
        assert torch.equal(logits(tmp_path), right)
    shards(
        tmp_path, files, {"model.norm.weight": "base.safetensors", "model.embed_tokens.weight": "z-overlay.safetensors"}
    )
    with pytest.raises(vt.InputError, match=f"{name} is in another file too, and the index names neither"):
        vt.load(tmp_path)


def test_an_index_that_is_stale_hides_nothing(tmp_path: Path) -> None:
    tensors = folder(tmp_path)
    right, whole = logits(tmp_path), tmp_path / "model.safetensors"
    shards(tmp_path, {"a.safetensors": tensors}, {"gone.weight": "a.safetensors", "model.norm.weight": "a.safetensors"})
    assert torch.equal(logits(tmp_path), right)
    (tmp_path / "a.safetensors").unlink()
    save_file(tensors, whole, {"format": "pt"})
    with pytest.warns(InputWarning, match=r"stale: a.safetensors is missing; model.safetensors is read instead"):
        assert torch.equal(vt.load(tmp_path)(IDS), right)


def test_a_tied_matrix_under_either_name(tmp_path: Path) -> None:
    """safetensors' save_model keeps one of the two names (https://github.com/huggingface/transformers/issues/34759)."""
    tensors = folder(tmp_path)
    right = logits(tmp_path)
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert torch.equal(logits(tmp_path), right)
    again = tmp_path / "again"
    vt.save(vt.load(tmp_path, dtype="checkpoint"), again)
    assert load_file(again / "model.safetensors").keys() == tensors.keys()


def test_another_head_is_loaded_though_it_should_be_tied(tmp_path: Path) -> None:
    """As transformers 5.23 and vLLM do (https://github.com/vllm-project/vllm/pull/51665)."""
    tensors = folder(tmp_path / "tied")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].flip(0).contiguous()
    tied = logits(tmp_path / "tied")
    save_file(tensors, tmp_path / "tied" / "model.safetensors", {"format": "pt"})
    with pytest.warns(InputWarning, match="the file holds two that differ"):
        model = vt.load(tmp_path / "tied")
    untied = model(IDS)
    assert torch.allclose(untied.flip(-1), tied, atol=1e-5)  # the head's rows are turned round, and nothing else
    vt.save(model, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["tie_word_embeddings"] is False
    assert torch.equal(logits(tmp_path / "again"), untied)


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    folder(tmp_path)
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4976698672\n"
    (tmp_path / "model.gguf").write_bytes(pointer)
    for source in ("model.safetensors", "config.json"):
        (tmp_path / source).write_bytes(pointer)
        with pytest.raises(vt.InputError, match=f"{source}: only a git-lfs pointer.*git lfs pull"):
            vt.load(tmp_path)
    with pytest.raises(vt.InputError, match=r"model.gguf: only a git-lfs pointer.*git lfs pull"):
        vt.load(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"adapter_config.json": '{"base_model_name_or_path": "someone/base"}'}, "an adapter of someone/base, not a"),
        ({"tokenizer.json": "{}"}, "it holds only a tokenizer, add the model's config.json"),
        ({"model.safetensors": "", "tokenizer.json": "{}"}, "it holds only weights, add the model's config.json"),
    ],
)
def test_folders_without_a_model_say_what_they_hold(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    for refused in (vt.architecture, vt.load, vt.tokenizer if "tokenizer.json" not in files else vt.load):
        with pytest.raises(vt.InputError, match=message):
            refused(tmp_path)


def test_one_intake_of_json(tmp_path: Path) -> None:
    """Configs saved on Windows begin with a mark (https://github.com/volcengine/OpenViking/pull/500)."""
    config = json.dumps(TIED)
    file = tmp_path / "config.json"
    twice = config[:-1] + ', "vocab_size": %d}'
    same, other = twice % TIED["vocab_size"], twice % (TIED["vocab_size"] + 1)
    for text in ("\ufeff" + config, same):
        file.write_text(text, "utf-8")
        assert vt.architecture(file).layers == vt.architecture(TIED).layers
        assert uploaded(text.encode(), "config.json")["config"] == TIED
    file.write_text(other)
    with pytest.raises(vt.InputError, match="'vocab_size' is there twice, with different values"):
        vt.architecture(file)
    with pytest.raises(vt.InputError, match="'vocab_size' is there twice, with different values"):
        uploaded(other.encode(), "config.json")


def test_values_that_transformers_takes_for_true_and_keys_that_it_does_not_read() -> None:
    """A text-only fine-tune of Llama 4 (https://github.com/vllm-project/vllm/issues/20581)."""
    config = cases.CASES["llama4"]
    text = config.get("text_config", config)
    assert text.get("attn_temperature_tuning", True)
    tuned = config | {"cache_implementation": "hybrid", "attn_temperature_tuning": 4}
    if text is not config:
        tuned = config | {"text_config": text | {"cache_implementation": "hybrid", "attn_temperature_tuning": 4}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vt.architecture(tuned) == vt.architecture(config)


# ------------------------------------------------------------------ GGUF


def gguf_file(path: Path, tmp_path: Path, split: int = 0, **more: Any) -> torch.Tensor:
    """A random Llama as GGUF, in files of at most `split` tensors; the logits that are right."""
    config = cases.CASES["llama"]
    folder(tmp_path / "folder", config)
    whole = gguf_files.convert(tmp_path / "folder", tmp_path / "whole.gguf")
    reader = gguf.GGUFReader(whole)
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=split)
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            writer.add_key_value(
                key, field.contents(), field.types[0], field.types[1] if len(field.types) > 1 else None
            )
    for key, value in more.items():
        writer.add_uint32(key.replace("__", "."), value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.asarray(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return logits(tmp_path / "whole.gguf")


def test_a_split_model_is_read_from_any_part(tmp_path: Path) -> None:
    right = gguf_file(tmp_path / "model.gguf", tmp_path, split=9)
    parts = sorted(tmp_path.glob("model-*.gguf"))
    assert len(parts) > 2
    for part in parts:
        assert torch.equal(logits(part), right)
        assert vt.architecture(part).layers == vt.architecture(parts[0]).layers
    last = parts[-1].rename(tmp_path / "away")
    with pytest.raises(
        vt.InputError, match=f"one of {len(parts)} parts of a model, of which {parts[-1].name} is missing"
    ):
        vt.load(parts[0])
    last.rename(parts[-1])
    parts[0].write_bytes(parts[1].read_bytes())
    with pytest.raises(vt.InputError, match=r"does not say that it is part 1"):
        vt.load(parts[1])


@pytest.mark.parametrize("name", ["MODEL.GGUF", "sha256-0123abcd"])
def test_gguf_is_known_by_its_magic(tmp_path: Path, name: str) -> None:
    """A blob of Ollama's (https://github.com/ollama/ollama/issues/1395)."""
    right = gguf_file(tmp_path / "model.gguf", tmp_path)
    (tmp_path / "alone").mkdir()
    blob = (tmp_path / "model.gguf").rename(tmp_path / "alone" / name)
    assert torch.equal(logits(blob), right)
    assert torch.equal(logits(blob.parent), right)


def test_keys_of_gguf_can_be_ignored_where_a_model_runs(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    right = gguf_file(path, tmp_path, llama__own_key=4096)
    with pytest.raises(vt.InputError, match=r"--ignore-key llama\.own_key"):
        vt.load(path)
    assert torch.equal(vt.load(path, ignore=["llama.own_key"])(IDS), right)


@pytest.mark.parametrize(
    ("kind", "arch", "message"),
    [
        ("adapter", "llama", "an adapter .LoRA.; give the model"),
        ("mmproj", "clip", "give the .gguf file of its text model"),
    ],
)
def test_files_that_go_with_a_model_are_named(tmp_path: Path, kind: str, arch: str, message: str) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", arch)
    writer.add_type(kind)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for refused in (vt.architecture, vt.load, vt.tokenizer):
        with pytest.raises(vt.InputError, match=message):
            refused(tmp_path / "a.gguf")


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("Qwen3-8B", "qwen3-8b"),
        ("qwen3-next", "qwen3-next-80b-a3b"),
        ("Llama-4-Scout-17B-16E-Instruct", "llama-4-scout"),
        ("GPT-OSS-120B", "gpt-oss-120b"),
        ("meta-llama/Llama-3.2-1B", "llama-3.2-1b"),
        ("QWEN/qwen3-8b", "qwen3-8b"),
    ],
)
def test_known_models_answer_to_the_names_that_people_use(name: str, entry: str) -> None:
    assert vt.catalog.entry(name).id == entry


def test_short_names_that_several_begin_with_are_listed() -> None:
    with pytest.raises(vt.InputError, match=r"did you mean qwen3-0.6b, qwen3-1.7b"):
        vt.catalog.entry("qwen3")


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("Qwen/Qwen3-8B", "qwen3-8b"),
        ("meta-llama/Llama-3.2-1B-Instruct", "llama-3.2-1b"),
        ("QWEN/qwen3-8b-base", "qwen3-8b"),
    ],
)
def test_repositories_of_known_models_answer_from_the_catalog(name: str, entry: str) -> None:
    with pytest.warns(InputWarning, match=f"{name} is answered as {entry} of the catalog"):
        arch = vt.architecture(name)
    assert arch == vt.architecture(entry)
    assert vt.catalog.alike("someone/Qwen3-8B-Instruct") is None


def test_an_unknown_repository_without_network_fails_soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    sources._offline.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # discard: nobody listens
    start = time.monotonic()
    for refused in (vt.architecture, vt.load):
        with pytest.raises(vt.InputError, match=r"someone/unknown is neither.*the hub cannot be reached"):
            refused("someone/unknown")
    assert time.monotonic() - start < 3
    sources._offline.cache_clear()


SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
TEXTS = ["config.json", "tokenizer.json", "model.safetensors.index.json"]
GGUFS = [
    "a-Q4_K_M.gguf",
    "a-Q8_0.gguf",
    "mmproj-a-F16.gguf",
    "IQ4/a-IQ4_XS-00001-of-00002.gguf",
    "IQ4/a-IQ4_XS-00002-of-00002.gguf",
]


@pytest.mark.parametrize(
    ("files", "shards", "kind", "right"),
    [
        (
            [*TEXTS, *SHARDS, "original/model.safetensors", "original/config.json"],
            SHARDS,
            None,
            TEXTS + SHARDS,
        ),  # gpt-oss
        ([*TEXTS, *SHARDS, "consolidated.safetensors", "README.md"], SHARDS, None, TEXTS + SHARDS),  # Mistral
        (
            ["config.json", "model.safetensors", "onnx/model.onnx", "consolidated.00.pth"],
            [],
            None,
            ["config.json", "model.safetensors"],
        ),
        (["config.json", "tiktoken.model", "a.py", *SHARDS], SHARDS, None, ["config.json", "tiktoken.model", *SHARDS]),
        (["config.json", "tokenizer.model.v3", *SHARDS], SHARDS, None, ["config.json", "tokenizer.model.v3", *SHARDS]),
        (["README.md", *GGUFS], [], "q4_k_m", ["a-Q4_K_M.gguf"]),
        (["README.md", *GGUFS], [], "IQ4_XS", GGUFS[3:]),
        (["config.json", "a-Q8_0.gguf"], [], None, ["config.json", "a-Q8_0.gguf"]),
    ],
)
def test_what_is_fetched_of_a_repository(
    files: list[str], shards: list[str], kind: str | None, right: list[str]
) -> None:
    """https://github.com/FlashML-org/FreeToken/pull/336."""
    index = {"weight_map": {str(i): file for i, file in enumerate(shards)}} if shards else {}
    assert sorted(sources.needed("org/name", files, index, kind)) == sorted(right)


def test_one_gguf_file_of_several_must_be_named() -> None:
    with pytest.raises(
        vt.InputError, match=r"as org/name:Q4_K_M \(a-IQ4_XS-00001-of-00002.gguf, a-Q4_K_M.gguf, a-Q8_0"
    ):
        sources.needed("org/name", GGUFS, {})
    with pytest.raises(vt.InputError, match=r"org/name:Q4_K_M \(a-"):
        sources.needed("org/name", GGUFS, {}, "Q3_K_S")


# ------------------------------------------------------------------ others


PARAMS = {
    "dim": 4096,
    "n_layers": 32,
    "head_dim": 128,
    "hidden_dim": 14336,
    "n_heads": 32,
    "n_kv_heads": 8,
    "norm_eps": 1e-5,
    "vocab_size": 32768,
    "rope_theta": 1e6,
}


def test_params_of_mistral_are_read_or_named(tmp_path: Path) -> None:
    """The total of Mistral 7B v0.3; for what is left out https://github.com/sgl-project/sglang/issues/28020."""
    file = tmp_path / "params.json"
    for source in (tmp_path, file):
        file.write_text(json.dumps(PARAMS))
        assert cost(vt.architecture(source)).parameters.total == 7_248_023_552
        file.write_text(json.dumps(PARAMS | {"lora": {"rank": 8}}))
        with pytest.raises(vt.InputError, match=r"params.json is Mistral's own format.*lora cannot be read"):
            vt.architecture(source)


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder(tmp_path)
    for refused in (vt.build, vt.load):
        with pytest.raises(vt.InputError, match="the device 'nowhere' cannot be used"):
            refused(tmp_path, device="nowhere")
