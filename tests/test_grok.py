"""Grok 2.5 against a plain transcription of the published computation.

No library at hand has it, so the reference is written out here, one position at a time, from xai-org/grok-1's model.py
and sglang's grok.py, with the decisions that `architectures/grok.py` states. Nothing of the project is used in it but
the weights.
"""

from __future__ import annotations

import math

import torch
from safetensors.torch import load_file

import vitruvius as vt

CONFIG = {
    "model_type": "grok",
    "vocab_size": 71,
    "hidden_size": 48,
    "intermediate_size": 80,
    "moe_intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "residual_moe": True,
    "max_position_embeddings": 128,
    "rms_norm_eps": 3e-3,
    "rope_theta": 500.0,
    "rope_type": "original",
    "attn_logit_softcapping": 3.0,
    "final_logit_softcapping": 5.0,
    "router_logit_softcapping": 2.0,
    "attn_temperature_len": 8,
    "embedding_multiplier_scale": 6.9,
    "output_multiplier_scale": 0.5,
}


def gelu(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return weight * x / math.sqrt(float((x * x).mean()) + CONFIG["rms_norm_eps"])


def rotated(x: torch.Tensor, position: int) -> torch.Tensor:
    half, out = len(x) // 2, x.clone()
    for i in range(half):
        angle = position * CONFIG["rope_theta"] ** (-i / half)
        a, b = float(x[i]), float(x[i + half])
        out[i] = a * math.cos(angle) - b * math.sin(angle)
        out[i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


def mlp(h: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    act = torch.tensor([gelu(float(value)) for value in gate @ h], dtype=h.dtype)
    return down @ (act * (up @ h))


def cap(x: float, limit: float) -> float:
    return limit * math.tanh(x / limit)


def attention(h: list[torch.Tensor], w: dict[str, torch.Tensor], prefix: str) -> list[torch.Tensor]:
    dim, groups = CONFIG["head_dim"], CONFIG["num_attention_heads"] // CONFIG["num_key_value_heads"]
    out = []
    for t in range(len(h)):
        heads = []
        for head in range(CONFIG["num_attention_heads"]):
            rows, kv = slice(head * dim, (head + 1) * dim), slice(head // groups * dim, (head // groups + 1) * dim)
            q = rotated(w[f"{prefix}.q_proj.weight"][rows] @ h[t], t)
            scores = []
            for s in range(t + 1):
                k = rotated(w[f"{prefix}.k_proj.weight"][kv] @ h[s], s)
                score = cap(float(q @ k) / math.sqrt(dim), CONFIG["attn_logit_softcapping"])
                longest = CONFIG["attn_temperature_len"]
                scores.append(score * (math.log2(t) / math.log2(longest) if t > longest else 1.0))
            total = sum(math.exp(s) for s in scores)
            heads.append(
                sum(math.exp(s) / total * (w[f"{prefix}.v_proj.weight"][kv] @ h[j]) for j, s in enumerate(scores))
            )
        out.append(w[f"{prefix}.o_proj.weight"] @ torch.cat(heads))
    return out


def feed_forward(h: torch.Tensor, w: dict[str, torch.Tensor], prefix: str) -> torch.Tensor:
    moe = f"{prefix}.block_sparse_moe"
    logits = [cap(float(x), CONFIG["router_logit_softcapping"]) for x in w[f"{moe}.gate.weight"] @ h]
    total = sum(math.exp(x) for x in logits)
    chosen = sorted(range(len(logits)), key=lambda e: -logits[e])[: CONFIG["num_experts_per_tok"]]
    y = torch.zeros_like(h)
    for e in chosen:
        expert = [w[f"{moe}.experts.{e}.{name}.weight"] for name in ("w1", "w3", "w2")]
        y += math.exp(logits[e]) / total * mlp(h, *expert)
    return (y + mlp(h, *(w[f"{prefix}.mlp.{name}_proj.weight"] for name in ("gate", "up", "down")))) / math.sqrt(2)


def reference(ids: list[int], w: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits (T, V), in float64."""
    x = [w["model.embed_tokens.weight"][i] * CONFIG["embedding_multiplier_scale"] for i in ids]
    for n in range(CONFIG["num_hidden_layers"]):
        layer = f"model.layers.{n}"
        y = attention([norm(v, w[f"{layer}.pre_attn_norm.weight"]) for v in x], w, f"{layer}.self_attn")
        x = [v + norm(b, w[f"{layer}.post_attn_norm.weight"]) for v, b in zip(x, y, strict=True)]
        y = [feed_forward(norm(v, w[f"{layer}.pre_moe_norm.weight"]), w, layer) for v in x]
        x = [v + norm(b, w[f"{layer}.post_moe_norm.weight"]) for v, b in zip(x, y, strict=True)]
    final = [w["lm_head.weight"] @ norm(v, w["model.norm.weight"]) for v in x]
    limit = CONFIG["final_logit_softcapping"]
    return torch.stack([limit * torch.tanh(v * CONFIG["output_multiplier_scale"] / limit) for v in final])


def test_grok_equals_the_published_computation(tmp_path):
    model = vt.build(CONFIG, seed=4)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * (0.3 if value.ndim > 1 else 1.0))
    vt.save(model, tmp_path)
    weights = {name: value.double() for name, value in load_file(tmp_path / "model.safetensors").items()}
    ids = torch.randint(0, CONFIG["vocab_size"], (1, 24), generator=generator)  # three times the temperature's length
    want = reference(ids[0].tolist(), weights)
    got = vt.load(tmp_path)
    assert float(want.std()) > 0.5
    assert (got(ids)[0].double() - want).abs().max() < 2e-4
    state = got.new_state(batch=1, capacity=24)
    steps = torch.cat([got(ids[:, i : i + 1], state) for i in range(24)], 1)
    assert (steps[0].double() - want).abs().max() < 2e-4
