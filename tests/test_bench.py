"""`vitruvius bench`: all hold the same weights and write the same tokens, and ratios are those of the same turn."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import TEXT
from click.testing import CliRunner, Result
from reference import randomize

import vitruvius as vt
from vitruvius.cli import main
from vitruvius.cli.bench import drawn, told
from vitruvius.inference import bench as module
from vitruvius.inference.bench import Lengths, Measure, Ours, Report, bench
from vitruvius.inference.torch_runner import TorchRunner

SHORT = ("--prompt-tokens", "24,12", "--contexts", "12", "--new-tokens", "6", "--turns", "2", "--engine", "torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "tiny"
    model = vt.build(TEXT["llama"])
    randomize(model, torch.Generator().manual_seed(0))
    vt.save(model, path)
    return path


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["bench", *args])


def test_all_take_turns_and_write_the_same(folder: Path) -> None:
    result = run(str(folder), *SHORT, "--weights", "f32", "--batch", "3", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    found = {(s["engine"], s["measure"]["kind"], s["measure"]["tokens"]): s for s in report["speeds"]}
    ours, theirs = "vitruvius torch float32", "transformers"
    measured = {("prefill", 12), ("prefill", 24), ("decode", 12)}
    assert found.keys() == {(name, *m) for name in (ours, theirs) for m in measured} | {(ours, "batch", 12)}
    assert all(speed["rate"] > 0 for speed in found.values())
    assert all(speed["ratio"] == 1 for key, speed in found.items() if key[0] == ours)
    assert report["same_tokens"] == {ours: True, theirs: True}
    assert (report["new"], report["turns"], report["weights"]) == (6, 2, "f32")
    assert {"vitruvius", "transformers", "torch", "python", "numpy"} == set(report["versions"])


def test_the_table_says_what_it_depends_on(folder: Path) -> None:
    text = run(str(folder), *SHORT, "--weights", "f32", "--against", "none").stdout
    assert "weights f32: tokens/s, medians of 2 turns; decoding is 6 tokens one by one" in text
    assert "prefill 12" in text
    assert "decode at 12" in text
    assert "transformers" not in text


def test_ratios_are_those_of_the_same_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is four times slower in every second turn changes no ratio."""
    ticks = iter(range(10**6))
    seconds = Counter[str]()

    class Fake:
        def __init__(self, name: str, cost: float) -> None:
            self.name, self.cost = name, cost

        def prefill(self, prompt: Sequence[int], new: int) -> int:
            seconds["now"] += self.cost * len(prompt) * (4 if next(ticks) % 4 < 2 else 1)  # two engines in a turn
            return 0

        def decode(self, token: int) -> int:
            seconds["now"] += self.cost
            return 0

    monkeypatch.setattr(module, "perf_counter", lambda: seconds["now"])
    taken: dict[tuple[str, Measure], list[float]] = {}
    lengths, engines = Lengths((8,), (8,), 4), [Fake("a", 1.0), Fake("b", 3.0)]
    for _ in range(5):
        for engine in engines:
            for measure, rate in module._turn(engine, list(range(8)), lengths, []):
                taken.setdefault((engine.name, measure), []).append(rate)
    ours: Any = engines[0]
    prefill = module._speed(ours, "b", Measure("prefill", 8), taken, None)
    assert prefill.ratio == pytest.approx(3)
    assert min(taken["b", Measure("prefill", 8)]) < prefill.rate or len(set(taken["b", Measure("prefill", 8)])) == 2
    assert module._speed(ours, "b", Measure("decode", 8), taken, None).ratio == pytest.approx(3)


def test_several_sequences_give_what_one_gives(folder: Path) -> None:
    ours, prompt = Ours("ours", TorchRunner(vt.load(folder))), [5, 6, 7, 8]
    alone = [ours.prefill(prompt, 3)]
    alone += [ours.decode(alone[-1]), ours.decode(alone[-1])]
    rows = ours.prefill_rows([prompt] * 2, 2)
    assert rows == [alone[0]] * 2
    assert ours.decode_rows() == [alone[1]] * 2


def test_the_share_of_the_bandwidth() -> None:
    class Runner:
        @staticmethod
        def bytes_per_token(context: int) -> int:
            return 1000 + context

    ours: Any = Ours("ours", Runner())  # type: ignore[arg-type]
    measure = Measure("decode", 24)
    speed = module._speed(ours, "ours", measure, {("ours", measure): [2.0, 4.0, 9.0]}, 8192.0)
    assert speed.bandwidth == 1024 * 4 / 8192
    report = Report("m", "q8", 6, 2, 1, "p", 2, 0.0, "today", {}, 8192.0, {"ours": True}, (speed,))
    assert "4.0 [50%]" in told(report)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--prompt-tokens", "12,many"), "'many' is not a number of tokens"),
        (("--prompt-tokens", "99999", "--contexts", "9"), "the model's context is"),
        ((*SHORT, "--weights", "q4"), "the torch models have no q4 weights"),
        ((*SHORT, "--against", "vllm"), "there is no engine 'vllm' to compare with"),
        ((*SHORT, "--against", "llama.cpp"), "llama.cpp reads GGUF files"),
    ],
)
def test_bad_input_is_one_line(folder: Path, args: tuple[str, ...], message: str) -> None:
    result = run(str(folder), *args)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert message in result.stderr


def test_lengths_beyond_the_context_are_left_out(folder: Path) -> None:
    """As long as some are within."""
    report = bench(folder, "torch", "f32", Lengths((8, 10**6), (8, 10**6), 2), turns=1, against=[])
    assert [speed.measure for speed in report.speeds] == [Measure("prefill", 8), Measure("decode", 8)]
    assert np.isfinite([speed.rate for speed in report.speeds]).all()


def test_the_chart_shows_all_that_was_measured() -> None:
    measures = (Measure("prefill", 8), Measure("decode", 8))
    speeds = tuple(
        module.Speed(name, m, rate, ratio) for m in measures for name, rate, ratio in (("a", 6.0, 1.0), ("b", 2.0, 3.0))
    )
    report = Report("<b>m", "q8", 6, 2, 1, "p", 2, 0.0, "today", {}, None, {"a": True, "b": True}, speeds)
    chart = drawn(report)
    rows = [(row["measure"], row["engine"], row["rate"], row["label"]) for row in chart.spec["data"]["values"]]
    assert rows == [
        ("prefill 8", "a", 6.0, "6"),
        ("prefill 8", "b", 2.0, "2 (ours: 3.00 × as fast)"),
        ("decode at 8", "a", 6.0, "6"),
        ("decode at 8", "b", 2.0, "2 (ours: 3.00 × as fast)"),
    ]
    assert "<b>" not in chart.svg()
