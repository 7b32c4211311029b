"""Edited architectures as transformers runs them from their own folders: the same logits and greedy tokens."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cases
import pytest
import torch
from reference import offline, randomize

import vitruvius as vt
from vitruvius import exported, spec
from vitruvius.exported import export
from vitruvius.nn import Decoder
from vitruvius.saving import runs

MIXER, MLP = "layers.*.mixer.body", "layers.*.mlp.body"
NORM = spec.RMSNorm(eps=4e-3)
BASE = vt.architecture(
    cases.llama(
        hidden_size=64,
        num_attention_heads=4,
        head_dim=32,
        num_hidden_layers=4,
        rope_parameters=cases.rope(),
    )
)
EXPERTS = spec.MoE(
    router=spec.Router(experts=6, active=2, norm_topk_eps=0.0, selection_bias=True, score="sigmoid", scale=1.7),
    expert=spec.GatedMLP(dim=32, act="silu"),
    shared=spec.GatedMLP(dim=32, act="silu"),
)


def mixers(edit: Callable[[Any], Any], *layers: int) -> spec.Decoder:
    """The base with its attention edited, in some layers or all."""
    tree = BASE
    for where in [f"layers.{i}.mixer.body" for i in layers] or [MIXER]:
        tree = vt.replace(tree, where, edit)
    return tree


def qk_norm(over: str = "head", when: str = "before_rope") -> spec.Decoder:
    norm = spec.QKNorm(norm=NORM, over=over, when=when)
    return mixers(lambda m: replace(m, q_norm=norm, kv=replace(m.kv, k_norm=norm)))


def softmax(**changes: Any) -> spec.Decoder:
    return mixers(lambda m: replace(m, softmax=replace(m.softmax, **changes)))


def after(tree: spec.Decoder) -> spec.Decoder:
    for branch in ("layers.*.mixer", "layers.*.mlp"):
        tree = vt.replace(tree, branch, lambda b: replace(b, pre=None, post=NORM))
    return tree


EDITED = {
    "norms after": after(BASE),
    "sandwich norms": vt.replace(BASE, "layers.*.*", lambda b: replace(b, post=replace(NORM, offset=1.0), scale=0.7)),
    "gate": mixers(lambda m: replace(m, gate=spec.OutputGate())),
    "gate of heads": mixers(lambda m: replace(m, gate=spec.OutputGate(act="softplus", over="head", bias=True))),
    "NoPE": mixers(lambda m: replace(m, positions=None), 1, 3),
    "window": mixers(lambda m: replace(m, mask=spec.Window(size=5)), 0, 2),
    "QK norm": qk_norm(),
    "QK norm of all heads": qk_norm("projection"),
    "QK norm after RoPE": qk_norm(when="after_rope"),
    "MQA": mixers(lambda m: replace(m, kv=replace(m.kv, heads=1))),
    "experts": vt.replace(BASE, MLP, EXPERTS),
    "softcap": softmax(softcap=3.0),
    "sinks": softmax(sinks=True),
    "partial RoPE": mixers(lambda m: replace(m, positions=replace(m.positions, dim=16, interleaved=True))),
    "clamped experts": vt.replace(BASE, MLP, lambda m: replace(m, act=spec.ClampedSwiGLU(limit=0.5), bias=True)),
    "head": replace(
        BASE, head=replace(BASE.head, scale=0.3, softcap=2.0), embedding=replace(BASE.embedding, scale=3.0)
    ),
}
BY_EDIT = pytest.mark.parametrize("name", EDITED)
INSIDE = {
    "qwen3_next": "GatedDeltaNet",
    "deepseek_v3": "LatentAttention",
    "mamba2": "other branches",
    "gemma3n": "inputs of each layer",
}


@pytest.fixture(scope="module", autouse=True)
def own_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """transformers copies a folder's code into its cache, here one of the tests' own."""
    with offline(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


def random_model(tree: spec.Decoder) -> Decoder:
    model = vt.build(tree)
    randomize(model, torch.Generator().manual_seed(3))
    return model


@torch.no_grad()
def assert_same(model: Decoder, folder: Path) -> Any:
    """Saved, loaded by us and by transformers: logits and greedy tokens. Returns their model."""
    from transformers import AutoModelForCausalLM

    assert vt.save(model, folder) == []
    ids = torch.randint(3, 80, (2, 30), generator=torch.Generator().manual_seed(1))
    wanted = model(ids)
    assert torch.equal(vt.load(folder)(ids), wanted)
    theirs = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, local_files_only=True).eval()
    torch.testing.assert_close(theirs(ids).logits, wanted, rtol=0, atol=2e-5)
    options = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    tokens = theirs.generate(ids, max_new_tokens=8, **options)[:, 30:]
    assert torch.equal(tokens, vt.generate(model, ids, max_new_tokens=8, ignore_eos=True))
    return theirs


@BY_EDIT
def test_transformers_runs_an_edited_model_by_the_code_in_its_folder(name: str, tmp_path: Path) -> None:
    model = random_model(EDITED[name])
    theirs = assert_same(model, tmp_path / "model")
    assert type(theirs).__name__ == "VitruviusForCausalLM"
    assert "vLLM and SGLang run it" in runs(model)


@pytest.mark.parametrize("case", INSIDE)
def test_other_trees_run_in_transformers_by_ours(case: str, tmp_path: Path) -> None:
    model = random_model(replace(vt.architecture(cases.CASES[case]), final_norm=spec.RMSNorm(eps=0.01)))
    theirs = assert_same(model, tmp_path / "model")
    assert type(theirs).__name__ == "VitruviusTreeForCausalLM"
    assert INSIDE[case] in runs(model)
    with pytest.raises(ValueError, match="padded on the right"):
        theirs(torch.ones(1, 3, dtype=torch.long), attention_mask=torch.tensor([[0, 1, 1]]))


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        (mixers(lambda m: replace(m, kv=replace(m.kv, heads=1)), 2), "differ in heads"),
        (
            vt.replace(EDITED["window"], "layers.3.mixer.body", lambda m: replace(m, mask=spec.Window(size=9))),
            "5, 9 tokens",
        ),
        (vt.replace(BASE, MLP, replace(EXPERTS, expert=spec.GatedMLP(dim=32, act="gelu"))), "no SwiGLU"),
        (mixers(lambda m: replace(m, mask=spec.Chunk(size=7))), "the mask Chunk"),
        (softmax(temperature=spec.LogTemperature(scale=0.1, floor=8)), "temperature"),
        (mixers(lambda m: replace(m, softmax=replace(m.softmax, sinks=True)), 0), "sinks"),
        (mixers(lambda m: replace(m, kv=replace(m.kv, v_dim=16))), "values of other sizes"),
    ],
)
def test_what_an_engine_would_get_wrong_is_not_given_to_it(tree: spec.Decoder, reason: str) -> None:
    made = export(tree)
    assert reason in str(made.reason)
    assert "AutoModel" not in made.config["auto_map"]  # by which vLLM would take it


def test_a_new_model_from_the_config_begins_as_one_of_ours(tmp_path: Path) -> None:
    """transformers fills what a checkpoint does not hold, or all of it: norms and sinks as their papers begin."""
    from transformers import AutoConfig, AutoModelForCausalLM

    vt.save(random_model(vt.replace(EDITED["sinks"], MLP, EXPERTS)), tmp_path / "model")
    config = AutoConfig.from_pretrained(tmp_path / "model", trust_remote_code=True)
    state = AutoModelForCausalLM.from_config(config, trust_remote_code=True).state_dict()
    assert all(bool((value == 1).all()) for name, value in state.items() if "norm" in name)
    assert all(bool((value == 0).all()) for name, value in state.items() if name.endswith(("sinks", "correction_bias")))
    assert 0 < float(state["model.layers.0.mlp.gate.weight"].std()) < 0.1


def test_the_tensor_parallel_plan_follows_the_axes() -> None:
    plan = export(EDITED["gate"]).config["base_model_tp_plan"]
    assert plan == {
        **dict.fromkeys((f"layers.*.self_attn.{name}_proj" for name in ("q", "k", "v", "gate")), "colwise"),
        "layers.*.self_attn.o_proj": "rowwise",
        **dict.fromkeys((f"layers.*.mlp.{name}_proj" for name in ("gate", "up")), "colwise"),
        "layers.*.mlp.down_proj": "rowwise",
    }
    assert export(EDITED["QK norm of all heads"]).config["base_model_tp_plan"] is None
    assert export(EDITED["experts"]).config["base_model_tp_plan"] is None


def test_the_code_needs_transformers_and_torch_only() -> None:
    folder = Path(exported.__file__).parent
    for name in ("configuration_vitruvius.py", "modeling_vitruvius.py"):
        imports = [
            node for node in ast.walk(ast.parse((folder / name).read_text("utf-8"))) if isinstance(node, ast.ImportFrom)
        ]
        roots = {node.module.partition(".")[0] for node in imports if node.module and not node.level}
        assert roots <= {"__future__", "collections", "functools", "typing", "torch", "transformers"}


@torch.no_grad()
def test_the_loss_and_its_gradients_are_ours(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = random_model(EDITED["experts"])
    vt.save(model, tmp_path / "model")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model", trust_remote_code=True)
    ids = torch.randint(3, 80, (2, 20), generator=torch.Generator().manual_seed(2))
    with torch.enable_grad():
        loss = theirs(ids, labels=ids, use_cache=False).loss
        loss.backward()
        ours = torch.nn.functional.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        ours.backward()
    assert float((loss - ours).abs()) < 1e-5
    gradient = dict(theirs.named_parameters())["model.layers.1.self_attn.q_proj.weight"].grad
    torch.testing.assert_close(gradient, model.layers[1].mixer.body.q.weight.grad, rtol=1e-4, atol=1e-6)


def test_the_verb_says_what_runs_the_folder(tmp_path: Path) -> None:
    vt.save(random_model(EDITED["gate"]), tmp_path / "model")
    command = [
        sys.executable,
        "-c",
        "from vitruvius.cli import main; main()",
        "export",
        str(tmp_path / "model"),
        "-o",
        str(tmp_path / "again"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "vLLM and SGLang run it by the code in the folder" in result.stderr
    assert json.loads((tmp_path / "again" / "config.json").read_text())["architectures"] == ["VitruviusForCausalLM"]
    assert (tmp_path / "again" / "modeling_vitruvius.py").exists()
