"""How fast a model runs, beside other engines with the same weights.

All take turns within one run, since the speed of a machine drifts by more than two programs differ: a ratio is the
median, over the turns, of what both reached in the same turn.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Literal, Protocol

import numpy as np

from .. import __version__
from ..errors import InputError
from ..native.library import processors
from .peers import LlamaCpp, Transformers, has_llama_cpp, quantized
from .request import Request
from .runner import Runner
from .scheduler import Scheduler

Kind = Literal["prefill", "decode", "batch"]

# our weight formats -> llama.cpp's, the nearest first
SAME: Mapping[str, tuple[str, ...]] = {"f32": ("F32",), "bf16": ("BF16",), "q8": ("Q8_0",), "q4": ("Q4_1", "Q4_0")}
DTYPES = {"f32": "float32", "bf16": "bfloat16"}  # our weight formats -> PyTorch's


class Contender(Protocol):
    """Something that reads a prompt and then one token at a time, and says which comes next."""

    name: str

    def prefill(self, prompt: Sequence[int], new: int) -> int:
        """The token after a prompt, with room for so many new ones; what came before is forgotten."""
        ...

    def decode(self, token: int) -> int:
        """The token after one more token."""
        ...


class Ours:
    """A model of this package, native or of torch, as requests run on it."""

    def __init__(self, name: str, runner: Runner) -> None:
        self.name, self.runner = name, runner

    def prefill(self, prompt: Sequence[int], new: int) -> int:
        """See `Contender`."""
        return self.prefill_rows([prompt], new)[0]

    def decode(self, token: int) -> int:
        """See `Contender`; what it has chosen itself comes before."""
        return self.decode_rows()[0]

    def prefill_rows(self, prompts: Sequence[Sequence[int]], new: int) -> list[int]:
        """The same for several prompts at once."""
        self._scheduler = Scheduler(self.runner)
        most = new + len(prompts)  # those that are read first write while the others are read
        self._rows = [self._scheduler.add(Request(ids=ids, max_new_tokens=most, eos=())) for ids in prompts]
        while not all(completion.tokens for completion in self._rows):
            self._scheduler.step()
        return [completion.tokens[0].id for completion in self._rows]

    def decode_rows(self) -> list[int]:
        """The same for several sequences at once."""
        self._scheduler.step()
        return [completion.tokens[-1].id for completion in self._rows]


@dataclass(frozen=True)
class Measure:
    """What is timed: the prefill of `tokens`; tokens one by one after `tokens` have been read; the same for several
    sequences (`rows`) in one step."""

    kind: Kind
    tokens: int
    rows: int = 1

    @property
    def title(self) -> str:
        """As a heading."""
        return {"prefill": f"prefill {self.tokens:,}", "decode": f"decode at {self.tokens:,}"}.get(
            self.kind, f"{self.rows} sequences at {self.tokens:,}"
        )


@dataclass(frozen=True)
class Speed:
    """What an engine reached: `rate` is tokens per second, the median of all turns; `ratio` the median of the turns'
    ratios, ours ÷ this one's; `bandwidth` the share of the memory's read bandwidth that its weights and state came
    with, where that is known."""

    engine: str
    measure: Measure
    rate: float
    ratio: float
    bandwidth: float | None = None


@dataclass(frozen=True)
class Report:
    """A measurement, and all that it depends on. `read_bandwidth` is in bytes/s."""

    model: str
    weights: str
    new: int
    turns: int
    threads: int
    processor: str
    cores: int
    load: float
    date: str
    versions: dict[str, str]
    read_bandwidth: float | None
    same_tokens: dict[str, bool]
    speeds: tuple[Speed, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Lengths:
    """What is measured: prompts of these lengths, decoding of `new` tokens after these contexts, and the same for
    `batch` sequences at once (1: not measured)."""

    prompts: tuple[int, ...] = (512, 2048)
    contexts: tuple[int, ...] = (128, 2048)
    new: int = 128
    batch: int = 1

    @property
    def longest(self) -> int:
        """The most tokens of a sequence."""
        return max((*self.prompts, *(context + self.new for context in self.contexts)))

    @property
    def measures(self) -> list[Measure]:
        """All that is timed."""
        measures = [Measure("prefill", n) for n in self.prompts] + [Measure("decode", n) for n in self.contexts]
        return measures + [Measure("batch", min(self.contexts), self.batch)] * (self.batch > 1)

    def within(self, context: int) -> Lengths:
        """Those that the model is made for. Raises InputError if none is."""
        prompts = tuple(n for n in self.prompts if n < context)
        contexts = tuple(n for n in self.contexts if n + self.new <= context)
        if not prompts or not contexts:
            raise InputError(f"the model's context is {context:,}: {self.longest:,} tokens exceed it")
        return Lengths(prompts, contexts, self.new, self.batch)


def bench(
    source: str | os.PathLike[str],
    engine: str = "auto",
    weights: str = "as-is",
    lengths: Lengths = Lengths(),
    turns: int = 7,
    threads: int | None = None,
    against: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    progress: Callable[[str], None] = lambda what: None,
) -> Report:
    """Measures ours and the peers in turn, after one turn that is not counted.

    Args:
        source: anything with weights that `vitruvius.load` takes.
        engine: "native", "torch", or "auto" for native where it can run.
        weights: the format: "as-is", "f32", "bf16", "q8" or "q4"; torch runs the first three.
        lengths: what is measured.
        turns: how many turns are counted.
        threads: of every engine; as many as there are processors, if None.
        against: of "torch", "transformers" and "llama.cpp"; if None, all that are installed, can read these weights and
            hold them as precisely.
        progress: is told what is being done.

    Raises InputError where an engine is not installed, or the lengths do not fit the model.
    """
    if min(*lengths.prompts, *lengths.contexts, lengths.new, lengths.batch, turns) < 1:
        raise InputError("lengths, batch and turns must be at least 1")
    threads = threads or len(processors())
    before = os.getloadavg()[0]
    progress("loading")
    with ExitStack() as stack:
        ours = _ours(source, engine, weights, threads, ignore)
        lengths = lengths.within(ours.runner.spec.context)
        peers = _peers(ours, source, weights, lengths, threads, against, ignore, stack)
        ids = np.random.default_rng(0).integers(ours.runner.spec.embedding.vocab, size=lengths.longest).tolist()
        taken: dict[tuple[str, Measure], list[float]] = defaultdict(list)
        written: dict[str, list[int]] = {}
        bandwidths: list[float] = []
        for turn in range(turns + 1):
            progress(f"turn {turn} of {turns}" if turn else "warming up")
            if (probe := getattr(ours.runner, "bandwidth", None)) and turn:
                bandwidths.append(probe())
            everyone: list[Contender] = [ours, *peers]
            for each in everyone if turn % 2 else reversed(everyone):
                tokens = written[each.name] = []
                for measure, rate in _turn(each, ids, lengths, tokens):
                    if turn:
                        taken[each.name, measure].append(rate)
    bandwidth = median(bandwidths) if bandwidths else None
    return Report(
        model=ours.runner.spec.name,
        weights=weights,
        new=lengths.new,
        turns=turns,
        threads=threads,
        processor=_processor(),
        cores=os.cpu_count() or 1,
        load=before,
        date=date.today().isoformat(),
        versions=_versions([each.name for each in everyone]),
        read_bandwidth=bandwidth,
        same_tokens={each.name: written[each.name] == written[ours.name] for each in everyone},
        speeds=tuple(
            _speed(ours, each.name, measure, taken, bandwidth)
            for each in everyone
            for measure in lengths.measures
            if (each.name, measure) in taken
        ),
    )


def _ours(source: str | os.PathLike[str], engine: str, weights: str, threads: int, ignore: Sequence[str]) -> Ours:
    """The engine that is asked for, with the weights."""
    if engine != "torch":
        from .native import engine as native

        try:
            return Ours(f"vitruvius native {weights}", native(source, weights, threads, ignore=ignore))
        except InputError:
            if engine == "native" or find_spec("torch") is None:
                raise
    return _torch(source, weights, threads, ignore)


def _torch(source: str | os.PathLike[str], weights: str, threads: int, ignore: Sequence[str]) -> Ours:
    import torch

    from ..models import load
    from .torch_runner import TorchRunner

    if weights not in ("as-is", *DTYPES):
        raise InputError(f"the torch models have no {weights} weights: take f32, bf16 or as-is")
    torch.set_num_threads(threads)
    dtype = DTYPES.get(weights, "float32")
    return Ours(f"vitruvius torch {dtype}", TorchRunner(load(source, dtype=dtype, ignore=ignore)))


def _peers(
    ours: Ours,
    source: str | os.PathLike[str],
    weights: str,
    lengths: Lengths,
    threads: int,
    against: Sequence[str] | None,
    ignore: Sequence[str],
    stack: ExitStack,
) -> list[Contender]:
    """The engines to be measured beside ours."""
    from ..checkpoints.sources import weights as place

    path = place(source)
    if against is None:
        precise = weights in DTYPES
        possible = {
            "torch": False,
            "transformers": precise and find_spec("transformers") is not None and find_spec("torch") is not None,
            "llama.cpp": path.is_file() and has_llama_cpp(),
        }
        against = [name for name, can in possible.items() if can]
    peers: list[Contender] = []
    for name in against:
        if name == "torch":
            peers.append(_torch(source, weights, threads, ignore))
        elif name == "transformers":
            peers.append(_transformers(source, weights, threads, ignore))
        elif name == "llama.cpp":
            peers += _llama_cpp(path, weights, lengths, threads, stack)
        else:
            raise InputError(f"there is no engine {name!r} to compare with: take torch, transformers or llama.cpp")
    return peers


def _transformers(source: str | os.PathLike[str], weights: str, threads: int, ignore: Sequence[str]) -> Transformers:
    import torch

    from ..models import load
    from .verify import reference_folder, reference_model

    torch.set_num_threads(threads)
    dtype = DTYPES.get(weights, "float32")
    with reference_folder(source, lambda: load(source, dtype=dtype, ignore=ignore)) as folder:
        return Transformers(reference_model(folder, dtype, attention="sdpa", experts=None))


def _llama_cpp(path: Path, weights: str, lengths: Lengths, threads: int, stack: ExitStack) -> Iterator[LlamaCpp]:
    """llama.cpp with the weights as they are, or with each of its formats that is like ours."""
    if not path.is_file():
        raise InputError(f"{path}: llama.cpp reads GGUF files; give one to compare with it")
    if weights == "as-is":
        files = [path]
    else:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vitruvius-")))
        files = [quantized(path, kind, folder) for kind in SAME[weights]]
    for file in files:
        peer = LlamaCpp(file, context=lengths.longest, threads=threads)
        stack.callback(peer.close)
        yield peer


def _turn(
    engine: Contender, ids: Sequence[int], lengths: Lengths, written: list[int]
) -> Iterator[tuple[Measure, float]]:
    """Tokens per second of everything that is measured, once; the tokens it writes go to `written`."""
    for length in sorted({*lengths.prompts, *lengths.contexts}):
        started = perf_counter()
        token = engine.prefill(ids[:length], lengths.new)
        if length in lengths.prompts:
            yield Measure("prefill", length), length / (perf_counter() - started)
        written.append(token)
        if length in lengths.contexts:
            started = perf_counter()
            for _ in range(lengths.new):
                token = engine.decode(token)
                written.append(token)
            yield Measure("decode", length), lengths.new / (perf_counter() - started)
    if lengths.batch > 1 and isinstance(engine, Ours):
        length = min(lengths.contexts)
        engine.prefill_rows([ids[:length]] * lengths.batch, lengths.new)
        started = perf_counter()
        for _ in range(lengths.new):
            engine.decode_rows()
        rate = lengths.batch * lengths.new / (perf_counter() - started)
        yield Measure("batch", length, lengths.batch), rate


def _speed(
    ours: Ours, name: str, measure: Measure, taken: Mapping[tuple[str, Measure], list[float]], bandwidth: float | None
) -> Speed:
    """The summary of an engine's turns beside ours."""
    rates = taken[name, measure]
    rate = median(rates)
    own = taken.get((ours.name, measure), rates)
    share = None
    if bandwidth and name == ours.name and measure.kind == "decode":
        reads: Callable[[int], int] | None = getattr(ours.runner, "bytes_per_token", None)
        share = reads(measure.tokens) * rate / bandwidth if reads else None
    return Speed(name, measure, rate, median(a / b for a, b in zip(own, rates, strict=True)), share)


def _versions(engines: Sequence[str]) -> dict[str, str]:
    """Of all that took part."""
    packages = {"transformers": ["transformers", "torch"], "llama.cpp": ["llama-cpp-python"]}
    packages["vitruvius"] = ["torch"] if any("torch" in name for name in engines) else []
    found = {"vitruvius": __version__, "python": platform.python_version(), "numpy": np.__version__}
    for name in engines:
        found |= {package: version(package) for package in packages[name.split()[0]]}
    return found


def _processor() -> str:
    """The processor's name, as Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
