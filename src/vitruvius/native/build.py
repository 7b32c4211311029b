"""Compiles the native engine: `python -m vitruvius.native.build`.

cpp/sets/*.cpp and cpp/ops/*.cpp (or cpp/naive/*.cpp) are compiled once for each instruction set of the machine's
architecture, the other files once; as many at the same time as there are processors, and the finished library is
renamed to its place.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import InputError

SOURCES = Path(__file__).parent / "cpp"
TARGET = Path(__file__).parent / "_lib" / "libvitruvius.so"

FLAGS = "-std=c++17 -fPIC -fvisibility=hidden -ffp-contract=off -Wall -Wextra".split()
FAST = "-O3".split()
SANITIZE = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer".split()

AVX2 = "-mavx2 -mfma -mf16c".split()
# GCC 12 warns of its own headers' AVX-512 functions (its bug 105593).
AVX512 = [*AVX2, *"-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512bf16 -Wno-uninitialized".split()]
AVX512 += "-mprefer-vector-width=512 -Wno-maybe-uninitialized".split()
# Architecture -> its instruction sets, the best first, with what the compiler must be told.
ANY: dict[str, list[str]] = {"plain": [], "naive": []}
SETS: dict[str, dict[str, list[str]]] = {
    "x86_64": {"avx512": AVX512, "avx2": AVX2, **ANY},
    "aarch64": {"dotprod": ["-march=armv8.2-a+dotprod"], "neon": [], **ANY},
}
SAME = {"amd64": "x86_64", "arm64": "aarch64"}


def compiler() -> str:
    """The C++ compiler: $CXX, or the first of c++, g++ and clang++ on the path. Raises InputError without one."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in names:
        if found := shutil.which(name):
            return found
    raise InputError(f"no C++ compiler found (looked for {', '.join(names)}); install one, or name it in CXX")


def sources(name: str) -> list[Path]:
    """The files that are compiled for the instruction set of that name."""
    ops = "naive" if name == "naive" else "ops"
    return sorted(path for folder in ("sets", ops) for path in SOURCES.glob(f"{folder}/*.cpp"))


def build(
    target: Path = TARGET,
    *,
    sanitize: bool = False,
    machine: str | None = None,
    cxx: str | None = None,
    flags: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
) -> Path:
    """Compiles the library to `target`.

    Args:
        target: the file to write; it appears only when it is complete.
        sanitize: with the sanitizers for addresses and undefined behaviour.
        machine: the architecture to compile for, by default this one's; another needs a `cxx` for it.
        cxx: the compiler, by default `compiler()`.
        flags: more flags for every compilation.
        only: the instruction sets, if not all of that architecture.

    Raises:
        InputError: there is no compiler, or it fails; with its first error.
    """
    cxx = cxx or compiler()
    machine = (machine or platform.machine()).lower()
    sets = SETS.get(SAME.get(machine, machine), ANY)
    common = [cxx, *FLAGS, *(SANITIZE if sanitize else FAST), *flags]
    sets = {name: sets[name] for name in only or sets}
    common.append("-DVT_SETS(S)=" + " ".join(f"S({name})" for name in sets))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        jobs = [
            ([*common, *told, f"-DVT_ISA={name}"], path, Path(folder, f"{name}_{path.stem}.o"))
            for name, told in sets.items()
            for path in sources(name)
        ]
        jobs += [(common, path, Path(folder, path.stem + ".o")) for path in sorted(SOURCES.glob("*.cpp"))]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda job: _compile(*job), jobs))
        linked = Path(folder, target.name)
        _run([*common, "-shared", "-pthread", *map(str, objects), "-o", str(linked)])
        os.replace(linked, target)
    return target


def _compile(command: list[str], source: Path, result: Path) -> Path:
    _run([*command, "-c", str(source), "-o", str(result)])
    return result


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(f"the C++ compiler {command[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines()]
        first = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no message")
        raise InputError(f"compiling the native engine with {command[0]} failed: {first}")


if __name__ == "__main__":
    try:
        print(build())
    except InputError as error:
        sys.exit(f"vitruvius: {error}")
