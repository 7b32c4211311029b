"""Hostile inputs to the native engine, built with the sanitizers for addresses and undefined behaviour.

    python tests/fuzz.py --inputs 100000

Every input must be refused with an error, or run to its end: none may crash, hang, or raise anything but InputError.
They are of four kinds, each input known by its number, so that `--kind plan --first 1234 --inputs 1` runs one again:

    plan     real plans of all tiny models, changed in one to four places; then steps, some of them wrong too
    random   plans of random ops
    pack     packing, unpacking and products with wrong sizes, formats and kinds, and any bits as weights
    file     GGUF and safetensors files with wrong headers, configs and tensors, through `vitruvius.engine`

A child process runs them with the sanitizers' runtimes loaded; when it dies, or is busy with one input for too long,
what it said is kept beside the library, and another child goes on with the next input.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHARES = {"plan": 0.6, "random": 0.15, "pack": 0.15, "file": 0.1}  # of all inputs
LONGEST = 60  # seconds for one input
MOST_FAILURES = 20
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=256",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


# ---------------------------------------------------------------- the child


def inputs(kind: str, library: Path, folder: Path) -> Callable[[int], Counter[str]]:
    """What runs an input, and tells what was done; nothing if it was refused at once."""
    from vitruvius.native import library as native

    if kind == "file":
        from hostile import files

        native.FOLDER = library.parent  # where vitruvius.engine looks for it
        assert native.library() is not None
        return lambda number: files.run(folder, random.Random(f"file {number}"))
    from hostile import engines, packing, plans

    found = native.Library(library)
    if kind == "pack":
        return lambda number: packing.run(found, random.Random(f"pack {number}"))
    drafts = plans.Drafts(found)

    def one(number: int) -> Counter[str]:
        chance = random.Random(f"{kind} {number}")
        return engines.accepted(found, engines.draft_of(drafts, kind, chance), chance)

    return one


def child(kind: str, first: int, last: int, library: Path) -> None:
    """Runs the inputs and says of each what was done, as JSON."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        run = inputs(kind, library, Path(folder))
        for number in range(first, last):
            print(number, json.dumps(run(number)), flush=True)


# ---------------------------------------------------------------- the parent


class Watched:
    """A child, and what it says."""

    def __init__(self, kind: str, first: int, last: int, library: Path) -> None:
        command = [sys.executable, __file__, "--child", "--kind", kind, "--first", str(first)]
        command += ["--inputs", str(last - first), "--library", str(library)]
        preload = [f"{_runtime(name)}" for name in ("libasan.so", "libubsan.so", "libstdc++.so.6")]
        more = SANITIZERS | {"LD_PRELOAD": " ".join(preload), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        more["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the child
        self.process = subprocess.Popen(
            command, env=os.environ | more, stdout=subprocess.PIPE, stderr=self.said, text=True
        )
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def results(self) -> Iterator[tuple[int, Counter[str]]]:
        """The inputs as they are finished; ends when the child does, or is killed because it takes too long."""
        left = longest = 5 * LONGEST  # with what comes before the first
        while left:
            try:
                line = self.lines.get(timeout=1)  # one second after the other: both may have been stopped for a while
            except queue.Empty:
                left -= 1
                continue
            if line is None:
                return
            number, done = line.split(maxsplit=1)
            yield int(number), Counter(json.loads(done))
            left = longest = LONGEST
        self.process.kill()
        self.said.write(f"\nno answer for {longest} seconds\n")

    def report(self) -> str:
        """What it said, once it has ended."""
        self.process.wait()
        self.said.seek(0)
        return self.said.read()


def _runtime(name: str) -> str:
    """The path of a library of the compiler."""
    from vitruvius.native import build

    found = subprocess.run([build.compiler(), f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def watch(kind: str, first: int, last: int, library: Path) -> Counter[str]:
    """Runs the inputs first … last − 1 in children; how many were accepted, refused, and failed."""
    counts: Counter[str] = Counter()
    done: Counter[str] = Counter()
    started = time.monotonic()
    while first < last and counts["failed"] < MOST_FAILURES:
        watched = Watched(kind, first, last, library)
        for number, one in watched.results():
            counts["accepted" if one else "refused"] += 1
            done += one
            first = number + 1
            if first % 5000 == 0:
                print(f"{kind} {first:,} …", flush=True)
        report = watched.report()
        if first < last:
            kept = library.with_name(f"{kind}-{first}.txt")
            kept.write_text(report)
            print(f"{kind} {first} FAILED: see {kept}", flush=True)
            counts["failed"] += 1
            first += 1
    print(
        f"{kind:8}{sum(counts.values()):9,} inputs: {counts['accepted']:,} accepted and run, "
        f"{counts['refused']:,} refused, {counts['failed']:,} failed; {time.monotonic() - started:.0f} s\n"
        f"{'':8}{', '.join(f'{name} {count:,}' for name, count in sorted(done.items()))}",
        flush=True,
    )
    return counts


def built(library: Path | None) -> Path:
    """The library with the sanitizers, in a folder of its own; built anew unless it is given."""
    from vitruvius.native import build

    if library is not None:
        return library
    folder = ROOT / "out" / "fuzz"
    shutil.rmtree(folder, ignore_errors=True)
    print("building with the sanitizers …", flush=True)
    return build.build(folder / "libvitruvius.so", sanitize=True, only=("plain", "naive"))


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kind", choices=SHARES)
    parser.add_argument(
        "--library", type=Path, help="one that has been built with sanitize=True, in a folder of its own"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        return child(asked.kind, asked.first, asked.first + asked.inputs, asked.library)
    library = built(asked.library)
    shares = {asked.kind: 1.0} if asked.kind else SHARES
    counts: Counter[str] = Counter()
    for kind, share in shares.items():
        counts += watch(kind, asked.first, asked.first + round(share * asked.inputs), library)
    print(f"{sum(counts.values()):,} inputs, {counts['failed']:,} failed")
    return sys.exit(1) if counts["failed"] else None


if __name__ == "__main__":
    main()
