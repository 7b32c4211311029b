"""`vitruvius eval`: perplexity by a sliding window, beside transformers' own."""

from __future__ import annotations

import json
from math import exp, log
from pathlib import Path

import cases
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from reference import offline, randomize, transformers_model

import vitruvius as vt
from vitruvius.checkpoints.tokenizer import Tokenizer
from vitruvius.cli import main
from vitruvius.errors import InputError
from vitruvius.inference.perplexity import nats, perplexity, windows
from vitruvius.inference.torch_runner import TorchRunner

TEXT = "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:\n" * 3
MODEL = "smollm2-135m-instruct"


@pytest.mark.parametrize("tokens", [2, 3, 9, 10, 11, 40])
@pytest.mark.parametrize(("context", "stride"), [(10, 5), (10, 9), (10, 1), (2, 1), (7, 3)])
def test_every_token_but_the_first_is_scored_once_with_what_comes_before(
    tokens: int, context: int, stride: int
) -> None:
    scored = []
    for begin, first, end in windows(tokens, context, stride):
        assert begin < first < end <= begin + context
        assert begin % stride == 0
        scored += range(first, end)
    assert scored == list(range(1, tokens))


def test_the_loss_of_tokens_is_that_of_the_softmax() -> None:
    logits = np.array([[0.0, log(3.0)], [1000.0, 1000.0]], dtype=np.float32)
    assert nats(logits, [1, 0]) == pytest.approx(-log(0.75) + log(2), rel=1e-7)


@torch.no_grad()
def theirs(model: torch.nn.Module, ids: torch.Tensor, context: int, stride: int) -> tuple[float, int]:
    """As transformers' guide has it: labels of what an earlier window scored are −100, and the class's own loss."""
    total, count, before = 0.0, 0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + context, ids.shape[1])
        labels = ids[:, begin:end].clone()
        labels[:, : before - begin if before else 0] = -100
        new = int((labels[:, 1:] != -100).sum())
        total += float(model(ids[:, begin:end], labels=labels, use_cache=False).loss.double()) * new if new else 0.0
        count, before = count + new, end
        if end == ids.shape[1]:
            break
    return total, count


@pytest.mark.parametrize("case", ["llama", "gemma3", "qwen3_next"])
def test_it_is_transformers_perplexity(case: str, tmp_path: Path) -> None:
    with offline():
        reference = transformers_model(cases.TEXT[case])
    randomize(reference, torch.Generator().manual_seed(4))
    reference.save_pretrained(tmp_path)
    ids = torch.randint(3, 80, (1, 61), generator=torch.Generator().manual_seed(2))
    total, count = theirs(reference, ids, 24, 10)
    for runner in (TorchRunner(vt.load(tmp_path)), vt.engine(tmp_path, weights="f32")):
        found = perplexity(runner, ids[0].tolist(), 200, 24, 10)
        assert (found.scored, count) == (60, 60)
        assert found.nats == pytest.approx(total, rel=2e-6)
        assert found.perplexity == pytest.approx(exp(total / 60), rel=2e-5)
        assert found.bits_per_byte == pytest.approx(total / log(2) / 200, rel=2e-6)


def run(*arguments: str, text: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["eval", *arguments], input=text)
    return result.exit_code, result.stdout, result.stderr


def test_the_verb_scores_a_file_and_the_text_that_is_shipped(tmp_path: Path) -> None:
    file = tmp_path / "poem.txt"
    file.write_text(TEXT, "utf-8")
    code, out, _ = run(MODEL, "--text", str(file), "--context", "32", "--json")
    found = json.loads(out)
    ids = vt.tokenizer(MODEL).encode(TEXT)
    assert (code, found["tokens"], found["scored"], found["bytes"]) == (0, len(ids), len(ids) - 1, len(TEXT.encode()))
    assert (found["context"], found["stride"]) == (32, 16)
    wanted = perplexity(TorchRunner(vt.load(MODEL)), ids, len(TEXT.encode()), 32)
    assert found["perplexity"] == pytest.approx(wanted.perplexity, rel=2e-2)  # its weights are in 8 bits there
    assert run(MODEL, "--text", "-", "--context", "32", "--json", text=TEXT)[1] == out.replace(str(file), "-")
    code, out, _ = run(MODEL, "--limit", "40")
    assert code == 0
    assert "40 tokens" in out
    assert "as shipped" in out


def test_a_token_before_the_text_is_none_of_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, text: [1, *plain(self, text)])  # 1: <|im_start|>
    found = json.loads(run(MODEL, "--text", "-", "--limit", "8", "--json", text=TEXT)[1])
    assert (found["tokens"], found["scored"], found["bytes"]) == (8, 7, len("Shall I compare thee to a"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--context", "100k"), "--context must be 2 to 8,192, the model's own, got 102,400"),
        (("--context", "1"), "--context must be 2 to 8,192"),
        (("--context", "16", "--stride", "16"), "--stride must be 1 to 15, less than the context, got 16"),
        (("--limit", "1"), "a text of 1 tokens cannot be scored"),
        (("--text", "nowhere.txt"), "nowhere.txt: cannot be read"),
    ],
)
def test_what_cannot_be_scored_is_one_line(options: tuple[str, ...], message: str) -> None:
    code, out, err = run(MODEL, *options)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err


def test_a_model_that_predicts_no_next_token_is_refused() -> None:
    class Runner(TorchRunner):
        spec = vt.architecture("switch-base-8")  # an encoder and a decoder

    with pytest.raises(InputError, match="does not predict the next token"):
        perplexity(Runner.__new__(Runner), [1, 2, 3], 3, 10)
