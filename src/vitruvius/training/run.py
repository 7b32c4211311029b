"""A whole run: from a recipe to a trained model, and its folder."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..checkpoints.sources import Source, architecture
from ..checkpoints.tokenizer import Tokenizer
from ..errors import InputError
from ..models import build, load
from ..nn import Decoder
from ..nn.adapters import add_adapters, merge_adapters
from ..nn.model import check_device
from ..saving import save
from ..tuning import save_adapter
from . import forecast, precision, start
from .batches import Batches, Held, TokenBatch
from .conversations import WholeDocuments
from .folder import Folder, Progress
from .loop import Loop, NotFiniteError
from .parallel import Team
from .profiling import Profile, table
from .recipe import Recipe
from .tokens import Corpus, prepare
from .trackers import Nowhere, Tracker, tracker

Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run leaves.

    Args:
        model: ready to write.
        tokenizer: None where the data were given as batches.
        progress: how far it came.
        rows: of metrics.jsonl: `step`, `loss` (of that step), `tokens` and `seconds` (so far), `lr`, `grad_norm`,
            `tokens_per_second`, `memory` (bytes, the most so far), and after an evaluation `validation_loss`.
        folder: of the run, None where nothing was written.
    """

    model: Decoder
    tokenizer: Tokenizer | None
    progress: Progress
    rows: list[Row]
    folder: Path | None


def train(
    recipe: Recipe,
    *,
    model: Source | None = None,
    data: Batches | None = None,
    held: Held | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
    say: Callable[[str], None] = lambda text: None,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Runs a recipe. Nothing is kept between calls, and the same recipe gives the same model.

    Args:
        model: an architecture in the place of the recipe's `model`, with random weights: a spec, or what
            `vitruvius.architecture` takes.
        data: batches in the place of the recipe's files: any function of the step that gives a `TokenBatch`.
        held: what is evaluated, with `data`.
        on_row: gets each line of metrics.jsonl when it is known.
        say: gets what is worth knowing about the data and the model, a sentence at a time.
        stop: asked after each step; where it says so, the run is saved and ends.

    Raises InputError, in one line, for what cannot be run, before anything is built where that can be known, and for a
    loss that is no number.
    """
    device = torch.device(recipe.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    check_device(str(device))
    team = Team.join(recipe.parallel, device)
    if team:
        _check_several(recipe, team)
        if not team.leads:
            say, on_row = (lambda text: None), (lambda row: None)
    with team.one_first() if team else nullcontext():
        folder = None if recipe.out is None else Folder(recipe.out, recipe.resume, team is None or team.leads)
        made, tokenizer, prepared = _made(recipe, model, data is None, device, say)
    if prepared is not None:
        data, held = prepared.training(recipe), prepared.held(recipe)
        say(_told(prepared))
        if isinstance(data, WholeDocuments) and data.cut:
            say(f"{data.cut:,} conversations are longer than sequence={recipe.sequence} and lose their end")
    assert data is not None
    chosen = precision.chosen(recipe.precision, made.width, device)
    recipe = replace(recipe, precision=chosen, device=str(device), warmup=recipe.warm_up)
    run = _Run(recipe, Loop(made, recipe, team), data, held, folder, on_row, say)
    if folder:
        parameters = sum(parameter.numel() for parameter in made.parameters())
        said = {} if prepared is None else {f"data_{key}": value for key, value in prepared.index.items()}
        folder.begin(recipe, {"parameters": parameters, **said})
        if tokenizer and prepared and folder.leads:
            (folder.path / "tokenizer").mkdir(exist_ok=True)
            tokenizer.save(folder.path / "tokenizer")
        if recipe.resume:
            run.resume()
    run.tracker = tracker(recipe, folder.path if folder and folder.leads else None)
    try:
        run.go(stop)
    finally:
        run.tracker.finish()
    trained = run.finished(tokenizer)
    if team:
        team.leave()
    return trained


def _made(
    recipe: Recipe, given: Source | None, files: bool, device: torch.device, say: Callable[[str], None]
) -> tuple[Decoder, Tokenizer | None, Corpus | None]:
    """The model on its device, its tokenizer, and what is learned from where it comes from files."""
    if given is None and start.from_checkpoint(recipe):
        checkpoint, own = start.opened(recipe)
        prepared = prepare(recipe, own) if files else None
        tokenizer = prepared.tokenizer if prepared else own
        start.check(checkpoint.spec, recipe, tokenizer)
        forecast.check(checkpoint.spec, recipe, forecast.available(device))
        say(f"training goes on from the weights in {checkpoint.path}")
        made = load(checkpoint.path, device=str(device), mtp=recipe.mtp > 0)
        if recipe.lora is not None:
            names = add_adapters(made, recipe.lora, recipe.lora_alpha, quantize=recipe.quantize, seed=recipe.seed)
            say(f"{len(names)} matrices have adapters of rank {recipe.lora}")
        return made, tokenizer, prepared
    if recipe.lora is not None:
        raise InputError("lora: adapters need trained weights: name a checkpoint as model, with start=checkpoint")
    prepared = prepare(recipe, None) if files else None
    tokenizer = prepared.tokenizer if prepared else None
    if given is not None:
        arch = architecture(given)
        start.check(arch, recipe, tokenizer)
    elif tokenizer is None:
        if recipe.model is None:
            raise InputError("model: batches of tokens need an architecture")
        arch = architecture(recipe.model)
        start.check(arch, recipe, None)
    else:
        arch = start.described(recipe, tokenizer)
    forecast.check(arch, recipe, forecast.available(device))
    return build(arch, recipe.seed, device=str(device), mtp=recipe.mtp > 0), tokenizer, prepared


def _check_several(recipe: Recipe, team: Team) -> None:
    """Raises InputError for what several processes cannot do."""
    groups = team.parallel.rows * recipe.accumulate
    if recipe.batch % groups:
        raise InputError(
            f"batch: {recipe.batch} rows cannot be shared by {team.parallel.rows} groups of devices in "
            f"accumulate={recipe.accumulate} equal parts; take a multiple of {groups}"
        )
    if recipe.lora is not None:
        raise InputError("parallel: adapters are trained by one process; leave lora or parallel out")
    if recipe.compile and team.parallel.tensor * team.parallel.expert > 1:
        raise InputError("parallel: layers that are cut cannot be compiled yet; leave compile out")


def _told(prepared: Corpus) -> str:
    index = prepared.index
    told = f"{index['tokens']:,} tokens to learn from, {index['held_tokens']:,} held out"
    if index["duplicates"]:
        told += f"; {index['duplicates']:,} documents stood there twice and are read once"
    if index["held_seen"] > 0:
        told += f"; {index['held_seen']:.1%} of the held-out text also stands in the training text"
    return told


class _Run:
    """A run as it goes on."""

    def __init__(
        self,
        recipe: Recipe,
        loop: Loop,
        data: Batches,
        held: Held | None,
        folder: Folder | None,
        on_row: Callable[[Row], None],
        say: Callable[[str], None],
    ) -> None:
        self.recipe, self.loop, self.data, self.held, self.folder = recipe, loop, data, held, folder
        self.on_row, self.say = on_row, say
        self.tracker: Tracker = Nowhere()
        self.progress, self.rows = Progress(), list[Row]()
        self.began, self.saved = time.perf_counter(), -1

    def resume(self) -> None:
        """Goes back to the last checkpoint."""
        assert self.folder
        if not (steps := self.folder.steps()):
            self.folder.back_to(0)
            self.say(f"{self.folder.path} has no checkpoint yet: it begins anew")
            return
        state = self.loop.state()
        self.folder.load(state, steps[-1])
        self.loop.set(state)
        self.progress, self.saved = self.folder.progress(steps[-1]), steps[-1]
        self.rows = list(self.folder.back_to(steps[-1]))
        self.began -= self.progress.seconds
        self.say(f"it goes on after step {steps[-1]}")

    def go(self, stop: Callable[[], bool]) -> None:
        """The steps that are left."""
        recipe = self.recipe
        looked = Profile(self.folder.path / "profile") if self.folder and self.folder.leads and recipe.profile else None
        for i in range(self.progress.step, recipe.steps):
            if looked:
                looked.before()
            batch, before = self.data(i), time.perf_counter()
            try:
                found = self.loop.step(i, batch)
            except NotFiniteError as error:
                raise self._bad(i, batch, error) from None
            now = time.perf_counter()
            if looked and looked.after():
                self.say(f"{looked.folder}/trace.json is for ui.perfetto.dev\n{table(looked.profiler)}")
            tokens, last = self.progress.tokens + batch.ids.numel(), i + 1 == recipe.steps
            self.progress = replace(self.progress, step=i + 1, tokens=tokens, seconds=now - self.began)
            row = {"step": i + 1, "loss": found.loss, "tokens": tokens, "seconds": round(self.progress.seconds, 3)}
            row |= found.others
            row |= {"lr": found.lr, "grad_norm": found.norm, "memory": self._memory()}
            row |= {"tokens_per_second": round(batch.ids.numel() / (now - before), 1)}
            evaluated = self.held is not None and ((i + 1) % recipe.eval_every == 0 or last)
            if evaluated:
                row |= {"validation_loss": self._evaluated()}
            if evaluated or last or (i + 1) % recipe.log_every == 0:
                self._log(row)
            stopped = stop()
            if self.folder and (last or stopped or (i + 1) % recipe.save_every == 0):
                self._save()
            if stopped and not last:
                self.say(f"stopped after step {i + 1}")
                return

    def finished(self, tokenizer: Tokenizer | None) -> Trained:
        """The model as it is used, adapters merged, and its export."""
        plain, folder = self.loop.plain(), self.folder
        if self.recipe.lora is not None:
            if folder:
                save_adapter(plain, folder.path / "adapter")
            merge_adapters(plain)
        if folder and folder.leads:
            save(plain, folder.path / "export")
            if tokenizer:
                tokenizer.save(folder.path / "export")
        return Trained(plain, tokenizer, self.progress, self.rows, folder.path if folder else None)

    def _evaluated(self) -> float:
        assert self.held
        loss = self.loop.evaluate(self.held)
        if self.progress.best is None or loss < self.progress.best:
            self.progress = replace(self.progress, best=loss, best_step=self.progress.step)
        return loss

    def _log(self, row: Row) -> None:
        self.rows.append(row)
        if self.folder:
            self.folder.log(row)
        self.tracker.log(row)
        self.on_row(row)

    def _save(self) -> None:
        assert self.folder
        self.folder.save(self.loop.state(), self.progress, self.recipe.keep)
        self.saved = self.progress.step

    def _bad(self, i: int, batch: TokenBatch, error: NotFiniteError) -> InputError:
        """Keeps the batch of a loss that is no number, and says what to do."""
        told = f"step {i + 1}: {error}"
        if self.folder and self.folder.leads:
            file = self.folder.path / f"bad-batch-{i + 1}.npz"
            documents = torch.zeros_like(batch.ids) if batch.documents is None else batch.documents
            np.savez(file, ids=batch.ids.numpy(), targets=batch.targets.numpy(), documents=documents.numpy())
            told += f"; the batch is {file}, and {self.folder.state()}"
        return InputError(f"{told}: try a lower lr, a longer warmup or precision=f32")

    def _memory(self) -> int:
        if self.loop.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.loop.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
