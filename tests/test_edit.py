"""Editing a tree in one line: everything that is read from it follows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, TOKENS
from safetensors.torch import load_file, save_file
from torch import Tensor

import vitruvius as vt
from vitruvius import nn, views
from vitruvius.cost import cost
from vitruvius.nn.model import weights_of
from vitruvius.spec import (
    MLP,
    Attention,
    Causal,
    Decoder,
    GatedMLP,
    LatentAttention,
    LowRank,
    MoE,
    RMSNorm,
    RoPE,
    Router,
    Softmax,
    Window,
    to_json,
)


def latent(heads: int, rope_theta: float = 10_000.0) -> LatentAttention:
    return LatentAttention(
        heads=heads,
        nope_dim=12,
        rope_dim=8,
        v_dim=10,
        q=None,
        kv=LowRank(rank=16, norm=RMSNorm()),
        mask=Causal(),
        softmax=Softmax(scale=20**-0.5),
        positions=RoPE(theta=rope_theta, dim=8, interleaved=True),
    )


def mixture(old: GatedMLP) -> MoE:
    """Four experts, half as wide as what they replace, two of them used."""
    return MoE(router=Router(experts=4, active=2, norm_topk_eps=0.0), expert=GatedMLP(dim=old.dim // 2, act=old.act))


def latent_llama() -> Decoder:
    return vt.replace(CASES["llama_biases"], "layers.*.mixer.body", lambda old: latent(old.heads))


def sparse_gemma() -> Decoder:
    return vt.replace(CASES["gemma3"], "layers.*.mlp.body", mixture)


EDITED = {"latent_llama": latent_llama, "sparse_gemma": sparse_gemma}
BY_EDIT = pytest.mark.parametrize("edited", EDITED.values(), ids=list(EDITED))


def tokens(model: nn.Decoder) -> Tensor:
    return torch.randint(model.spec.embedding.vocab, (2, TOKENS), generator=torch.Generator().manual_seed(0))


# ------------------------------------------------------------------ what follows an edit


def test_llama_gets_latent_attention_and_gemma_a_mixture() -> None:
    assert [type(layer.branches[0].body) for layer in latent_llama().layers] == [LatentAttention] * 3
    assert [type(layer.branches[1].body) for layer in sparse_gemma().layers] == [MoE] * 5
    gemma = vt.architecture(CASES["gemma3"])
    assert [layer.branches[0] for layer in sparse_gemma().layers] == [layer.branches[0] for layer in gemma.layers]


def test_a_model_of_the_catalog_is_edited_by_its_name() -> None:
    """At full size: Llama 3 8B with the latents of DeepSeek V3 keeps 9 times less."""
    before = vt.architecture("llama-3-8b")
    borrowed = vt.architecture("deepseek-v3").layers[0].branches[0].body
    after = vt.replace("llama-3-8b", "layers.*.mixer.body", borrowed)
    assert cost(before).state.bytes_per_token == 32 * 2 * 8 * 128 * 2
    assert cost(after).state.bytes_per_token == 32 * (512 + 64) * 2
    difference = cost(before).parameters.total - cost(after).parameters.total
    old, new = before.layers[0].branches[0].body, borrowed
    assert difference == 32 * (parameters(old, 4096) - parameters(new, 4096))


def parameters(part: Attention | LatentAttention, width: int) -> int:
    parts = list(part.parts(width).values())
    own = sum(weight.size for weight in part.weights(width).values())
    return own + sum(sum(w.size for w in p.spec.weights(p.width).values()) for p in parts)


def test_costs_follow() -> None:
    before, after = cost(vt.architecture(CASES["gemma3"]), context=9), cost(sparse_gemma(), context=9)
    layers, width, dim, experts = 5, 60, 58, 4
    dense, sparse = 3 * width * dim, experts * 3 * width * (dim // 2) + experts * width
    assert after.parameters.total - before.parameters.total == layers * (sparse - dense)
    used = 2 * 3 * width * (dim // 2) + experts * width
    assert after.parameters.active - before.parameters.active == layers * (used - dense)
    assert after.flops.prefill - before.flops.prefill == 9 * 2 * layers * (used - dense)
    assert after.state == before.state


def test_the_difference_follows() -> None:
    text = str(vt.compare(vt.architecture(CASES["llama_biases"]), latent_llama()))
    assert "latent" in text.lower()
    same = vt.architecture(CASES["llama_biases"])
    assert "latent" not in str(vt.compare(same, same)).lower()


@pytest.mark.parametrize(
    ("edited", "case", "word"),
    [(latent_llama, "llama_biases", "latent"), (sparse_gemma, "gemma3", "expert")],
    ids=list(EDITED),
)
def test_the_drawings_follow(edited: Callable[[], Decoder], case: str, word: str) -> None:
    before, after = vt.architecture(CASES[case]), edited()
    for drawn in (views.tree, lambda arch: re.sub("<style.*?</style>", "", vt.draw(arch).svg, flags=re.DOTALL)):
        assert word in drawn(after).lower()
        assert word not in drawn(before).lower()


@BY_EDIT
@torch.no_grad()
def test_a_built_model_follows(edited: Callable[[], Decoder]) -> None:
    arch = edited()
    model = vt.build(arch, seed=1)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == {name: shape for name, (_, shape) in weights_of(arch).items()}
    ids = tokens(model)
    logits = model(ids)
    assert logits.shape == (2, TOKENS, arch.head.vocab)
    assert bool(logits.isfinite().all())
    state = model.new_state(2, TOKENS)
    assert state.nbytes == cost(arch, context=TOKENS, batch=2, dtype="f32").state.bytes
    parts = [model(chunk, state) for chunk in ids.split([20, 5, *[1] * (TOKENS - 25)], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), logits, atol=3e-5, rtol=0)


def test_replacing_a_part_by_itself_changes_nothing() -> None:
    arch = vt.architecture(CASES["gemma3"])
    edited = vt.replace(arch, "layers.*.mixer.body", lambda old: old)
    assert edited == arch
    assert hash(edited) == hash(arch)
    ids = tokens(vt.build(arch))
    assert torch.equal(vt.build(edited)(ids), vt.build(arch)(ids))


# ------------------------------------------------------------------ patterns


@pytest.mark.parametrize(
    ("pattern", "new", "read", "expected"),
    [
        ("layers.1.mlp.body.dim", 7, lambda a: [layer.branches[1].body.dim for layer in a.layers], [58, 7, 58, 58, 58]),
        (
            "layers.0,3.mlp.body.dim",
            7,
            lambda a: [layer.branches[1].body.dim for layer in a.layers],
            [7, 58, 58, 7, 58],
        ),
        ("layers.*.mlp.body.dim", lambda d: 2 * d, lambda a: {layer.branches[1].body.dim for layer in a.layers}, {116}),
        ("layers.*.branches.0.skip", 0.5, lambda a: {layer.branches[0].skip for layer in a.layers}, {0.5}),
        ("layers.*.*.post", None, lambda a: {branch.post for layer in a.layers for branch in layer.branches}, {None}),
        ("head.softcap", None, lambda a: a.head.softcap, None),
        ("context", 77, lambda a: a.context, 77),
        ("final_norm.eps", 0.5, lambda a: a.final_norm.eps, 0.5),
        ("layers.4.mixer.body.mask", Window(size=3), lambda a: a.layers[4].branches[0].body.mask, Window(size=3)),
        ("layers", lambda layers: layers[:2], lambda a: len(a.layers), 2),
    ],
)
def test_patterns(pattern: str, new: Any, read: Any, expected: Any) -> None:
    arch = vt.architecture(CASES["gemma3"])
    before = to_json(arch)
    assert read(vt.replace(arch, pattern, new)) == expected
    assert to_json(arch) == before, "the original stays as it is"


def test_edits_can_follow_each_other() -> None:
    arch = vt.replace(
        vt.replace(CASES["llama"], "layers.0.mixer.body.mask", Window(size=4)), "layers.2.mlp.body", mixture
    )
    assert isinstance(arch.layers[0].branches[0].body.mask, Window)
    assert [type(layer.branches[1].body) for layer in arch.layers] == [GatedMLP, GatedMLP, MoE]


@pytest.mark.parametrize(
    ("pattern", "new", "message"),
    [
        ("layers.*.mixr.body", None, r"'layers\.\*\.mixr\.body' matches nothing"),
        ("layers.99.mixer.body", None, r"'layers\.99\.mixer\.body' matches nothing"),
        ("nonsense", None, "'nonsense'.*nonsense.*it has .*layers"),
        ("head.softcap.deeper", 1.0, "'head.softcap.deeper'.*head.softcap has no parts"),
        ("", None, "''"),
        ("layers.*.mlp.body.dim", 0, "dim must be a positive integer, got 0"),
        ("layers.*.mlp.body.dim", 1.5, "dim must be a positive integer, got 1.5"),
        ("layers.*.mixer.body.heads", 5, "5 query heads cannot be shared evenly by 2"),
        ("layers.*.mixer.body.softmax.scale", float("nan"), "scale must be a finite number, got nan"),
        ("layers", (), "at least one layer"),
        ("head.vocab", 5, "a head of as many, not of 5"),
    ],
)
def test_an_edit_that_cannot_be_is_one_clear_line(pattern: str, new: Any, message: str) -> None:
    with pytest.raises(vt.InputError, match=message) as error:
        vt.replace(CASES["gemma3"], pattern, new)
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------ files


@BY_EDIT
@torch.no_grad()
def test_an_edited_model_is_saved_with_its_tree(edited: Callable[[], Decoder], tmp_path: Path) -> None:
    model = vt.build(edited(), seed=2)
    assert vt.save(model, tmp_path) == []
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config["model_type"] == "vitruvius_tree"
    stored = load_file(tmp_path / "model.safetensors")
    assert stored.keys() == {f"model.{name}" for name in model.state_dict()}, "names are the tree's own"
    loaded = vt.load(tmp_path)
    assert loaded.spec == model.spec == vt.architecture(tmp_path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    ids = tokens(model)
    assert torch.equal(loaded(ids), model(ids))


def test_a_saved_tree_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    vt.save(vt.build(latent_llama()), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))

    def attempt(change: Any, message: str) -> None:
        changed = json.loads(json.dumps(config))
        change(changed["tree"])
        (tmp_path / "config.json").write_text(json.dumps(changed), "utf-8")
        with pytest.raises(vt.InputError, match=message) as error:
            vt.architecture(tmp_path)
        assert "\n" not in str(error.value)

    attempt(lambda tree: tree.update({"is": "System"}), "unknown kind 'System'")
    attempt(lambda tree: tree.update({"is": "RMSNorm"}), "RMSNorm has no")
    attempt(lambda tree: tree.update(width=-1), "width must be a positive integer, got -1")
    attempt(lambda tree: tree.pop("layers"), "layers")
    attempt(lambda tree: tree["layers"].clear(), "at least one layer")
    attempt(lambda tree: tree.update(layers=None), "layer")
    attempt(lambda tree: tree.update(embedding=None), "embedding")
    attempt(lambda tree: tree["layers"][0]["branches"].append({"is": "RMSNorm"}), "branches|Branch")
    attempt(lambda tree: tree["head"].update(vocab="many"), "vocab must be a positive integer, got 'many'")
    attempt(lambda tree: tree.update(final_norm={"is": "MLP", "dim": 3, "act": "silu"}), "final_norm|norm")
    attempt(lambda tree: tree["layers"][0]["branches"][1]["body"].update(act="explode"), "act")


def test_tensors_of_an_edited_model_must_match_it(tmp_path: Path) -> None:
    vt.save(vt.build(latent_llama()), tmp_path)
    file = tmp_path / "model.safetensors"
    stored = load_file(file)
    name = next(iter(stored))
    save_file({key: value for key, value in stored.items() if key != name}, file)
    with pytest.raises(vt.InputError, match=f"missing.*{name}"):
        vt.load(tmp_path)
    save_file({**stored, name: stored[name][:1].clone()}, file)
    with pytest.raises(vt.InputError, match=f"{name} has the shape"):
        vt.load(tmp_path)


def test_plain_mlps_and_windows_build_too() -> None:
    """Parts that no config of that family has."""
    arch = vt.replace(CASES["llama"], "layers.*.mlp.body", MLP(dim=20, act="relu2", bias=True))
    arch = vt.replace(arch, "layers.*.mixer.body.mask", Window(size=5))
    model = vt.build(arch)
    ids, state = tokens(model), model.new_state(2, TOKENS)
    with torch.no_grad():
        torch.testing.assert_close(
            torch.cat([model(i, state) for i in ids.split(3, 1)], 1), model(ids), atol=3e-5, rtol=0
        )
