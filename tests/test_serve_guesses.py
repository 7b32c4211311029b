"""Guesses in the server and on the command line: the same answers, and their acceptance in the metrics."""

from __future__ import annotations

import json
import re
from typing import Any

import drafting
import httpx2
import pytest
from click.testing import CliRunner
from serving import SMOLLM2, Spoken, offered, running, service

import vitruvius as vt
from vitruvius.cli import main
from vitruvius.inference.torch_runner import TorchRunner
from vitruvius.server.api.models import Limits

TOKENIZER = vt.tokenizer(SMOLLM2)


def asked(at: str, **fields: Any) -> tuple[str, float, float]:
    """The text, and how many tokens were guessed and right so far."""
    text = httpx2.post(f"{at}/v1/completions", json=fields, timeout=60).json()["choices"][0]["text"]
    told = httpx2.get(f"{at}/metrics").text
    found = [
        re.search(rf"vllm:spec_decode_num_{name}_tokens_total{{[^}}]*}} (\S+)", told) for name in ("draft", "accepted")
    ]
    guessed, accepted = (float(each[1]) if each else 0.0 for each in found)
    return text, guessed, accepted


def test_look_up_in_the_server() -> None:
    """A model that goes round: what it writes next stood here before."""
    steps, texts = [], []
    for lookup in (0, 4):
        runner = Spoken(lambda ids: 100 + len(ids) % 7)
        with running(service([offered("round", runner, TOKENIZER)], limits=Limits(lookup=lookup))) as at:
            steps.append(-len(runner.steps))
            text, guessed, accepted = asked(at, prompt=[3, 4], max_tokens=60)
            steps[-1] += len(runner.steps)
            texts.append(text)
            assert (guessed > 0, accepted) == (lookup > 0, guessed)
    assert texts[0] == texts[1]
    assert steps == [60, 20], "ten until it repeats itself, then five tokens a step"


def test_drafts_in_the_server() -> None:
    model = drafting.model_of("deepseek_v3")
    texts = []
    for draft in (0, 3):
        with running(service([offered("mtp", TorchRunner(model), TOKENIZER)], limits=Limits(draft=draft))) as at:
            text, guessed, _ = asked(at, prompt=[5, 9, 41, 7], max_tokens=12, seed=1, ignore_eos=True)
            assert (guessed > 0) == (draft > 0)
            texts.append(text)
    assert texts[0] == texts[1]


def generate(*args: str) -> Any:
    return CliRunner().invoke(main, ["generate", SMOLLM2, "--weights", "q8", "--max-new-tokens", "24", *args])


def test_look_up_on_the_command_line() -> None:
    prompt = "one two three four five six seven one two three four"
    plain, guessed = generate("-p", prompt, "--json"), generate("-p", prompt, "--json", "--lookup", "4")
    wanted, found = json.loads(plain.stdout), json.loads(guessed.stdout)
    assert found["text"] == wanted["text"]
    assert wanted["tokens"]["guessed"] == 0
    assert found["tokens"]["accepted"] > 3
    told = generate("-p", prompt, "--lookup", "4").stderr
    assert f"; {found['tokens']['accepted']} of {found['tokens']['guessed']} guesses were right" in told


@pytest.mark.parametrize(
    "verb", [["generate", SMOLLM2, "-p", "Hi"], ["generate", SMOLLM2, "-p", "Hi", "--engine", "torch"]]
)
def test_drafts_need_their_layers(verb: list[str]) -> None:
    found = CliRunner().invoke(main, [*verb, "--draft", "2"])
    assert (found.exit_code, found.stdout) == (2, "")
    assert "has no layers for multi-token prediction, which --draft needs; try --lookup" in str(found.stderr)
