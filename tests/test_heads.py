"""Models without a head, and classifiers: what they hold and give, against transformers' classes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest
import reference
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import vitruvius as vt
from vitruvius import spec
from vitruvius.cost import cost
from vitruvius.errors import InputWarning
from vitruvius.inference.verify import verify
from vitruvius.native import library as native

AUTO = {"Model": "AutoModel", "ForSequenceClassification": "AutoModelForSequenceClassification"}
AUTO["ForTokenClassification"] = "AutoModelForTokenClassification"
LABELS = {"id2label": {"0": "no", "1": "yes", "2": "perhaps"}, "label2id": {"no": 0, "yes": 1, "perhaps": 2}}


def made(config: dict[str, Any], kind: str, folder: Path) -> tuple[nn.Module, Tensor]:
    """transformers' model of that kind, saved into a folder, and token ids."""
    import transformers

    values = copy.deepcopy(config) | (LABELS if kind != "Model" else {})
    made = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    with reference.offline():
        torch.manual_seed(0)
        model = getattr(transformers, AUTO[kind]).from_config(
            made, attn_implementation="eager", experts_implementation="eager"
        )
        reference.randomize(model, torch.Generator().manual_seed(0))
        model.float().eval().save_pretrained(folder)
    return model, torch.randint(3, 40, (2, cases.TOKENS), generator=torch.Generator().manual_seed(1))


def given(model: nn.Module, ids: Tensor) -> Tensor:
    """What transformers computes; of texts as a whole it gives one row each."""
    rows = [model(input_ids=row[None], use_cache=False) for row in ids]
    return torch.cat([row["logits"] if "logits" in row else row["last_hidden_state"] for row in rows])


CASES = [
    *(("llama", kind) for kind in AUTO),
    *(("qwen3_windows", kind) for kind in AUTO),
    ("gemma2", "ForSequenceClassification"),
    ("gemma3_old", "Model"),
    ("mixtral", "Model"),
    ("gpt2", "Model"),
    ("gpt2", "ForSequenceClassification"),
    ("gpt_neox", "Model"),
    ("falcon_40b", "Model"),
    ("falcon_40b", "ForSequenceClassification"),
    ("mamba2", "Model"),
]


@pytest.mark.parametrize(("case", "kind"), CASES)
@torch.no_grad()
def test_it_gives_what_transformers_does(case: str, kind: str, tmp_path: Path) -> None:
    theirs, ids = made(cases.TEXT[case], kind, tmp_path / "theirs")
    model = vt.load(tmp_path / "theirs")
    assert cost(model.spec).parameters.total == sum(p.numel() for p in theirs.parameters()) - unused(model.spec, theirs)
    wanted, ours = given(theirs, ids), model(ids)
    assert 0.2 < float(wanted.std()) < 5, "the comparison must mean something"
    ours = ours[:, -1] if wanted.ndim == 2 else ours
    assert float((ours - wanted).abs().max()) < 2e-4
    if native.library() is not None:
        engine = vt.engine(tmp_path / "theirs", "f32", threads=1)
        out = engine(ids.numpy())
        assert float(np.abs((out[:, -1] if wanted.ndim == 2 else out) - wanted.numpy()).max()) < 5e-4
    assert vt.save(model, tmp_path / "ours") == []
    saved, stored = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "theirs"))
    assert saved.keys() == stored.keys()
    assert all(torch.equal(saved[name], stored[name]) for name in stored)
    assert vt.architecture(tmp_path / "ours") == model.spec


def unused(arch: spec.Decoder, theirs: nn.Module) -> int:
    """Parameters of layers for multi-token prediction, which belong to no such class."""
    return sum(p.numel() for name, p in theirs.named_parameters() if "mtp" in name)


@pytest.mark.parametrize("kind", AUTO)
def test_verify_compares_it(kind: str, tmp_path: Path) -> None:
    made(cases.TEXT["llama"], kind, tmp_path)
    assert verify(tmp_path, tokens=20).equal


@torch.no_grad()
def test_steps_give_what_one_pass_does() -> None:
    for kind in ("LlamaModel", "LlamaForSequenceClassification"):
        model = vt.build(cases.TEXT["llama"] | {"architectures": [kind]}, seed=3)
        ids = torch.randint(83, (7,))
        whole, sequence = model(ids[None])[0], model.sequence(16)
        model.step([(sequence, ids[:4], "none")])
        ((last),) = model.step([(sequence, ids[4:], "last")])
        assert float((last - whole[-1:]).abs().max()) < 1e-5
        with pytest.raises(vt.InputError, match="llama does not say which token comes next"):
            vt.generate(model, ids[None])


def test_a_tied_head_is_no_part_of_a_class_without_one() -> None:
    tied = cases.TEXT["mistral"]
    with_head, without = (
        vt.architecture(tied | {"architectures": [name]}) for name in ("MistralForCausalLM", "MistralModel")
    )
    assert cost(with_head).parameters.total == cost(without).parameters.total
    assert (without.head, without.embedding.tied, without.output_width) == (None, False, 60)
    with pytest.raises(ValueError, match="a tied embedding of 83 tokens needs a head of as many, not of None"):
        spec.edit(with_head, "head", None)


def test_an_embedder_that_calls_itself_a_language_model(tmp_path: Path) -> None:
    """Qwen/Qwen3-Embedding-8B says Qwen3ForCausalLM, with an untied head, and holds none."""
    theirs, ids = made(cases.TEXT["qwen3"] | {"tie_word_embeddings": False}, "Model", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["Qwen3ForCausalLM"]}), "utf-8")
    with pytest.warns(InputWarning, match="no head in its tensors: it gives hidden states"):
        model = vt.load(tmp_path)
    with torch.no_grad():
        assert float((model(ids) - given(theirs, ids)).abs().max()) < 2e-4


def test_an_unneeded_head_is_left_alone(tmp_path: Path) -> None:
    made(cases.TEXT["llama"], "Model", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(tensors | {"lm_head.weight": torch.zeros(83, 60)}, tmp_path / "model.safetensors")
    assert vt.load(tmp_path).origin.plan.unused == ("lm_head.weight",)


def test_attention_that_looks_ahead_is_named() -> None:
    """gte-Qwen2-7B-instruct says so, for code of its own."""
    config = cases.TEXT["qwen2"]
    assert vt.architecture(config | {"is_causal": True}) == vt.architecture(config)
    with pytest.warns(InputWarning, match="unknown key is_causal"):
        vt.architecture(config | {"is_causal": False})
