"""The model that config.json's `tree` describes, run by vitruvius inside transformers: for trees that plain attention
layers cannot say (recurrences, latent attention, several streams). It needs `pip install "vitruvius[torch]"`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from vitruvius.exported import tree_model


class VitruviusTreeConfig(PretrainedConfig):
    """Sizes, beside the `tree` that describes every layer."""

    model_type = "vitruvius_tree"

    def __init__(self, tree: dict[str, Any] | None = None, use_cache: bool = False, **kwargs: Any) -> None:
        self.tree: dict[str, Any] = tree or {}
        self.use_cache = use_cache
        super().__init__(**kwargs)


class VitruviusTreeForCausalLM(PreTrainedModel, GenerationMixin):
    """Reads the whole text at each step: transformers' caches do not hold the states of these models. For speed there
    is `vitruvius serve`."""

    config_class = VitruviusTreeConfig
    base_model_prefix = "model"

    def __init__(self, config: VitruviusTreeConfig) -> None:
        super().__init__(config)
        self.model = tree_model(config.tree)
        self.vocab_size = config.vocab_size
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: torch.nn.Module) -> None:
        """Weights come from the file."""

    def get_input_embeddings(self) -> torch.nn.Module:
        """The token embedding."""
        return self.model.embedding

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """ids (B, T) -> logits (B, T, V), of the last `logits_to_keep` tokens if that is not 0, and with `labels`
        (B, T) the mean loss of the next tokens."""
        lengths = None
        if attention_mask is not None and not bool(attention_mask.all()):
            lengths = attention_mask.sum(-1)
            ends = torch.arange(input_ids.shape[1], device=input_ids.device) < lengths[:, None]
            if not torch.equal(ends, attention_mask.bool()):
                raise ValueError("rows must be padded on the right: a recurrence reads from the left")
        logits = self.model(input_ids, lengths=lengths)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.vocab_size, **kwargs)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return CausalLMOutputWithPast(loss=loss, logits=logits[:, kept, :])
