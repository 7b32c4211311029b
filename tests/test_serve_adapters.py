"""A model with a LoRA adapter under a name of its own, beside the plain one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cases
import pytest
import torch
from click.testing import CliRunner
from serving import SMOLLM2
from test_inference import greedy

import vitruvius as vt
from vitruvius.cli import main
from vitruvius.cli.running import How
from vitruvius.cli.serve import adapted, offer
from vitruvius.inference.request import Request
from vitruvius.inference.scheduler import Scheduler
from vitruvius.nn.adapters import add_adapters, merge_adapters
from vitruvius.tuning import save_adapter

HOW = How("torch", None, None, None, None, ())


def written(runner: Any, prompt: list[int]) -> list[int]:
    one = Scheduler(runner)
    completion = one.add(Request(ids=prompt, max_new_tokens=8, eos=()))
    list(one.run())
    return completion.ids


def test_an_adapter_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = vt.tokenizer(SMOLLM2)
    monkeypatch.setattr("vitruvius.checkpoints.tokenizer.tokenizer", lambda source: known)
    model = vt.build(cases.TEXT["llama"], seed=1)
    vt.save(model, tmp_path / "base")
    add_adapters(model, rank=4)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora" in name:
                value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name))) * 0.5)
    save_adapter(model, tmp_path / "adapter")
    merge_adapters(model)
    base = str(tmp_path / "base")
    plain, tuned = offer(base, HOW), adapted(base, f"tuned={tmp_path / 'adapter'}", HOW)
    assert (tuned.name, tuned.weights, tuned.spec) == ("tuned", plain.weights, plain.spec)
    prompt = [5, 9, 41, 7]
    wanted = greedy(model, prompt, 8)
    assert written(tuned.open()[0], prompt) == wanted
    assert written(plain.open()[0], prompt) == greedy(vt.load(base), prompt, 8) != wanted


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--adapter", "tuned"], "--adapter is NAME=FOLDER, not 'tuned'"),
        (["--adapter", "tuned=/nowhere"], "/nowhere"),
        (["--adapter", "tuned=/nowhere", "--weights", "q8"], "adapters run in PyTorch"),
    ],
    ids=["form", "missing", "native"],
)
def test_bad_adapters_are_told_in_one_line(args: list[str], said: str) -> None:
    found = CliRunner().invoke(main, ["serve", SMOLLM2, "--port", "0", *args])
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.count("\n") == 1
    assert said in found.stderr
