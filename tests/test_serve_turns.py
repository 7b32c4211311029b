"""Conversations: each turn reads what is new, on layers of every kind, and answers as a cold start does."""

from __future__ import annotations

from typing import Any

import httpx2
import numpy as np
import pytest
from serving import SMOLLM2, offered, running, service
from test_inference import greedy, model_of

import vitruvius as vt
from vitruvius.inference.request import Request
from vitruvius.inference.scheduler import Scheduler
from vitruvius.inference.torch_runner import TorchRunner

MODELS = ["gemma3", "nemotron_h", "qwen3_next"]  # windows; recurrences of two kinds
SYSTEM = [5, 9, 41, 7, 7, 30, 12, 66, 3, 18, 44, 21, 6, 70, 35, 8, 50, 28, 13, 60]
ANSWER, KEPT, ASKED = 5, 2, 4  # tokens of an answer, those of it that the template keeps, and of a question


def question(turn: int, other: int = 0) -> list[int]:
    return [(7 * turn + 11 * i + 3 * other) % 70 + 10 for i in range(ASKED)]


@pytest.mark.parametrize("name", MODELS)
def test_ten_turns_and_back_to_the_middle(name: str) -> None:
    """Of each answer the template keeps a part only, as it leaves out what a model has thought."""
    model = model_of(name)
    one = Scheduler(TorchRunner(model), prefixes=32)
    prompts, prompt = [], list(SYSTEM)

    def ask(ids: list[int]) -> tuple[list[int], int]:
        completion = one.add(Request(ids=ids, max_new_tokens=ANSWER, eos=()))
        list(one.run())
        assert completion.ids == greedy(model, ids, ANSWER)
        return completion.ids, len(ids) - completion.timing.reused

    for turn in range(10):
        prompt = [*prompt, *question(turn)]
        prompts.append(prompt)
        answer, read = ask(prompt)
        assert read <= (len(prompt) if turn == 0 else KEPT + ASKED), f"turn {turn}"
        prompt = [*prompt, *answer[:KEPT]]
    for turn in (6, 3, 8):  # asked anew, and asked something else
        assert ask(prompts[turn])[1] <= KEPT + ASKED
        assert ask([*prompts[turn][:-ASKED], *question(turn, other=1)])[1] <= KEPT + ASKED + ASKED + KEPT


@pytest.mark.parametrize("name", MODELS)
def test_conversations_share_their_system_message(name: str) -> None:
    """It is read twice: by the first, and by the second, with which it is seen to be shared."""
    model = model_of(name)
    one = Scheduler(TorchRunner(model), prefixes=32)
    reads = []
    for i in range(5):
        ids = [*SYSTEM, *question(i), *question(i + 20), *question(i + 30)]
        completion = one.add(Request(ids=ids, max_new_tokens=ANSWER, eos=()))
        list(one.run())
        assert completion.ids == greedy(model, ids, ANSWER)
        reads.append(len(ids) - completion.timing.reused)
    assert reads[2:] == [3 * ASKED] * 3


@pytest.mark.parametrize("name", ["gemma3", "nemotron_h"])
def test_turns_over_http(name: str) -> None:
    model, tokenizer = model_of(name), vt.tokenizer(SMOLLM2)
    with running(service([offered(name, TorchRunner(model), tokenizer)])) as at:
        prompt = list(SYSTEM)
        for turn in range(4):
            prompt = [*prompt, *question(turn)]
            asked: dict[str, Any] = {"prompt": prompt, "max_tokens": ANSWER, "temperature": 0, "ignore_eos": True}
            told = httpx2.post(f"{at}/v1/completions", json=asked, timeout=60).json()
            wanted = greedy(model, prompt, ANSWER)
            assert told["choices"][0]["text"] == tokenizer.decode([token for token in wanted if token > 16])
            read = len(prompt) - told["usage"]["prompt_tokens_details"]["cached_tokens"]
            assert read <= (len(prompt) if turn == 0 else KEPT + ASKED)
            prompt = [*prompt, *wanted[:KEPT]]


@pytest.mark.parametrize("kind", ["mistral_window", "nemotron_h"])
def test_turns_on_the_native_engine(kind: str, tmp_path: Any) -> None:
    vt.save(model_of(kind), tmp_path)
    engine = vt.engine(tmp_path, weights="f32", threads=1)
    one, prompt = Scheduler(engine, prefixes=32), list(SYSTEM)
    for turn in range(10):
        prompt = [*prompt, *question(turn)]
        completion = one.add(Request(ids=prompt, max_new_tokens=ANSWER, eos=()))
        list(one.run())
        cold = engine.generate(np.array([prompt]), ANSWER, ignore_eos=True)[0].tolist()
        assert completion.ids == cold
        assert len(prompt) - completion.timing.reused <= (len(prompt) if turn == 0 else KEPT + ASKED)
        prompt = [*prompt, *cold[:KEPT]]
