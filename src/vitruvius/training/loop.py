"""The steps of a run: loss, gradients, optimiser.

A step sees one batch. Its loss is the mean over all learned targets, however many parts the batch is cut into: each
part adds the sum of its losses over the number of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite

import torch
from torch import Tensor
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from ..nn import Decoder
from . import optimizers
from .batches import Held, TokenBatch
from .losses import LossWeights, balance_biases, load_statistics, losses
from .parallel import Team, clip_gradients
from .precision import autocast
from .recipe import Recipe
from .schedules import schedule


class NotFiniteError(ArithmeticError):
    """The loss of a step, or the norm of its gradients, is no number; nothing was changed by it."""


@dataclass(frozen=True)
class StepResult:
    """What a step found.

    Args:
        loss: the mean cross entropy of its targets.
        norm: of the gradients, before they were clipped.
        lr: the learning rate.
        others: the other losses that the recipe weighs, before their weights, and of mixtures of experts
            `load_violation` (the fullest expert's load over the mean, less 1; the worst layer's) and `unused_experts`.
    """

    loss: float
    norm: float
    lr: float
    others: Mapping[str, float]


class Loop:
    """A model with its optimiser.

    Args:
        model: on its device, in float32.
        recipe: with `precision` resolved.
        team: the processes of the run, where there are several; each has the same model.
    """

    def __init__(self, model: Decoder, recipe: Recipe, team: Team | None = None) -> None:
        self.team = team
        self.model, self.recipe, self.device = model.train(), recipe, model.device
        if recipe.checkpointing:
            for i, layer in enumerate(model.layers):
                model.layers[i] = checkpoint_wrapper(layer, preserve_rng_state=False)
        if recipe.compile:
            for layer in model.layers:
                layer.compile()
        if team:
            team.lay(model)
        betas = recipe.beta1, recipe.beta2
        self.optimizer = optimizers.build(model, recipe.optimizer, recipe.lr, recipe.weight_decay, betas=betas)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.weights = LossWeights(
            recipe.z_loss, recipe.balance, recipe.balance_by_sequence, recipe.router_z, recipe.mtp
        )
        adapted = recipe.lora is not None  # the weights that stay as they are, are no part of a checkpoint
        self.kept = StateDictOptions(  # flat: whatever groups a layout's optimiser has
            flatten_optimizer_state_dict=True, ignore_frozen_params=adapted, strict=not adapted
        )
        self.factor = schedule(recipe.schedule, recipe.steps, recipe.warm_up, recipe.decay, recipe.min_lr)

    def step(self, i: int, batch: TokenBatch) -> StepResult:
        """Step i, counted from 0. Raises NotFiniteError, with the model as it was."""
        parts, learned = self.recipe.accumulate, max(batch.learned, 1)
        sums: dict[str, Tensor] = {}
        loads: dict[str, Tensor] = {}
        groups, place = (self.team.parallel.rows, self.team.place) if self.team else (1, 0)
        total = learned / groups  # gradients are means over the groups that share the rows
        for part in [each.parts(groups)[place] for each in batch.to(self.device).parts(parts)]:
            with autocast(self.recipe.precision, self.device):
                found = losses(self.model, part.ids, part.targets, part.documents, self.weights, total, 1 / parts)
            found.total.backward()
            for kept, new in ((sums, found.parts), (loads, found.loads)):
                kept.update({name: value + kept[name] if name in kept else value for name, value in new.items()})
        if self.team:
            sums, loads = self.team.mean(sums), self.team.sum(loads)
        norm = float(clip_gradients(self.model, self.recipe.clip or inf))
        others = {name: float(value) for name, value in sums.items()} | _evenness(loads)
        result = StepResult(others.pop("cross_entropy"), norm, self.recipe.lr * self.factor(i), others)
        if not (isfinite(result.loss) and isfinite(norm)):
            self.optimizer.zero_grad()
            raise NotFiniteError(f"the loss is {result.loss} and the gradients' norm {norm}")
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.factor(i)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.recipe.balance_bias:
            balance_biases(self.model, loads, self.recipe.balance_bias)
        return result

    @torch.no_grad()
    def evaluate(self, held: Held) -> float:
        """The mean loss of the learned targets."""
        self.model.eval()
        loss, learned = 0.0, 0
        for batch in held.batches:
            here = batch.to(self.device)
            with autocast(self.recipe.precision, self.device):
                found = losses(self.model, here.ids, here.targets, here.documents, total=1.0)
            loss += float(found.parts["cross_entropy"])
            learned += batch.learned
        self.model.train()
        return loss / max(learned, 1)

    def state(self) -> dict[str, object]:
        """What a checkpoint holds: tensors by the names of `torch.distributed.checkpoint`."""
        model, optimizer = get_state_dict(self.model, self.optimizer, options=self.kept)
        return {"model": model, "optimizer": optimizer}

    def set(self, state: dict[str, object]) -> None:
        """Takes what `state` gave, with other values."""
        set_state_dict(
            self.model,
            self.optimizer,
            model_state_dict=state["model"],  # type: ignore[arg-type]
            optim_state_dict=state["optimizer"],  # type: ignore[arg-type]
            options=self.kept,
        )

    def plain(self) -> Decoder:
        """The model without what training put around its layers."""
        for i, layer in enumerate(self.model.layers):
            self.model.layers[i] = getattr(layer, "_checkpoint_wrapped_module", layer)
        return self.team.gather(self.model) if self.team else self.model.eval()


def _evenness(loads: Mapping[str, Tensor]) -> dict[str, float]:
    """Of the layer whose experts are used least evenly."""
    found = load_statistics(loads).values()
    if not found:
        return {}
    return {
        "load_violation": max(each.violation for each in found),
        "unused_experts": max(each.unused for each in found),
    }
