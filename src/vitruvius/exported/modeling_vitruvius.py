"""The model that config.json's `tree` describes, in plain PyTorch, for transformers and engines that run its models.

vLLM's and SGLang's backends find attention by its text: the lookup in ALL_ATTENTION_FUNCTIONS and one call of what it
gives, with `scaling` and `s_aux` as attributes of the module. They trace a class once, so each kind of layer is a class
of its own (`kind_of`). Nothing here is a buffer that a checkpoint does not hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_vitruvius import VitruviusConfig

Node = dict[str, Any]  # a part of the tree: its class under "is", and its fields

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
}
KINDS: dict[tuple[type, str], type] = {}


def kind_of(base: type, node: Node) -> type:
    """A class for this kind of part, the same for equal parts."""
    key = base, json.dumps(node, sort_keys=True)
    if key not in KINDS:
        KINDS[key] = type(f"{base.__name__}{len(KINDS)}", (base,), {"__module__": base.__module__})
    return KINDS[key]


# ------------------------------------------------------------------ norms


class RootMeanSquare(nn.Module):
    """(offset + w) · x / √(mean(x²) + eps), in float32."""

    def __init__(self, node: Node, width: int) -> None:
        super().__init__()
        self.eps, self.offset = node["eps"], node["offset"]
        self.weight = nn.Parameter(torch.full((width,), 1.0 - self.offset))

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) -> (…, W)."""
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps)
        return (y * (self.offset + self.weight.float())).to(x.dtype)


class Unweighted(nn.Module):
    """x / √(mean(x²) + eps), in float32."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.eps = node["eps"]

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) -> (…, W)."""
        y = x.float()
        return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


class Factor(nn.Module):
    """factor · x, where others have a norm."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.factor = node["factor"]

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) -> (…, W)."""
        return self.factor * x


def norm_of(node: Node | None, width: int) -> nn.Module:
    """The norm that a node describes, or none."""
    if node is None:
        return nn.Identity()
    if node["is"] == "LayerNorm":
        return nn.LayerNorm(width, eps=node["eps"], bias=node["bias"])
    if node["is"] == "WeightlessNorm":
        return Unweighted(node)
    return Factor(node) if node["is"] == "Scale" else RootMeanSquare(node, width)


# ------------------------------------------------------------------ attention


def repeat_kv(x: Tensor, share: int) -> Tensor:
    """(B, G, S, D) -> (B, G · share, S, D)."""
    return x if share == 1 else x.repeat_interleave(share, 1)


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """softmax(softcap(scaling · q kᵀ)) v with a sink of each head, as transformers' interface has it."""
    share = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, share), repeat_kv(value, share)
    scores = scaling * (query @ key.transpose(-1, -2))
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if attention_mask is not None:
        scores = scores + attention_mask[..., : key.shape[-2]]
    if s_aux is not None:
        sinks = s_aux[:, None, None].to(scores.dtype).expand(*scores.shape[:-1], 1)
        weights = torch.cat((scores, sinks), -1).softmax(-1, dtype=torch.float32)[..., :-1]
    else:
        weights = scores.softmax(-1, dtype=torch.float32)
    weights = weights.to(value.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def rotated(x: Tensor, table: tuple[Tensor, Tensor, bool]) -> Tensor:
    """Turns each pair of the first channels by its angle; x (B, H, T, D), tables (B, T, dim)."""
    cos, sin, interleaved = table[0][:, None], table[1][:, None], table[2]
    turned, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    if interleaved:
        a, b = turned[..., ::2], turned[..., 1::2]
        partner = torch.stack((-b, a), -1).flatten(-2)
    else:
        a, b = turned.chunk(2, -1)
        partner = torch.cat((-b, a), -1)
    return torch.cat((turned * cos + partner * sin, rest), -1)


class Attention(nn.Module):
    """o(gate(x) · softmax(q kᵀ) v)."""

    def __init__(self, config: VitruviusConfig, node: Node, layer_idx: int) -> None:
        super().__init__()
        kv, gate, softmax = node["kv"], node["gate"], node["softmax"]
        self.config, self.layer_idx, self.is_causal = config, layer_idx, True
        self.head_dim, self.scaling = node["head_dim"], softmax["scale"]
        self.num_key_value_groups = node["heads"] // kv["heads"]
        self.softcap, self.sliding_window = softmax["softcap"], node["mask"].get("size")
        self.rotary, self.v_scale = config.rotary_of_layer[layer_idx], kv["v_scale"]
        self.q_how, self.k_how = when_normed(node["q_norm"]), when_normed(kv["k_norm"])
        self.gate_act, self.gate_over = (str(gate["act"]), str(gate["over"])) if gate else ("none", "none")
        width, queries, keys = config.hidden_size, node["heads"] * self.head_dim, kv["heads"] * self.head_dim
        self.q_proj = nn.Linear(width, queries, bias=node["q_bias"])
        self.k_proj = nn.Linear(width, keys, bias=kv["bias"])
        self.v_proj = nn.Linear(width, keys, bias=kv["bias"])
        self.o_proj = nn.Linear(queries, width, bias=node["o_bias"])
        self.q_norm = norm_of(node["q_norm"] and node["q_norm"]["norm"], queries if self.q_how[0] else self.head_dim)
        self.k_norm = norm_of(kv["k_norm"] and kv["k_norm"]["norm"], keys if self.k_how[0] else self.head_dim)
        self.v_norm = norm_of(kv["v_norm"], self.head_dim)
        if gate:
            gates = queries if gate["over"] == "channel" else node["heads"]
            self.gate_proj = nn.Linear(width, gates, bias=gate["bias"])
        self.sinks = nn.Parameter(torch.zeros(node["heads"])) if softmax["sinks"] else None

    def split(self, x: Tensor, norm: nn.Module, how: tuple[bool, bool]) -> Tensor:
        """(B, T, heads · D) -> (B, heads, T, D), normed as a whole or each head for itself, unless that comes later."""
        x = norm(x) if how[0] else x
        x = x.view(*x.shape[:-1], -1, self.head_dim)
        return (x if how[0] or how[1] else norm(x)).transpose(1, 2)

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: list[tuple[Tensor, Tensor, bool]],
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        q = self.split(self.q_proj(hidden_states), self.q_norm, self.q_how)
        k = self.split(self.k_proj(hidden_states), self.k_norm, self.k_how)
        v = self.split(self.v_proj(hidden_states), self.v_norm, (False, False)) * self.v_scale
        if self.rotary is not None:
            q, k = rotated(q, position_embeddings[self.rotary]), rotated(k, position_embeddings[self.rotary])
        q, k = self.q_norm(q) if self.q_how[1] else q, self.k_norm(k) if self.k_how[1] else k
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, self.layer_idx)
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        y, _ = attention(
            self,
            q,
            k,
            v,
            attention_mask,
            dropout=0.0,
            scaling=self.scaling,
            sliding_window=self.sliding_window,
            softcap=self.softcap,
            s_aux=self.sinks,
            **kwargs,
        )
        y = y.reshape(*hidden_states.shape[:-1], -1)
        if self.gate_act != "none":
            g = self.gate_proj(hidden_states)
            g = g.sigmoid() if self.gate_act == "sigmoid" else F.softplus(g.float()).to(y.dtype)
            y = y * (g if self.gate_over == "channel" else g.repeat_interleave(self.head_dim, -1))
        return self.o_proj(y)


def when_normed(norm: Node | None) -> tuple[bool, bool]:
    """Whether queries or keys are normed as a whole, and whether after RoPE."""
    return (norm["over"] == "projection", norm["when"] == "after_rope") if norm else (False, False)


# ------------------------------------------------------------------ feed-forward layers


class MLP(nn.Module):
    """down(act(up(x)))."""

    def __init__(self, node: Node, width: int) -> None:
        super().__init__()
        self.act = ACTIVATIONS[node["act"]]
        self.up_proj = nn.Linear(width, node["dim"], bias=node["bias"])
        self.down_proj = nn.Linear(node["dim"], width, bias=node["bias"])

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) -> (…, W)."""
        return self.down_proj(self.act(self.up_proj(x)))


class GatedMLP(nn.Module):
    """down(act(gate_scale · gate(x)) · up(x))."""

    def __init__(self, node: Node, width: int) -> None:
        super().__init__()
        self.act, self.gate_scale = ACTIVATIONS[node["act"]], node["gate_scale"]
        self.gate_proj = nn.Linear(width, node["dim"], bias=node["bias"])
        self.up_proj = nn.Linear(width, node["dim"], bias=node["bias"])
        self.down_proj = nn.Linear(node["dim"], width, bias=node["bias"])

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) -> (…, W)."""
        gate = self.gate_proj(x)
        gate = gate if self.gate_scale == 1.0 else self.gate_scale * gate
        return self.down_proj(self.act(gate) * self.up_proj(x))


class ClampedMLP(nn.Module):
    """down((up + offset) · gate · σ(alpha · gate)), gate clamped from above, up on both sides."""

    def __init__(self, node: Node, width: int) -> None:
        super().__init__()
        act = node["act"]
        self.limit, self.alpha, self.offset = act["limit"], act["alpha"], act["offset"]
        self.gate_proj = nn.Linear(width, node["dim"], bias=node["bias"])
        self.up_proj = nn.Linear(width, node["dim"], bias=node["bias"])
        self.down_proj = nn.Linear(node["dim"], width, bias=node["bias"])

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) -> (…, W)."""
        gate = self.gate_proj(x).clamp(max=self.limit)
        up = self.up_proj(x).clamp(-self.limit, self.limit)
        return self.down_proj((up + self.offset) * gate * torch.sigmoid(self.alpha * gate))


def mlp_of(node: Node, width: int) -> nn.Module:
    """The feed-forward layer that a node describes."""
    if node["is"] == "MLP":
        return kind_of(MLP, node)(node, width)
    base = GatedMLP if isinstance(node["act"], str) else ClampedMLP
    return kind_of(base, node)(node, width)


class Experts(nn.ModuleList):
    """Σ wₑ · expertₑ(x) over the chosen experts."""

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """(N, W), the experts (N, K) of each token and their weights (N, K) -> (N, W)."""
        out = torch.zeros_like(hidden_states)
        for e, expert in enumerate(self):
            tokens, places = torch.where(top_k_index == e)
            y = expert(hidden_states[tokens]) * top_k_weights[tokens, places, None].to(hidden_states.dtype)
            out = out.index_add(0, tokens, y)
        return out


class Router(nn.Module):
    """Scores, selects and weighs experts."""

    def __init__(self, node: Node, width: int) -> None:
        super().__init__()
        self.node = node
        self.weight = nn.Parameter(torch.zeros(node["experts"], width))
        self.bias = nn.Parameter(torch.zeros(node["experts"])) if node["bias"] else None
        self.e_score_correction_bias: Tensor | None
        self.register_buffer(
            "e_score_correction_bias", torch.zeros(node["experts"]) if node["selection_bias"] else None
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, W) -> the weights and the numbers of the chosen experts, (N, K) each."""
        s = self.node
        logits = F.linear(x.float(), self.weight.float(), None if self.bias is None else self.bias.float())
        if s["softcap"] is not None:
            logits = s["softcap"] * torch.tanh(logits / s["softcap"])
        scores = logits.softmax(-1) if s["score"] == "softmax" else logits.sigmoid()
        ranks = scores if self.e_score_correction_bias is None else scores + self.e_score_correction_bias
        experts = ranks.topk(s["active"], -1).indices
        weights = scores.gather(-1, experts)
        if s["norm_topk_eps"] is not None:
            weights = weights / (weights.sum(-1, keepdim=True) + s["norm_topk_eps"])
        return weights * s["scale"], experts


class MoE(nn.Module):
    """scale · (Σ wₑ(x) · expertₑ(x) over the chosen experts, plus the shared one)."""

    def __init__(self, node: Node, width: int) -> None:
        super().__init__()
        self.scale = node["scale"]
        self.gate = kind_of(Router, node["router"])(node["router"], width)
        self.experts = Experts(mlp_of(node["expert"], width) for _ in range(node["router"]["experts"]))
        self.shared_experts = mlp_of(node["shared"], width) if node["shared"] else None

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) -> (…, W)."""
        rows = x.reshape(-1, x.shape[-1])
        weights, chosen = self.gate(rows)
        out = self.experts(rows, chosen, weights).view_as(x)
        out = out if self.shared_experts is None else out + self.shared_experts(x)
        return out if self.scale == 1.0 else out * self.scale


# ------------------------------------------------------------------ layers


class Layer(GradientCheckpointingLayer):
    """x ← skip · x + scale · post(body(pre(x))), of the attention and then of the feed-forward layer."""

    def __init__(self, config: VitruviusConfig, node: Node, layer_idx: int) -> None:
        super().__init__()
        mixer, mlp = node["branches"]
        width = config.hidden_size
        self.factors = [(branch["skip"], branch["scale"]) for branch in (mixer, mlp)]
        self.input_layernorm = norm_of(mixer["pre"], width)
        self.self_attn = kind_of(Attention, mixer["body"])(config, mixer["body"], layer_idx)
        self.post_attention_layernorm = norm_of(mixer["post"], width)
        self.pre_feedforward_layernorm = norm_of(mlp["pre"], width)
        body = mlp["body"]
        self.mlp = kind_of(MoE, body)(body, width) if body["is"] == "MoE" else mlp_of(body, width)
        self.post_feedforward_layernorm = norm_of(mlp["post"], width)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        (skip, scale), (mlp_skip, mlp_scale) = self.factors
        x = hidden_states
        y = self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), **kwargs))
        x = skip * x + scale * y
        y = self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))
        return mlp_skip * x + mlp_scale * y


class VitruviusPreTrainedModel(PreTrainedModel):
    """What transformers asks of a model."""

    config_class = VitruviusConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ("Layer",)
    _skip_keys_device_placement = ("past_key_values",)
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: VitruviusConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        if config._attn_implementation == "sdpa" and config.plain_scores is False:
            config._attn_implementation = "eager"  # PyTorch's kernels know neither sinks nor a cap, and would be silent

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RootMeanSquare):
            module.weight.fill_(1.0 - module.offset)
        elif isinstance(module, Router):
            module.weight.normal_(0.0, self.config.initializer_range)
            for vector in (module.bias, module.e_score_correction_bias):
                if vector is not None:
                    vector.zero_()
        elif isinstance(module, Attention) and module.sinks is not None:
            module.sinks.zero_()


class VitruviusModel(VitruviusPreTrainedModel):
    """From ids to the hidden states that the head reads."""

    def __init__(self, config: VitruviusConfig) -> None:
        super().__init__(config)
        tree = config.tree
        self.scale = tree["embedding"]["scale"]
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(kind_of(Layer, node)(config, node, i) for i, node in enumerate(tree["layers"]))
        self.norm = norm_of(tree["final_norm"], config.hidden_size)
        self.gradient_checkpointing = False
        self.post_init()

    def tables(self, position_ids: Tensor, dtype: torch.dtype) -> list[tuple[Tensor, Tensor, bool]]:
        """Cosine and sine (B, T, dim) for each kind of rotary positions."""
        made = []
        for table in self.config.rotary:
            frequencies = torch.tensor(table["frequencies"], dtype=torch.float32, device=position_ids.device)
            angles = position_ids[..., None].float() * frequencies
            angles = angles.repeat_interleave(2, -1) if table["interleaved"] else torch.cat((angles, angles), -1)
            factor = table["attention_factor"]
            made.append(((factor * angles.cos()).to(dtype), (factor * angles.sin()).to(dtype), table["interleaved"]))
        return made

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | dict[str, Tensor] | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """ids (B, T), or embeddings (B, T, W) -> hidden states (B, T, W)."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("exactly one of input_ids and inputs_embeds is needed")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
            if self.scale != 1.0:
                inputs_embeds = inputs_embeds * torch.tensor(self.scale, dtype=inputs_embeds.dtype)
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if use_cache and past_key_values is None and not self.training:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            before = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device)[None] + before
        masks = attention_mask if isinstance(attention_mask, dict) else {}
        if not masks:
            given: dict[str, Any] = {
                "config": self.config,
                "inputs_embeds": inputs_embeds,
                "attention_mask": attention_mask,
                "past_key_values": past_key_values,
                "position_ids": position_ids,
            }
            masks["full_attention"] = create_causal_mask(**given)
            if "sliding_attention" in self.config.layer_types:
                masks["sliding_attention"] = create_sliding_window_causal_mask(**given)
        x, tables = inputs_embeds, self.tables(position_ids, inputs_embeds.dtype)
        for i, layer in enumerate(self.layers):
            x = layer(
                x,
                attention_mask=masks[self.config.layer_types[i]],
                position_embeddings=tables,
                past_key_values=past_key_values,
                **kwargs,
            )
        return BaseModelOutputWithPast(last_hidden_state=self.norm(x), past_key_values=past_key_values)


class VitruviusForCausalLM(VitruviusPreTrainedModel, GenerationMixin):
    """The model with its head."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan: ClassVar[dict[str, str]] = {"lm_head": "colwise_gather_output"}
    _pp_plan: ClassVar[dict[str, Any]] = {"lm_head": (["hidden_states"], ["logits"])}

    def __init__(self, config: VitruviusConfig) -> None:
        super().__init__(config)
        self.model = VitruviusModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=config.tree["head"]["bias"])
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """ids (B, T), or embeddings (B, T, W) -> logits (B, T, V), of the last `logits_to_keep` tokens if that is not
        0, and with `labels` (B, T) the mean loss of the next tokens."""
        out = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(out.last_hidden_state[:, kept, :])
        scale, cap = self.config.logit_scale, self.config.final_logit_softcapping
        logits = logits if scale == 1.0 else scale * logits
        logits = logits if cap is None else cap * torch.tanh(logits / cap)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=out.past_key_values)
