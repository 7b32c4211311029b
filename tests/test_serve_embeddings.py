"""`/v1/embeddings`: vectors as transformers' hidden states give them, pooled as the files say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cases
import httpx2
import numpy as np
import openai
import pytest
import torch
from serving import SMOLLM2, Spoken, offered, running, service
from test_heads import made

import vitruvius as vt
from vitruvius.checkpoints.pooling import Pooling
from vitruvius.errors import InputError
from vitruvius.inference.embedding import Embedder
from vitruvius.inference.torch_runner import TorchRunner

TOKENIZER = vt.tokenizer(SMOLLM2)
ROWS = [[5, 9, 41, 7, 7, 30, 12], [3], [18, 44, 21, 6, 70, 35, 8, 50, 28, 13, 60, 4, 4]]


def pooled(states: Any, mode: str) -> Any:
    return {"last": states[-1], "mean": states.mean(0), "first": states[0]}[mode]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A folder, and the hidden states that transformers gives of the rows."""
    folder = tmp_path_factory.mktemp("embedder")
    model, _ = made(cases.TEXT["qwen3_windows"], "Model", folder)
    with torch.no_grad():
        return folder, [model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy() for ids in ROWS]


@pytest.mark.parametrize("executor", ["torch", "native"])
@pytest.mark.parametrize("mode", ["last", "mean", "first"])
def test_hidden_states_are_pooled(
    embedder: tuple[Path, list[Any]], mode: Any, executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitruvius.inference.embedding.CHUNK", 5)
    folder, states = embedder
    runner: Any = TorchRunner(vt.load(folder)) if executor == "torch" else vt.engine(folder, "f32", threads=1)
    for normalize in (False, True):
        one, steps = Embedder(runner, ROWS, Pooling(mode, normalize)), 1
        while not one.step():
            steps += 1
        assert steps == 5, "21 tokens, 5 a step"
        for got, each in zip(one.vectors, states, strict=True):
            wanted = pooled(each, mode)
            wanted = wanted / np.linalg.norm(wanted) if normalize else wanted
            assert np.abs(got - wanted).max() < 5e-4


@pytest.fixture
def at(embedder: tuple[Path, list[Any]]) -> Iterator[str]:
    runner = TorchRunner(vt.load(embedder[0]))
    offer = replace(offered("embedder", runner, TOKENIZER), pooling=Pooling("mean"))
    writer = offered("writer", Spoken(lambda ids: 5), TOKENIZER)
    with running(service([offer, writer], ready=2)) as address:
        yield address


def test_openais_client(at: str, embedder: tuple[Path, list[Any]]) -> None:
    with openai.OpenAI(base_url=f"{at}/v1", api_key="none", max_retries=0) as client:
        answer = client.embeddings.create(model="embedder", input=ROWS)
        assert [each.index for each in answer.data] == [0, 1, 2]
        assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (21, 21)
        plain = client.embeddings.create(model="embedder", input=ROWS[2], encoding_format="float", dimensions=8)
        for each, states in zip(answer.data, embedder[1], strict=True):
            wanted = states.mean(0) / np.linalg.norm(states.mean(0))
            np.testing.assert_allclose(each.embedding, wanted, atol=5e-4)
        np.testing.assert_allclose(plain.data[0].embedding, wanted[:8] / np.linalg.norm(wanted[:8]), atol=1e-3)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": "writer", "input": "a"}, "writer is no embedder: ask it for completions"),
        ({"input": [[3], [4, 83]]}, "input[1] holds the id 83; ids end at 82"),
        ({"input": [3] * 161}, "input has 161 tokens, and the context is 160: shorten it"),
        ({"input": [3], "dimensions": 61}, "dimensions may be at most 60, got 61"),
        ({"input": []}, "input must"),
        ({"input": [3], "encoding_format": "int8"}, "encoding_format must be 'float' or 'base64'"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:30],
)
def test_what_has_no_vector(at: str, asked: dict[str, Any], said: str) -> None:
    answer = httpx2.post(f"{at}/v1/embeddings", json=asked)
    assert (answer.status_code, said in answer.json()["error"]["message"]) == (400, True), answer.text
    if "writer" not in said:
        told = httpx2.post(f"{at}/v1/completions", json={"model": "embedder", "prompt": [3]})
        assert (told.status_code, "cannot write" in told.json()["error"]["message"]) == (400, True)


@pytest.mark.parametrize(
    ("modules", "config", "wanted"),
    [
        (["Transformer", "Pooling", "Normalize"], {"pooling_mode_lasttoken": True}, Pooling("last", True)),
        (
            ["Transformer", "Pooling"],
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
            Pooling("mean", False),
        ),
        (["Transformer", "Pooling"], {"pooling_mode": "cls"}, Pooling("first", False)),
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True}, "got pooling_mode_max_tokens"),
        (["Transformer", "Pooling", "Dense"], {"pooling_mode": "mean"}, "a module 'Dense', which is not run here"),
    ],
    ids=["last", "mean", "first", "max", "dense"],
)
def test_files_say_how(tmp_path: Path, modules: list[str], config: dict[str, Any], wanted: Any) -> None:
    assert Pooling.of(tmp_path) == Pooling("last", True)
    told = [{"type": f"sentence_transformers.models.{name}", "path": f"1_{name}"} for name in modules]
    (tmp_path / "modules.json").write_text(json.dumps(told), "utf-8")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 8, **config}), "utf-8")
    if isinstance(wanted, Pooling):
        assert Pooling.of(tmp_path) == wanted
    else:
        with pytest.raises(InputError, match=wanted):
            Pooling.of(tmp_path)
