"""This machine as a device: a short run that measures how fast it multiplies matrices and reads memory.

The peak is the best of a few products of float32 matrices by numpy's BLAS, on all processors that this process may
use; narrower dtypes have no product in numpy and are taken to be as fast. The bandwidth is that of reading arrays much
larger than the caches, one for each processor at the same time. Both are kept in the user's cache directory with their
date, and measured again when the processor or the number of processors is another, or on request.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from .device import THIS_MACHINE, Device

SIZE = 1536  # of the square matrices: large enough for BLAS to be at its best, small enough for a tenth of a second
READ = 1 << 26  # bytes that each processor reads
RUNS = 5


@dataclass(frozen=True)
class Measured:
    """What was measured, where and when (UTC)."""

    processor: str
    processors: int
    flops: float
    bandwidth: float
    date: str


def this_machine(again: bool = False) -> Device:
    """This machine, from the cache where it was measured before; `again` measures anew."""
    found = None if again else _kept()
    if found is None:
        found = measure()
        _keep(found)
    source = f"measured on {found.date} with numpy {np.__version__}, {RUNS} runs; kept in {cache_file()}"
    return Device(
        name=THIS_MACHINE,
        title=f"{found.processor}, {found.processors} processors",
        vendor="",
        kind="cpu",
        peaks={"f32": found.flops},
        bandwidth=found.bandwidth,
        capacity=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        sources={"peaks": source, "bandwidth": source, "capacity": "the operating system"},
    )


def measure() -> Measured:
    """Runs for about a second."""
    threads = _processors()
    a, b = np.random.default_rng(0).standard_normal((2, SIZE, SIZE), dtype=np.float32)
    seconds = _best(lambda: np.matmul(a, b))
    arrays = [np.ones(READ // 4, dtype=np.float32) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        reading = _best(lambda: list(pool.map(np.max, arrays)))
    today = datetime.now(UTC).isoformat(timespec="seconds")
    return Measured(_processor(), threads, 2 * SIZE**3 / seconds, threads * READ / reading, today)


def cache_file() -> Path:
    """Where the measurement is kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "vitruvius" / "this-machine.json"


def _best(run: Callable[[], object]) -> float:
    """Seconds of the fastest of `RUNS` runs, after one that does not count."""
    run()
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _kept() -> Measured | None:
    """What was measured before on this processor; None if that is not there or not usable."""
    try:
        found = Measured(**json.loads(cache_file().read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    numbers = all(isinstance(value, float) and value > 0 for value in (found.flops, found.bandwidth))
    same = (found.processor, found.processors) == (_processor(), _processors())
    return found if numbers and same else None


def _keep(found: Measured) -> None:
    """Writes beside the file and renames; a cache that cannot be written is no error."""
    path = cache_file()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(asdict(found)), "utf-8")
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)


def _processor() -> str:
    """What the system calls the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _processors() -> int:
    """How many this process may use, or, where the system does not tell, how many there are."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
