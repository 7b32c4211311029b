"""A run's folder: run.yaml, environment.json, metrics.jsonl, checkpoints/, tokenizer/, export/.

Everything is written beside its target and renamed, so a run that is killed, or whose disk is full, has whole files and
its previous checkpoint.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..checkpoints.files import write_whole
from ..errors import InputError
from .recipe import Recipe, of_yaml

CHANGEABLE = {"out", "steps", "resume", "log_every", "eval_every", "eval_batches", "save_every", "keep", "accumulate"}
CHANGEABLE |= {"checkpointing", "compile", "device", "tracker", "profile", "parallel", "clip", "lr", "min_lr", "warmup"}
CHANGEABLE |= {"schedule", "decay", "weight_decay", "beta1", "beta2", "z_loss"}
STEP = "step-{:08d}"


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Args:
        step: of the optimiser, done.
        tokens: that were read.
        seconds: that it took, also before it was stopped.
        best, best_step: the lowest loss on held-out text, and when; None before there is one.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int | None = None


class Folder:
    """The files of a run. Of several processes one `leads`: the others write nothing but their part of checkpoints, and
    call the same. Raises InputError where there is a run already that is not to be resumed, or none that is."""

    def __init__(self, path: str | os.PathLike[str], resume: bool, leads: bool = True) -> None:
        self.leads = leads
        self.path = Path(path).expanduser()
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"
        if not leads:
            return
        begun = (self.path / "run.yaml").exists()
        if resume and not begun:
            raise InputError(f"resume: {self.path} holds no run")
        if begun and not resume:
            raise InputError(f"out: {self.path} holds a run: go on with it by resume=true, or take another folder")

    def begin(self, recipe: Recipe, facts: Mapping[str, Any]) -> None:
        """Makes the folder and writes what is run, and where. Of a run that goes on, checks that it is the same.

        Raises InputError for keys that cannot change and have, for other data, and where it cannot be written.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"out: {self.path} cannot be made ({error.strerror})") from None
        if not self.leads:
            return
        file = self.path / "environment.json"
        if (self.path / "run.yaml").exists():
            self._same(recipe, facts, json.loads(file.read_text("utf-8")) if file.exists() else {})
        import yaml

        self.write("environment.json", json.dumps({**environment(), **facts}, indent=2) + "\n")
        resolved = {key: value for key, value in asdict(recipe).items() if key != "resume"}
        self.write("run.yaml", yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True))

    def _same(self, recipe: Recipe, facts: Mapping[str, Any], before: Mapping[str, Any]) -> None:
        old = read_yaml(self.path / "run.yaml")
        for key, value in asdict(recipe).items():
            if key not in CHANGEABLE and key in old and old[key] != value:
                raise InputError(f"resume: {key} was {old[key]!r} in {self.path}, and is {value!r} now: leave it out")
        if before.get("data_sha256") != facts.get("data_sha256"):
            raise InputError(f"resume: the data are not those that {self.path} began with")

    def write(self, name: str, text: str) -> None:
        """Writes a file, whole or not at all. Raises InputError where that cannot be."""
        write_whole(self.path / name, text)

    # -------------------------------------------------------------- metrics

    def log(self, row: Mapping[str, Any]) -> None:
        """Adds a line to metrics.jsonl."""
        if not self.leads:
            return
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise InputError(f"{self.metrics}: cannot be written ({error.strerror}); {self.state()}") from None

    def rows(self) -> list[dict[str, Any]]:
        """All lines that are whole: the last may be cut where a run was killed."""
        if not self.metrics.exists():
            return []
        found = []
        for line in self.metrics.read_text("utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def back_to(self, step: int) -> list[dict[str, Any]]:
        """Forgets what metrics.jsonl says of later steps, which are run again. Returns the rest."""
        rows = [row for row in self.rows() if row["step"] <= step]
        if self.leads:
            self.write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        return rows

    # -------------------------------------------------------------- checkpoints

    def steps(self) -> list[int]:
        """Of the whole checkpoints, in order."""
        names = [path.name for path in self.checkpoints.glob("step-*") if path.name[5:].isdigit()]
        return sorted(int(name[5:]) for name in names)

    def checkpoint(self, step: int) -> Path:
        """Where that of a step is."""
        return self.checkpoints / STEP.format(step)

    def progress(self, step: int) -> Progress:
        """How far the run was then."""
        return Progress(**json.loads((self.checkpoint(step) / "progress.json").read_text("utf-8")))

    def save(self, state: dict[str, Any], progress: Progress, keep: int) -> None:
        """Writes a checkpoint, and removes those beyond the last `keep` and the best.

        Raises InputError where the disk is full or cannot be written: the previous checkpoint stays.
        """
        from torch import distributed
        from torch.distributed import checkpoint as dcp

        target = self.checkpoint(progress.step)
        beside = target.with_name(f".{target.name}")
        several = distributed.is_initialized()
        if self.leads:
            shutil.rmtree(beside, ignore_errors=True)
        try:
            with _alone():
                dcp.save(state, checkpoint_id=beside, no_dist=not several)
            if not self.leads:
                distributed.barrier()
                return
            (beside / "progress.json").write_text(json.dumps(asdict(progress)), "utf-8")
            shutil.rmtree(target, ignore_errors=True)
            beside.replace(target)
        except (Exception, dcp.CheckpointException) as error:  # which is no Exception, and holds what the system says
            shutil.rmtree(beside, ignore_errors=True)
            told = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
            if "unexpected pos" in told:  # what PyTorch says where a file ends too early
                told = "is the disk full?"
            raise InputError(f"{target}: the checkpoint cannot be written ({told}); {self.state()}") from None
        last = self.steps()[-keep:]
        for step in self.steps():
            if step not in last and step != progress.best_step:
                shutil.rmtree(self.checkpoint(step))
        if several:
            distributed.barrier()

    def load(self, state: dict[str, Any], step: int) -> None:
        """Fills the tensors of a state with those of a checkpoint. Raises InputError where it is damaged or of another
        model."""
        from torch import distributed
        from torch.distributed import checkpoint as dcp

        try:
            with _alone():
                dcp.load(state, checkpoint_id=self.checkpoint(step), no_dist=not distributed.is_initialized())
        except (Exception, dcp.CheckpointException) as error:  # which is no Exception; it has many kinds for damage
            told = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
            raise InputError(f"{self.checkpoint(step)}: the checkpoint cannot be loaded ({told})") from None

    def state(self) -> str:
        """What there is to go on with."""
        steps = self.steps()
        return f"the last checkpoint is {self.checkpoint(steps[-1])}" if steps else "there is no checkpoint yet"


@contextmanager
def _alone() -> Iterator[None]:
    """Without the warning of `torch.distributed.checkpoint` that there is one process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is", UserWarning)
        yield


def read_yaml(path: Path) -> dict[str, Any]:
    """A run.yaml. Raises InputError where it is damaged."""
    try:
        found = of_yaml(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from None
    return found if isinstance(found, dict) else {}


def environment() -> dict[str, Any]:
    """What a run depends on besides its recipe."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "vitruvius": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
    }
