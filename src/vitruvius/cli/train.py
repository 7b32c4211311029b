"""`vitruvius train`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError
from . import options, running
from .output import emit_json

if TYPE_CHECKING:
    from ..training import Recipe, Trained

EVERY = 10  # seconds between two lines where there is no terminal
RECENT = 50  # steps that tell how long the rest takes
SAMPLES, SAMPLE_TOKENS = 2, 160


@click.command()
@click.argument("run", nargs=-1, metavar="[RUN.yaml] [KEY=VALUE]...")
@click.option(
    "--samples", type=click.IntRange(0), default=SAMPLES, show_default=True, help="Texts to write at the end."
)
@options.as_json
def command(run: tuple[str, ...], samples: int, as_json: bool) -> None:
    """Trains a model. Alone it needs no file and no network: a Llama of 10M parameters on Shakespeare's plays.

    RUN.yaml and KEY=VALUE say what is trained, on what and how; the more common keys are model, data, steps, batch,
    sequence, lr, optimizer, seed, out and resume, and docs/training.md has all. The run is a folder (`out`, by default
    runs/1 and on): run.yaml, metrics.jsonl, checkpoints, and export, which every verb and other programs load. Ctrl-C
    saves it; resume=true goes on.
    """
    require()
    file, words = _parted(run)
    with running.waiting("Starting PyTorch"):
        from ..training import read, train
    recipe = read(file, words)
    leads, several = os.environ.get("RANK", "0") == "0", os.environ.get("WORLD_SIZE", "1") != "1"
    if recipe.out is None and several:
        raise InputError("out: a run of several processes needs a folder that all of them know: out=runs/name")
    if recipe.out is None:
        recipe = read(file, [*words, f"out={_free(Path('runs'))}"])
    display = ProgressLine(recipe)
    with display.shown() if leads else nullcontext(), _until_interrupted() as stop:
        trained = train(recipe, on_row=display.row, say=display.say, stop=stop)
    if not leads:
        return None
    if as_json:
        return emit_json({"out": str(trained.folder), **_outcome(trained)})
    _write(trained, samples, recipe.seed)
    click.echo(_summary(trained), err=True)
    click.echo(f"{trained.folder}/export" if trained.progress.step == recipe.steps else trained.folder)


def require() -> None:
    """Raises InputError where what training needs is not installed."""
    missing = [name for module, name in (("torch", "PyTorch"), ("yaml", "PyYAML")) if find_spec(module) is None]
    if missing:
        raise InputError(f"training needs {' and '.join(missing)}: pip install 'vitruvius[train]'")


def _parted(run: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """The file, if there is one, and the words."""
    files = [word for word in run if "=" not in word]
    if len(files) > 1:
        raise InputError(f"one RUN.yaml is read, not {' and '.join(files)}; the rest is KEY=VALUE")
    return (files[0] if files else None), [word for word in run if "=" in word]


def _free(folder: Path) -> Path:
    """The first of runs/1, runs/2 … that is not there."""
    number = 1
    while (folder / str(number)).exists():
        number += 1
    return folder / str(number)


@contextmanager
def _until_interrupted() -> Iterator[Any]:
    """A function that says whether Ctrl-C, or the end of the session, was asked for. A second Ctrl-C ends at once."""
    asked: list[int] = []

    def handle(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        click.echo("stopping after this step; once more to stop at once", err=True)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class ProgressLine:
    """How far a run is, on stderr: one line that changes on a terminal, else a line now and then."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.terminal = sys.stderr.isatty()
        self.console: Any = None
        self.status: Any = None
        self.told, self.validation = 0.0, ""
        self.recent: deque[tuple[int, float]] = deque(maxlen=RECENT)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While the run goes on."""
        if not self.terminal:
            yield
            return
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)
        with self.console.status("Reading the data") as self.status:
            yield

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text) if self.console else click.echo(text, err=True)

    def row(self, row: Mapping[str, Any]) -> None:
        """Shows a line of metrics.jsonl."""
        self.recent.append((row["step"], row["seconds"]))
        line = progress_line(row, self.recipe.steps, self.left())
        if "validation_loss" in row:
            self.validation = f"  held out {row['validation_loss']:.3f}"
            self.say(f"{line}{self.validation}")
        elif self.status:
            self.status.update(f"{line}{self.validation}")
        elif time.monotonic() - self.told > EVERY:
            self.told = time.monotonic()
            self.say(line)

    def left(self) -> float | None:
        """Seconds until the end, by the last steps; the first one of a process is no measure."""
        (first, began), (last, now) = self.recent[0], self.recent[-1]
        return None if first == last else (self.recipe.steps - last) * (now - began) / (last - first)


def progress_line(row: Mapping[str, Any], steps: int, left: float | None) -> str:
    """step 120/400  loss 3.21  4,100 tokens/s  0.9 GiB  2:05 left."""
    line = (
        f"step {row['step']:,}/{steps:,}  loss {row['loss']:.3f}  {row['tokens_per_second']:,.0f} tokens/s  "
        f"{row['memory'] / 2**30:.1f} GiB"
    )
    return line if left is None else f"{line}  {duration(left)} left"


def duration(seconds: float) -> str:
    """2:05, or 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _write(trained: Trained, samples: int, seed: int) -> None:
    """Texts of the model, as they come."""
    from ..inference.generation import stream_text
    from ..inference.sampling import Sampler
    from ..inference.torch_runner import TorchRunner

    if trained.tokenizer is None:
        return
    runner = TorchRunner(trained.model)
    for k in range(samples):
        click.echo(click.style(f"--- sample {k + 1}", dim=True), err=True)
        sampler = Sampler(temperature=0.8, top_p=0.95, seed=seed + k)
        room = min(SAMPLE_TOKENS, trained.model.spec.context - 8)
        for _ in running.printed(stream_text(runner, trained.tokenizer, "\n", room, sampler, ())):
            pass
        click.echo()


def _outcome(trained: Trained) -> dict[str, Any]:
    progress, last = trained.progress, trained.rows[-1] if trained.rows else {}
    found = {"step": progress.step, "tokens": progress.tokens, "seconds": progress.seconds, "loss": last.get("loss")}
    return found | {"best_validation_loss": progress.best, "best_step": progress.best_step}


def _summary(trained: Trained) -> str:
    found = _outcome(trained)
    told = f"{found['step']:,} steps, {found['tokens']:,} tokens in {duration(found['seconds'])}"
    if found["best_validation_loss"] is not None:
        told += f"; held out {found['best_validation_loss']:.3f} at step {found['best_step']:,}"
    return told
