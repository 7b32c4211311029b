"""Times of a real model on this machine beside what `cost` predicts for it, measured in turn within one run.

    python benchmarks/predicted.py [MODEL] [--threads 1]

The machine's two peaks are measured between the model's runs, with as many threads, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitruvius.inference.runner import Runner

PROMPTS = (64, 256, 1024)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="smollm2-135m-instruct")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: asked.threads])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(asked.threads)
    compare(asked.model, asked.threads, asked.rounds)


def compare(name: str, threads: int, rounds: int) -> None:
    import torch

    import vitruvius as vt
    from vitruvius.cost.this_machine import this_machine
    from vitruvius.inference.torch_runner import TorchRunner

    torch.set_num_threads(threads)
    model = vt.load(name)
    runners = {"PyTorch": TorchRunner(model), "native": vt.engine(name, weights="f32", threads=threads)}
    print("| float32 | prompt | prefill, measured | predicted | ratio | one token, measured | predicted | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for engine, runner in runners.items():
        for prompt in PROMPTS:
            measured, predicted = [], []
            for _ in range(rounds):
                found = vt.cost(model.spec, prompt, dtype="f32", device=this_machine(again=True)).time
                predicted.append((found.first_token, found.per_token))
                measured.append(run(runner, prompt))
            (first, step), (first_is, step_is) = (
                [statistics.median(column) * 1e3 for column in zip(*rows, strict=True)]
                for rows in (predicted, measured)
            )
            cells = (f"{first_is:.1f} ms", f"{first:.1f} ms", f"{first_is / first:.2f}")
            cells += (f"{step_is:.2f} ms", f"{step:.2f} ms", f"{step_is / step:.2f}")
            print("|", " | ".join((engine, f"{prompt:,}", *cells)), "|", flush=True)


def run(runner: Runner, prompt: int, steps: int = 8) -> tuple[float, float]:
    """Seconds of a prefill, and of the median of the tokens after it."""
    ids = random.Random(0).choices(range(1000, 20_000), k=prompt)
    sequence = runner.sequence(prompt + steps)
    first = timed(lambda: runner.step([(sequence, ids, "last")]))
    return first, statistics.median(timed(lambda: runner.step([(sequence, ids[:1], "last")])) for _ in range(steps))


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
