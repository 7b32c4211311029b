"""How fast a model runs, as a ratio to transformers.

Both hold the same weights and take turns within one run, since the speed of a machine drifts by more than two programs
differ: a ratio is the median, over the turns, of what both needed in the same turn.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from .. import __version__
from ..errors import InputError
from .torch_runner import TorchRunner
from .verify import reference_folder, reference_model

if TYPE_CHECKING:
    from torch import nn

    from ..nn import Decoder


class Engine(Protocol):
    """Something that reads a prompt and then one token at a time, and says which comes next."""

    name: str

    def prefill(self, prompt: Sequence[int], new: int) -> int:
        """The token after a prompt, with room for so many new ones; what came before is forgotten."""
        ...

    def decode(self, token: int) -> int:
        """The token after one more token."""
        ...


class Ours:
    """The torch models of this package."""

    name = "vitruvius"

    def __init__(self, model: Decoder) -> None:
        self._runner = TorchRunner(model)

    def prefill(self, prompt: Sequence[int], new: int) -> int:
        """See `Engine`."""
        self._state = self._runner.new_state(1, len(prompt) + new)
        return int(self._runner.feed([prompt], self._state).argmax())

    def decode(self, token: int) -> int:
        """See `Engine`."""
        return int(self._runner.feed([[token]], self._state).argmax())


class Transformers:
    """transformers, by its default attention and cache; without its `generate`, which would only add to its time."""

    name = "transformers"

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def prefill(self, prompt: Sequence[int], new: int) -> int:
        """See `Engine`."""
        self._cache: Any = None
        return self._read(prompt)

    def decode(self, token: int) -> int:
        """See `Engine`."""
        return self._read([token])

    def _read(self, ids: Sequence[int]) -> int:
        import torch

        with torch.inference_mode():
            rows = torch.tensor([ids])
            out = self._model(input_ids=rows, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache = out.past_key_values
        return int(out.logits[0, -1].argmax())


@dataclass(frozen=True)
class Turn:
    """What one engine reached in one turn, in tokens per second, and the tokens it wrote."""

    prefill_rate: float
    decode_rate: float
    written: tuple[int, ...]


@dataclass(frozen=True)
class Speed:
    """Tokens per second: the median of all turns. `ratio_…` is the median of the turns' ratios, ours ÷ this one's."""

    engine: str
    prefill: float
    decode: float
    ratio_prefill: float
    ratio_decode: float
    same_tokens: bool


@dataclass(frozen=True)
class Report:
    """A measurement, and all that it depends on."""

    model: str
    dtype: str
    prompt: int
    new: int
    turns: int
    threads: int
    processor: str
    cores: int
    load: float
    date: str
    versions: dict[str, str]
    speeds: tuple[Speed, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def bench(
    source: str | os.PathLike[str],
    prompt: int = 512,
    new: int = 64,
    turns: int = 5,
    dtype: str = "float32",
    threads: int | None = None,
    ignore: Sequence[str] = (),
    progress: Callable[[str], None] = lambda what: None,
) -> Report:
    """Measures prefill and decode at batch 1, ours and transformers' in turn, after one turn that is not counted.

    Args:
        source: anything with weights that `vitruvius.load` takes.
        prompt: tokens of the prompt, read at once.
        new: tokens that are then decoded one by one.
        turns: how many turns are counted.
        dtype: of the weights.
        threads: for PyTorch; its own choice, if None.
        progress: is told what is being done.

    Raises InputError where transformers is not installed, or the lengths do not fit the model.
    """
    import torch
    import transformers

    from ..models import load

    if min(prompt, new, turns) < 1:
        raise InputError(f"lengths and turns must be at least 1, got {prompt}, {new} and {turns}")
    if threads is not None:
        torch.set_num_threads(threads)
    load_before = os.getloadavg()[0]
    progress("loading")
    model = load(source, dtype=dtype, ignore=ignore)
    if prompt + new > model.spec.context:
        raise InputError(f"{prompt} + {new} tokens exceed the context of {model.spec.context:,}")
    kind = str(model.head.weight.dtype).removeprefix("torch.")
    with reference_folder(source, model) as folder:
        theirs = reference_model(folder, kind, attention="sdpa")
    ids = torch.randint(model.spec.embedding.vocab, (prompt,), generator=torch.Generator().manual_seed(0)).tolist()
    engines: list[Engine] = [Ours(model), Transformers(theirs)]
    taken: dict[str, list[Turn]] = {engine.name: [] for engine in engines}
    for turn in range(turns + 1):
        progress(f"turn {turn} of {turns}" if turn else "warming up")
        for engine in engines if turn % 2 else reversed(engines):
            taken[engine.name].append(_turn(engine, ids, new))
    return Report(
        model=model.spec.name,
        dtype=kind,
        prompt=prompt,
        new=new,
        turns=turns,
        threads=torch.get_num_threads(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        load=load_before,
        date=date.today().isoformat(),
        versions={
            "vitruvius": __version__,
            "transformers": transformers.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        speeds=tuple(_speed(name, turns[1:], taken[Ours.name][1:]) for name, turns in taken.items()),
    )


def _turn(engine: Engine, prompt: Sequence[int], new: int) -> Turn:
    started = perf_counter()
    written = [engine.prefill(prompt, new)]
    read = perf_counter()
    for _ in range(new):
        written.append(engine.decode(written[-1]))
    return Turn(len(prompt) / (read - started), new / (perf_counter() - read), tuple(written))


def _speed(name: str, turns: Sequence[Turn], ours: Sequence[Turn]) -> Speed:
    """The summary of an engine's turns beside ours."""
    return Speed(
        engine=name,
        prefill=median(turn.prefill_rate for turn in turns),
        decode=median(turn.decode_rate for turn in turns),
        ratio_prefill=median(own.prefill_rate / turn.prefill_rate for own, turn in zip(ours, turns, strict=True)),
        ratio_decode=median(own.decode_rate / turn.decode_rate for own, turn in zip(ours, turns, strict=True)),
        same_tokens=all(own.written == turn.written for own, turn in zip(ours, turns, strict=True)),
    )


def _processor() -> str:
    """The processor's name, as Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
