"""The native engine's matrix products: decoding against the memory's bandwidth, prefill against torch, in turn.

    python benchmarks/native_matmul.py [--decode] [--batch 1] [--prefill] [--rows 256] [--threads 2]
                                       [--simd avx512 avx2] [--formats f32 bf16 q8 q4m] [--turns 7] [--best] [--json]

Shapes are SmolLM2-135M's: q, k and v (960, 576), attention's output (576, 576), gate and up (3072, 576), down (576,
1536), the head (49152, 576). Decoding multiplies --batch rows with so many copies of a matrix that none stays in a
cache; a read of the same memory with the same threads is the limit, and the share of its bandwidth is printed. Prefill
multiplies --rows rows with one matrix; torch.nn.functional.linear in float32 does the same. Medians of the turns; with
--best the fastest turn of each, which is what to look at while other programs use the processor.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from vitruvius.native import library as native
from vitruvius.native.formats import FORMATS, FROM_FLOATS

SHAPES = {"qkv": (960, 576), "o": (576, 576), "gate+up": (3072, 576), "down": (576, 1536), "head": (49152, 576)}
STREAMED = 256 << 20  # bytes of copies: beyond any cache


class Packed:
    """Copies of a random matrix in a format, in the library's memory."""

    def __init__(self, library: native.Library, format_: str, rows: int, cols: int, least_bytes: int) -> None:
        self.library, code = library, FORMATS.index(format_)
        size, panel = (library.get("vt_packed_bytes", code, n, cols) for n in (rows, 16))
        copies = max(1, least_bytes // size)
        self.bytes, self.address = size * copies, library.get("vt_alloc", size * copies)
        if format_ in FROM_FLOATS:
            w = (np.random.default_rng(0).standard_normal((rows, cols)) * 0.05).astype(np.float32)
            library.call("vt_pack", code, rows, cols, b"F32", w.ctypes.data, w.nbytes, self.address, size, panel)
        else:
            ctypes.memset(self.address, 0x2A, size)  # a scale of 0.05, as a float16
        for copy in range(1, copies):
            ctypes.memmove(self.address + copy * size, self.address, size)
        self.matrix = native.CMatrix(code, rows, cols, copies, self.address, self.bytes)

    def free(self) -> None:
        self.library.get("vt_free", self.address, self.bytes)

    def multiply(self, n: int, simd: str, threads: int) -> Callable[[], float]:
        """A function that multiplies n rows with every copy, and returns its seconds."""
        x = np.random.default_rng(1).standard_normal((n, self.matrix.cols)).astype(np.float32)
        y = np.ones((n, self.matrix.rows), np.float32)

        def run() -> float:
            seconds = ctypes.c_double()
            at = (ctypes.byref(self.matrix), x.ctypes.data, n, y.ctypes.data, simd.encode(), threads, 1)
            self.library.call("vt_matmul", *at, ctypes.byref(seconds))
            return seconds.value

        return run

    def read(self, simd: str, threads: int) -> Callable[[], float]:
        """A function that reads the memory once, and returns its seconds."""

        def run() -> float:
            seconds = ctypes.c_double()
            self.library.call("vt_read", self.address, self.bytes, simd.encode(), threads, ctypes.byref(seconds))
            return seconds.value

        return run


def torch_linear(rows: int, cols: int, n: int) -> Callable[[], float]:
    x, w = torch.randn(n, cols), torch.randn(rows, cols)

    def run() -> float:
        start = time.perf_counter()
        torch.nn.functional.linear(x, w)
        return time.perf_counter() - start

    return run


def in_turn(runs: Sequence[Callable[[], float]], turns: int, best: bool) -> list[float]:
    """The seconds of each, from turns in which all take part."""
    for run in runs:
        run()
    times = list(zip(*([run() for run in runs] for _ in range(turns)), strict=True))
    return [min(t) if best else statistics.median(t) for t in times]


def decode(library: native.Library, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """GB/s of each format, shape and instruction set, and its share of what a read reaches."""
    found = {}
    for format_ in args.formats:
        for name, (rows, cols) in SHAPES.items():
            packed = Packed(library, format_, rows, cols, STREAMED)
            runs = [packed.read(args.simd[0], args.threads)]
            runs += [packed.multiply(args.batch, simd, args.threads) for simd in args.simd]
            read, *products = in_turn(runs, args.turns, args.best)
            packed.free()
            row = {"read GB/s": packed.bytes / read / 1e9}
            for simd, seconds in zip(args.simd, products, strict=True):
                row |= {f"{simd} GB/s": packed.bytes / seconds / 1e9, f"{simd} % of read": 100 * read / seconds}
            show(f"decode {format_} {name}", row)
            found[f"{format_} {name}"] = row
    return found


def prefill(library: native.Library, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """GFLOP/s of each format, shape and instruction set, and of torch in float32."""
    torch.set_num_threads(args.threads)
    found = {}
    for name, (rows, cols) in list(SHAPES.items())[:-1]:
        packed = {format_: Packed(library, format_, rows, cols, 1) for format_ in args.formats}
        labels = ["torch f32", *(f"{simd} {format_}" for simd in args.simd for format_ in args.formats)]
        runs = [torch_linear(rows, cols, args.rows)]
        runs += [packed[f].multiply(args.rows, simd, args.threads) for simd in args.simd for f in args.formats]
        times = in_turn(runs, args.turns, args.best)
        operations = 2 * args.rows * rows * cols
        row = {f"{label} GFLOP/s": operations / t / 1e9 for label, t in zip(labels, times, strict=True)}
        show(f"prefill {args.rows} {name}", row)
        found[name] = row
        for each in packed.values():
            each.free()
    return found


def show(title: str, row: dict[str, float]) -> None:
    print(f"{title:22}", "  ".join(f"{name} {value:.1f}" for name, value in row.items()), flush=True)


def main() -> None:
    library = native.library()
    if library is None:
        raise SystemExit("the native library is not built: python -m vitruvius.native.build")
    fast = [simd for simd in library.simd if simd not in ("plain", "naive")] or ["plain"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decode", action="store_true")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--prefill", action="store_true")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--simd", nargs="+", default=fast)
    parser.add_argument("--formats", nargs="+", default=["f32", "bf16", "q8", "q4", "q4m"], choices=FORMATS)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--best", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    both = args.decode == args.prefill
    result: dict[str, object] = {"processor": platform.processor(), "settings": vars(args)}
    if args.decode or both:
        result["decode"] = decode(library, args)
    if args.prefill or both:
        result["prefill"] = prefill(library, args)
    if args.json:
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
