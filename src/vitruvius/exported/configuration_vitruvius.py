"""The config of a model that vitruvius has written for transformers."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class VitruviusConfig(PretrainedConfig):
    """What programs look for (sizes, layer types, window), beside the `tree` that describes every layer.

    `rotary` holds the rotary tables: frequencies in radians per position, whether neighbouring channels are pairs, and
    the factor of sine and cosine; `rotary_of_layer` says which of them each layer has, None for none.
    """

    model_type = "vitruvius"
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(
        self,
        tree: dict[str, Any] | None = None,
        rotary: list[dict[str, Any]] | None = None,
        rotary_of_layer: list[int | None] | None = None,
        base_model_tp_plan: dict[str, str] | None = None,
        use_cache: bool = True,
        **kwargs: Any,
    ) -> None:
        self.tree: dict[str, Any] = tree or {}
        self.rotary, self.rotary_of_layer = rotary or [], rotary_of_layer or []
        self.base_model_tp_plan, self.use_cache = base_model_tp_plan, use_cache
        self.base_model_pp_plan = {
            "embed_tokens": (["input_ids"], ["inputs_embeds"]),
            "layers": (["hidden_states", "attention_mask"], ["hidden_states"]),
            "norm": (["hidden_states"], ["hidden_states"]),
        }
        super().__init__(**kwargs)
