"""Where else the metrics of a run go: TensorBoard, trackio, Weights & Biases. metrics.jsonl has all of them anyway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from ..errors import InputError
from .recipe import Recipe

PROJECT = "vitruvius"


class Tracker(Protocol):
    """What a run tells its metrics to."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Takes a line of metrics.jsonl."""
        ...

    def finish(self) -> None:
        """Ends the run there."""
        ...


class Nowhere:
    """No tracker."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Does nothing."""

    def finish(self) -> None:
        """Does nothing."""


class Board:
    """Event files that TensorBoard shows: `tensorboard --logdir runs`."""

    def __init__(self, folder: Path) -> None:
        writer = _module("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self.writer = writer(log_dir=str(folder / "tensorboard"))

    def log(self, row: Mapping[str, Any]) -> None:
        """A scalar for each number."""
        for key, value in row.items():
            if key != "step":
                self.writer.add_scalar(key, value, row["step"])

    def finish(self) -> None:
        """Closes the file."""
        self.writer.close()


class WebTracker:
    """trackio and wandb, which have the same functions."""

    def __init__(self, name: str, recipe: Recipe, folder: Path) -> None:
        self.module = _module(name, name)
        self.module.init(project=PROJECT, name=folder.name, config=asdict(recipe))

    def log(self, row: Mapping[str, Any]) -> None:
        """The row at its step."""
        self.module.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])

    def finish(self) -> None:
        """Waits until all is sent."""
        self.module.finish()


def tracker(recipe: Recipe, folder: Path | None) -> Tracker:
    """The recipe's tracker. Raises InputError where its package is not installed."""
    if recipe.tracker is None or folder is None:
        return Nowhere()
    return Board(folder) if recipe.tracker == "tensorboard" else WebTracker(recipe.tracker, recipe, folder)


def _module(name: str, package: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise InputError(f"tracker: {package} is not installed: pip install {package}") from None
