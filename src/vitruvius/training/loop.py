"""The steps of a run: loss, gradients, optimiser.

A step sees one batch. Its loss is the mean over all learned targets, however many parts the batch is cut into: each
part adds the sum of its losses over the number of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.nn import functional as F

from ..nn import Decoder
from . import optimizers
from .batches import IGNORED, Held, TokenBatch
from .precision import autocast
from .recipe import Recipe
from .schedules import schedule


class NotFiniteError(ArithmeticError):
    """The loss of a step, or the norm of its gradients, is no number; nothing was changed by it."""


@dataclass(frozen=True)
class StepResult:
    """What a step found: the mean loss of its targets, the norm of the gradients before they were clipped, and the
    learning rate."""

    loss: float
    norm: float
    lr: float


class Loop:
    """A model with its optimiser.

    Args:
        model: on its device, in float32.
        recipe: with `precision` resolved.
    """

    def __init__(self, model: Decoder, recipe: Recipe) -> None:
        self.model, self.recipe, self.device = model.train(), recipe, model.device
        if recipe.checkpointing:
            for i, layer in enumerate(model.layers):
                model.layers[i] = checkpoint_wrapper(layer, preserve_rng_state=False)
        if recipe.compile:
            for layer in model.layers:
                layer.compile()
        betas = recipe.beta1, recipe.beta2
        self.optimizer = optimizers.build(model, recipe.optimizer, recipe.lr, recipe.weight_decay, betas=betas)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.factor = schedule(recipe.schedule, recipe.steps, recipe.warmup, recipe.decay, recipe.min_lr)

    def step(self, i: int, batch: TokenBatch) -> StepResult:
        """Step i, counted from 0. Raises NotFiniteError, with the model as it was."""
        learned, loss = max(batch.learned, 1), torch.zeros((), device=self.device)
        for part in batch.parts(self.recipe.accumulate):
            with autocast(self.recipe.precision, self.device):
                total = summed_loss(self.model, part.to(self.device), self.recipe.z_loss) / learned
            total.backward()
            loss += total.detach()
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, self.recipe.clip or inf)
        found = StepResult(float(loss), float(norm), self.recipe.lr * self.factor(i))
        if not (isfinite(found.loss) and isfinite(found.norm)):
            self.optimizer.zero_grad()
            raise NotFiniteError(f"the loss is {found.loss} and the gradients' norm {found.norm}")
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.factor(i)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return found

    @torch.no_grad()
    def evaluate(self, held: Held) -> float:
        """The mean loss of the learned targets."""
        self.model.eval()
        loss, learned = 0.0, 0
        for batch in held.batches:
            with autocast(self.recipe.precision, self.device):
                loss += float(summed_loss(self.model, batch.to(self.device)))
            learned += batch.learned
        self.model.train()
        return loss / max(learned, 1)

    def state(self) -> dict[str, object]:
        """What a checkpoint holds: tensors by the names of `torch.distributed.checkpoint`."""
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def set(self, state: dict[str, object]) -> None:
        """Takes what `state` gave, with other values."""
        set_state_dict(
            self.model,
            self.optimizer,
            model_state_dict=state["model"],  # type: ignore[arg-type]
            optim_state_dict=state["optimizer"],  # type: ignore[arg-type]
        )

    def plain(self) -> Decoder:
        """The model without what training put around its layers."""
        for i, layer in enumerate(self.model.layers):
            self.model.layers[i] = getattr(layer, "_checkpoint_wrapped_module", layer)
        return self.model.eval()


def summed_loss(model: Decoder, batch: TokenBatch, z_loss: float = 0.0) -> Tensor:
    """The sum of the losses of the learned targets, in float32. The head reads those positions only."""
    hidden, keep = model.hidden(batch.ids, documents=batch.documents), batch.targets != IGNORED
    logits = model.read_out(hidden[keep]).float()
    loss = F.cross_entropy(logits, batch.targets[keep], reduction="sum")
    return loss + z_loss * logits.logsumexp(-1).square().sum() if z_loss else loss
