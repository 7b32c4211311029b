"""Layers for multi-token prediction against transformers' MtpModel."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from test_packed import DEEPSEEK, random_model

import vitruvius as vt

GLM = {
    "model_type": "glm4_moe",
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 72,
    "moe_intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "attention_bias": True,
    "use_qk_norm": True,
    "n_shared_experts": 1,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "routed_scaling_factor": 1.5,
    "first_k_dense_replace": 1,
    "max_position_embeddings": 64,
    "rms_norm_eps": 3e-3,
    "rope_theta": 100.0,
}


def reference(folder, config: dict, ids: torch.Tensor) -> list[torch.Tensor]:
    """What transformers says, one module after the other."""
    import transformers
    from transformers.cache_utils import MtpCache
    from transformers.modeling_layers import MtpModel

    main = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    modules = config["num_nextn_predict_layers"]
    ahead, stored, filled = MtpModel(main, modules).eval(), load_file(folder / "model.safetensors"), {}
    for name, value in ahead.state_dict().items():
        group, _, rest = name.partition(".")
        if group != "layers":
            continue  # the embedding and the head are the model's own
        k, _, rest = rest.partition(".")
        rest = rest.removeprefix("mtp_block.").replace("post_norm.", "shared_head.norm.")
        theirs = f"model.layers.{config['num_hidden_layers'] + int(k)}"
        if rest == "mlp.experts.gate_up_proj":
            pairs = [[f"{theirs}.mlp.experts.{e}.{p}_proj.weight" for p in ("gate", "up")] for e in range(len(value))]
            filled[name] = torch.stack([torch.cat([stored[n] for n in pair]) for pair in pairs])
        elif rest == "mlp.experts.down_proj":
            filled[name] = torch.stack(
                [stored[f"{theirs}.mlp.experts.{e}.down_proj.weight"] for e in range(len(value))]
            )
        else:
            filled[name] = stored[f"{theirs}.{rest}"]
    assert not ahead.load_state_dict(filled, strict=False).unexpected_keys
    logits, cache = [], MtpCache(config=main.config.get_mtp_config())
    with torch.no_grad():
        hidden = main(ids, output_hidden_states=True).hidden_states[-1]
        for k in range(modules):
            positions = torch.arange(k + 1, ids.shape[1])[None]
            hidden = ahead.forward_layer(k, hidden[:, :-1], positions, cache, input_ids=ids[:, k + 1 :])
            logits.append(ahead._project_to_logits(hidden))
    return logits


@pytest.mark.parametrize("config", [DEEPSEEK, GLM], ids=["deepseek_v3", "glm4_moe"])
@pytest.mark.filterwarnings("ignore")
def test_predictions_ahead_equal_the_reference(tmp_path, config):
    config = config | {"num_nextn_predict_layers": 2}
    plain = random_model(config)
    model = vt.build(config, seed=2, mtp=True)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    vt.save(model, tmp_path)
    ids = torch.randint(0, config["vocab_size"], (1, 18), generator=generator)
    loaded = vt.load(tmp_path, mtp=True)
    got, want = loaded.ahead(ids), reference(tmp_path, config, ids)
    assert [x.shape[1] for x in got] == [17, 16]
    for ours, theirs in zip(got, want, strict=True):
        assert (ours - theirs).abs().max() < 2e-4
    without = vt.load(tmp_path)
    assert torch.equal(without(ids), loaded(ids))
    assert without.ahead(ids) == plain.ahead(ids) == []


def test_what_a_checkpoint_holds_besides_the_model_is_carried_through(tmp_path):
    config = DEEPSEEK | {"num_nextn_predict_layers": 1}
    vt.save(vt.build(config, mtp=True), tmp_path / "a")
    assert vt.save(vt.load(tmp_path / "a"), tmp_path / "b") == []
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_they_are_counted_apart():
    with_mtp = vt.cost(vt.architecture(DEEPSEEK | {"num_nextn_predict_layers": 1}))
    without = vt.cost(vt.architecture(DEEPSEEK))
    assert with_mtp.parameters.total == without.parameters.total
    assert with_mtp.parameters.by_part["mtp"] > 0


@pytest.mark.parametrize(
    ("name", "modules", "inside"), [("qwen3-next-80b-a3b", 1, "mtp.fc.weight"), ("mimo-v2-flash", 3, "")]
)
def test_modules_with_names_of_their_own_load_what_was_saved(tmp_path, name, modules, inside):
    """No library at hand runs these; their shape and names are those that vLLM and sglang read."""
    config = vt.catalog.entry(name).config
    assert config["num_nextn_predict_layers"] == modules
    small = {"vocab_size": 61, "hidden_size": 48, "intermediate_size": 64, "moe_intermediate_size": 24}
    if name == "mimo-v2-flash":
        small |= {
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 24,
            "v_head_dim": 16,
            "n_routed_experts": 8,
        }
        small |= {"swa_num_attention_heads": 8, "swa_num_key_value_heads": 4, "swa_head_dim": 24, "swa_v_head_dim": 16}
    else:
        small |= {"num_experts": 16, "shared_expert_intermediate_size": 24}
    model = vt.build(config | small, mtp=True, seed=3)
    vt.save(model, tmp_path)
    ids = torch.arange(20)[None]
    ours, again = model.ahead(ids), vt.load(tmp_path, mtp=True).ahead(ids)
    assert len(ours) == len(again) == modules
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))
    assert all(torch.isfinite(logits).all() for logits in ours)
    assert not inside or inside in load_file(tmp_path / "model.safetensors")


def test_three_modules_of_mimo_have_a_third_of_a_billion_each():
    parts = vt.cost(vt.architecture("mimo-v2-flash")).parameters.by_part
    assert parts["mtp"] == 3 * 329_273_408
