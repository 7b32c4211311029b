"""Gemma 3n and 4 beyond what every architecture is tested for: models nested in a MatFormer, per-layer embeddings,
sparse activations, keys and values that layers share or that are one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cases
import pytest
import reference
import torch
from safetensors.torch import load_file, save_file

import vitruvius as vt
from vitruvius.checkpoints.sources import config_of
from vitruvius.cost import cost
from vitruvius.nn.feedforward import most_active
from vitruvius.spec import Attention, Decoder, GatedMLP, GaussianTopK, LayerKeyValue, UnifiedKeyValue, nested, walk

FULL, SLIDING = cases.FULL, cases.SLIDING
E4B, E2B = vt.architecture("gemma-3n-e4b"), vt.architecture("gemma-3n-e2b")
WITHOUT_A_BLOCK = [*range(20), *range(25, 35)]

# google-gemini/gemma-cookbook, [Gemma_3n]MatFormer_Lab.ipynb: effective parameters, in billions
EFFECTIVE = {"gemma-3n-e4b": 3.98, "gemma-3n-e2b": 1.91}


def attention_of(arch: Decoder) -> list[Attention]:
    return [node.spec for node in walk(arch, arch.width) if isinstance(node.spec, Attention)]


def widths_of(arch: Decoder) -> list[int]:
    return [node.spec.dim for node in walk(arch, arch.width) if isinstance(node.spec, GatedMLP)]


# ------------------------------------------------------------------ a MatFormer


def test_e2b_is_the_slice_of_e4b_that_google_took() -> None:
    small = vt.slice(E4B, 8192, WITHOUT_A_BLOCK)
    assert small == E2B
    assert cost(small).parameters.total == 4_435_182_688
    assert vt.architecture(config_of(small)) == small, "its own config.json describes it"


@pytest.mark.parametrize("name", EFFECTIVE)
def test_the_published_effective_parameters_come_out(name: str) -> None:
    """Without both embedding tables, and with the projections of keys and values that the files hold for layers which
    use another's."""
    arch = vt.architecture(name)
    parts = cost(arch).parameters
    sharing = sum(isinstance(part.kv, LayerKeyValue) for part in attention_of(arch))
    unused = sharing * 2 * arch.width * 2 * 256
    effective = parts.total - parts.by_part["per-layer embeddings"] - parts.by_part["head"] + unused
    assert round(effective / 1e9, 2) == EFFECTIVE[name]


def test_each_layer_has_the_width_that_it_is_given() -> None:
    sizes = [16384 if i % 5 == 4 else 2048 * (1 + i % 8) for i in range(35)]
    small = vt.slice(E4B, sizes)
    assert widths_of(small) == sizes
    gone = sum(3 * 2048 * (16384 - size) for size in sizes)
    assert cost(small).parameters.total == cost(E4B).parameters.total - gone


def test_layers_that_share_look_to_the_same_layer_under_its_new_number() -> None:
    small = vt.slice(E4B, 16384, [0, 4, *range(15, 35)])
    layers = [part.kv.layer for part in attention_of(small) if isinstance(part.kv, LayerKeyValue)]
    assert set(layers) == {5, 6}  # 18 and 19, as in Google's notebook
    assert [E4B.layers[i].branches[0] for i in (18, 19)] == [small.layers[i].branches[0] for i in (5, 6)]


@pytest.mark.parametrize(
    ("hidden", "layers", "message"),
    [
        (8192, [i for i in range(35) if i != 19], "layer 19 must be kept: others use its keys and values"),
        (16385, None, "layer 0 has 16384 hidden channels, of which 16385 cannot be kept"),
        ([8192] * 34 + [0], None, "layer 34 has 16384 hidden channels, of which 0 cannot be kept"),
        ([8192] * 34, None, "34 sizes of feed-forward layers are given for 35 layers"),
        (8192, [1, 0], r"layers must be some of 0 to 34, in order, got \[1, 0\]"),
        (8192, [34, 35], "layers must be some of 0 to 34, in order"),
        (8192, [-1], "layers must be some of 0 to 34, in order"),
        (8192, [], "layers must be some of 0 to 34, in order"),
    ],
)
def test_what_is_no_part_of_the_model_is_refused(hidden: Any, layers: Any, message: str) -> None:
    with pytest.raises(vt.InputError, match=f"^gemma-3n-e4b: {message}") as error:
        vt.slice(E4B, hidden, layers)
    assert "\n" not in str(error.value)


def test_a_layer_of_experts_has_no_first_channels() -> None:
    with pytest.raises(vt.InputError, match="layer 0 has no plain feed-forward layer to take a part of"):
        vt.slice(vt.architecture("gemma-4-26b-a4b"), 100)


def test_a_tree_that_no_config_describes_has_none() -> None:
    """Llama's keys hold one width for all layers."""
    llama = vt.architecture(cases.TEXT["llama"])
    assert config_of(vt.slice(llama, 20)) == {
        **cases.TEXT["llama"],
        "intermediate_size": 20,
        "tie_word_embeddings": False,
    }
    assert config_of(vt.slice(llama, [20, 30, 40])) is None
    assert nested(llama, [20, 30, 40]) == vt.slice(llama, [20, 30, 40])


KEPT, SIZES = [0, 1, 2, 3, 4, 6], [58, 40, 31, 58, 20, 11]


def by_hand(folder: Path, target: Path) -> None:
    """The same slice, taken from the checkpoint's tensors by their names."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    count, inner = config["num_hidden_layers"], config["hidden_size_per_layer_input"]
    for key in ("layer_types", "activation_sparsity_pattern"):
        config[key] = [config[key][i] for i in KEPT]
    config |= {"num_hidden_layers": 6, "intermediate_size": SIZES, "num_kv_shared_layers": 2}
    tensors = {}
    for name, whole in load_file(folder / "model.safetensors").items():
        found = re.match(r"model\.layers\.(\d+)\.(.*)", name)
        if name == "model.embed_tokens_per_layer.weight":
            tensors[name] = whole.view(-1, count, inner)[:, KEPT].flatten(1)
        elif name == "model.per_layer_model_projection.weight":
            tensors[name] = whole.view(count, inner, -1)[KEPT].flatten(0, 1)
        elif not found:
            tensors[name] = whole
        elif int(found[1]) in KEPT:
            place = KEPT.index(int(found[1]))
            rows = SIZES[place] if found[2] in ("mlp.gate_proj.weight", "mlp.up_proj.weight") else None
            columns = SIZES[place] if found[2] == "mlp.down_proj.weight" else None
            part = whole[:rows] if columns is None else whole[:, :columns]
            tensors[f"model.layers.{place}.{found[2]}"] = part.clone(memory_format=torch.contiguous_format)
    target.mkdir()
    (target / "config.json").write_text(json.dumps(config), "utf-8")
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> reference.Reference:
    return reference.make(cases.TEXT["gemma3n"], tmp_path_factory.mktemp("gemma3n") / "whole")


@torch.no_grad()
def test_a_sliced_model_is_the_one_with_hand_sliced_weights(whole: reference.Reference, tmp_path: Path) -> None:
    by_hand(whole.folder, tmp_path / "hand")
    model = vt.load(whole.folder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small, hand, ids = vt.slice(model, SIZES, KEPT), vt.load(tmp_path / "hand"), whole.input_ids
    assert small.spec == hand.spec
    assert small.state_dict().keys() == hand.state_dict().keys()
    assert all(torch.equal(small.state_dict()[name], value) for name, value in hand.state_dict().items())
    assert torch.equal(small(ids), hand(ids))
    assert float((small(ids) - whole.logits).abs().max()) > 0.1, "another model"
    theirs = reference.logits(tmp_path / "hand", ids)
    assert float((small(ids) - theirs).abs().max()) <= 2e-4
    assert model.state_dict().keys() == before.keys()
    for value in small.parameters():
        value.zero_()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items()), "weights are copied"


@torch.no_grad()
def test_a_sliced_model_is_saved_as_a_checkpoint_that_others_read(whole: reference.Reference, tmp_path: Path) -> None:
    by_hand(whole.folder, tmp_path / "hand")
    small = vt.slice(vt.load(whole.folder, dtype="checkpoint"), SIZES, KEPT)
    assert vt.save(small, tmp_path / "saved") == []
    saved, hand = (load_file(tmp_path / folder / "model.safetensors") for folder in ("saved", "hand"))
    assert saved.keys() == hand.keys()
    assert all(torch.equal(saved[name], value) for name, value in hand.items())
    theirs = reference.logits(tmp_path / "saved", whole.input_ids)
    assert float((small(whole.input_ids) - theirs).abs().max()) <= 2e-4


@torch.no_grad()
def test_a_slice_of_a_slice_and_of_an_edited_tree(whole: reference.Reference, tmp_path: Path) -> None:
    model = vt.load(whole.folder)
    once, twice = vt.slice(model, 20, KEPT), vt.slice(vt.slice(model, 33), 20, KEPT)
    assert torch.equal(once(whole.input_ids), twice(whole.input_ids))
    uneven = vt.slice(vt.build(cases.TEXT["llama"]), [20, 30, 40])
    vt.save(uneven, tmp_path / "tree")
    assert torch.equal(vt.load(tmp_path / "tree")(whole.input_ids), uneven(whole.input_ids))


# ------------------------------------------------------------------ per-layer embeddings


@pytest.mark.parametrize(("name", "layers"), [("gemma-3n-e4b", 35), ("gemma-3n-e2b", 30)])
def test_the_table_that_may_live_on_slower_memory_is_a_part_of_its_own(name: str, layers: int) -> None:
    c = cost(vt.architecture(name))
    assert c.parameters.by_part["per-layer embeddings"] == 262_144 * layers * 256
    assert "per-layer embeddings" not in c.flops.by_part["prefill"], "it is only looked up"
    assert c.parameters.by_part["per-layer inputs"] == layers * 256 * 2048 + 256 + layers * (2 * 256 * 2048 + 2048)


@torch.no_grad()
def test_tokens_beyond_the_table_look_up_its_first_row() -> None:
    model = vt.build(cases.TEXT["gemma3n_pattern"])
    look_up = model.embedding.per_layer.table
    assert look_up.spec.vocab == 21 < model.spec.embedding.vocab
    rows = look_up(torch.tensor([[0, 20, 21, 82]]))
    assert rows.shape == (1, 4, 8, 8)
    assert torch.equal(rows[0, 2], rows[0, 0])
    assert torch.equal(rows[0, 3], rows[0, 0])
    assert torch.equal(rows[0, 1].flatten(), look_up.weight[20])


# ------------------------------------------------------------------ sparse activations


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.95])
def test_about_the_wanted_share_stays_active(sparsity: float) -> None:
    x = 3 + 2 * torch.randn(64, 4096, generator=torch.Generator().manual_seed(0))
    y = most_active(x, sparsity)
    assert abs(float((y > 0).float().mean()) - (1 - sparsity)) < 0.01
    cutoff = torch.quantile(x, sparsity, dim=-1, keepdim=True)
    assert float((y - (x - cutoff).clamp(min=0)).abs().max()) < 0.3, "what is above the cutoff, as far as it is above"


def test_sparsity_may_be_one_number_a_list_or_left_out() -> None:
    def sparsities(**keys: Any) -> list[float]:
        arch = vt.architecture(cases.gemma3n(num_kv_shared_layers=0, **keys))
        acts = [node.spec.act for node in walk(arch, arch.width) if isinstance(node.spec, GatedMLP)]
        return [act.sparsity if isinstance(act, GaussianTopK) else 0.0 for act in acts]

    assert sparsities(num_hidden_layers=3, activation_sparsity_pattern=0.7) == [0.7] * 3
    assert sparsities(num_hidden_layers=3, activation_sparsity_pattern=[0.7, 0.0, 0.2]) == [0.7, 0.0, 0.2]
    assert sparsities(num_hidden_layers=12) == [0.95] * 10 + [0.0] * 2
    assert sparsities(num_hidden_layers=10) == [0.0] * 10
    for wrong in ([0.7, 0.2], 1.0, [0.7, 0.1, "0.2"], [0.7, 0.1, -0.2]):
        with pytest.raises(vt.InputError):
            sparsities(num_hidden_layers=3, activation_sparsity_pattern=wrong)


# ------------------------------------------------------------------ keys and values


def test_sharing_needs_a_layer_of_the_same_kind_before() -> None:
    kinds = [SLIDING, SLIDING, FULL, SLIDING]
    config = cases.gemma3n(num_hidden_layers=4, layer_types=kinds, num_kv_shared_layers=2)
    with pytest.raises(vt.InputError, match="no layer before the shared ones is of the kind full_attention"):
        vt.architecture(config)
    with pytest.raises(vt.InputError, match="no layer before the shared ones is of the kind"):
        vt.architecture(config | {"num_kv_shared_layers": 5})


def test_layers_that_share_hold_no_state() -> None:
    model = vt.build(cases.TEXT["gemma3n"])
    held = sorted(model.sequence(20).store.parts)
    assert held == [f"layers.{i}.mixer.body.attention.body" for i in range(4)]


def test_files_may_hold_projections_that_sharing_layers_do_not_use(whole: reference.Reference, tmp_path: Path) -> None:
    """As Google's do, inside a multimodal model whose towers are left out."""
    config = json.loads((whole.folder / "config.json").read_text("utf-8"))
    tensors = {
        name.replace("model.", "model.language_model.", 1): value
        for name, value in load_file(whole.folder / "model.safetensors").items()
    }
    extra = {
        f"model.language_model.layers.{i}.self_attn.{name}": torch.ones(3)
        for i in range(4, 8)
        for name in ("k_proj.weight", "v_proj.weight", "k_norm.weight")
    }
    extra |= {"model.vision_tower.x": torch.ones(2), "model.embed_audio.y": torch.ones(3)}
    wrapper = {"model_type": "gemma3n", "text_config": config, "vision_config": {}, "audio_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(wrapper), "utf-8")
    save_file(tensors | extra, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = vt.load(tmp_path)
    with torch.no_grad():
        assert float((model(whole.input_ids) - whole.logits).abs().max()) <= 2e-4
    assert set(model.origin.plan.unused) == extra.keys()
    name = "model.language_model.layers.3.self_attn.k_proj.weight"
    save_file({k: v for k, v in (tensors | extra).items() if k != name}, tmp_path / "model.safetensors")
    with pytest.raises(vt.InputError, match=f"1 tensor is missing \\({name}\\)"):
        vt.load(tmp_path)


def test_where_keys_are_made_of_values_only_the_values_are_kept() -> None:
    arch = vt.architecture("gemma-4-26b-a4b")
    full = [part for part in attention_of(arch) if isinstance(part.kv, UnifiedKeyValue)]
    assert len(full) == 5
    assert all(part.state().keys() == {"v"} for part in full)
    assert cost(arch, dtype="bf16").state.bytes_per_token == 2 * 107_520
    model = vt.build(cases.TEXT["gemma4_experts"])
    assert [list(part) for part in model.sequence(9).store.parts.values()] == [["k", "v"], ["k", "v"], ["v"]] * 2


@pytest.mark.parametrize(
    "wrong", [[], "x", {"0": 5}, {"0": {"head_dim": 0}}, {"0": {"num_heads": 2}}, {"0": {"head_dim": None}}]
)
def test_what_layers_are_said_to_have_of_their_own_is_checked(wrong: Any) -> None:
    with pytest.raises(vt.InputError, match=r"per_layer_config|head_dim"):
        vt.architecture(cases.TEXT["gemma4_experts"] | {"per_layer_config": wrong})


def test_the_active_stream_is_one_of_them() -> None:
    with pytest.raises(vt.InputError, match="the active stream is one of 0 to 3, not 4"):
        vt.architecture(cases.TEXT["gemma3n"] | {"altup_active_idx": 4})
