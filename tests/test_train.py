"""A training run: what is learned from and in which order, the steps, the run's folder, stops and kills."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import vitruvius as vt
from vitruvius.cli import main
from vitruvius.training import Recipe, TokenBatch, read, train
from vitruvius.training import run as running
from vitruvius.training.batches import PackedRows
from vitruvius.training.conversations import WholeDocuments, best_fit
from vitruvius.training.forecast import check, needed
from vitruvius.training.loop import Loop
from vitruvius.training.losses import IGNORED
from vitruvius.training.overlap import WINDOW, shared
from vitruvius.training.tokens import prepare
from vitruvius.training.words import of_bytes

TINY = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Lines that are easily learned."""
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"{i} and one are {i + 1}.\n" for i in range(400)))
    return file


def tiny(corpus: Path, out: Path | None = None, **more: Any) -> Recipe:
    given: dict[str, Any] = {"steps": 12, "batch": 4, "sequence": 32, "warmup": 2, "lr": 3e-3, "precision": "f32"}
    given |= {"eval_every": 6, "save_every": 4, "tokenizer": "bytes", "device": "cpu"}
    return Recipe(out=str(out) if out else None, data=str(corpus), model=TINY, **{**given, **more})


def losses(rows: Any) -> list[float]:
    return [row["loss"] for row in rows]


# ------------------------------------------------------------------ the recipe


def test_a_recipe_is_read_from_a_file_and_words(tmp_path: Path) -> None:
    file = tmp_path / "RUN.yaml"
    file.write_text("steps: 30\nlr: 1e-3\nmodel: {model_type: llama}\ndata: [a.txt, b.txt]\n")
    recipe = read(file, ["steps=1e2", "clip=null", "out=runs/x", "batch=4"])
    assert (recipe.steps, recipe.lr, recipe.clip, recipe.batch) == (100, 1e-3, None, 4)
    assert (recipe.model, recipe.data, recipe.out) == ({"model_type": "llama"}, ["a.txt", "b.txt"], "runs/x")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["stepz=3"], "unknown key 'stepz'; did you mean steps?"),
        (["steps"], "'steps' is not key=value"),
        (["steps=many"], "steps: 'many' is not a whole number"),
        (["steps=0"], "steps: 0 is less than 1"),
        (["steps=2.5"], "steps: 2.5 is not a whole number"),
        (["lr=-1"], "lr: -1.0 is not a learning rate"),
        (["lr=.nan"], "lr: nan is not a learning rate"),
        (["lr=nan"], "lr: 'nan' is not a number"),
        (["optimizer=adam"], "optimizer: 'adam' is not one of adamw, muon"),
        (["batch=6", "accumulate=4"], "take one of 1, 2, 3, 6"),
        (["warmup=900"], "warmup: 900 steps are not fewer than the 800 of the run; leave it out for a fortieth"),
        (["compile=maybe"], "compile: 'maybe' is not true or false"),
        (["validation=1.5"], "validation: 1.5 is not a share"),
        (["resume=true"], "resume: goes on with the run in `out`"),
        (["quantize=true"], "add lora=16"),
        (["lora=8", "optimizer=muon"], "adapters are AdamW's"),
        (["start=checkpoint"], "start: a checkpoint needs a model"),
        (["data={a: 1}"], "data: {'a': 1} is not one of a text, a list of texts, null"),
    ],
)
def test_what_a_recipe_cannot_be_is_said_in_one_line(words: list[str], told: str) -> None:
    with pytest.raises(vt.InputError) as error:
        read(None, words)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_unusable_runs_end_with_2_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("too short")
    for words in (
        ["batchh=3"],
        ["data=none.txt"],
        ["nothing.yaml"],
        ["sequence=500", "tokenizer=bytes", "data=short.txt"],
    ):
        result = CliRunner().invoke(main, ["train", *words])
        assert result.exit_code == 2, result.output
        assert len(result.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "runs").exists()


# ------------------------------------------------------------------ rows


def packed(lengths: list[int], batch: int, sequence: int, seed: int = 0) -> PackedRows:
    """Documents of these lengths; every token is another."""
    return PackedRows(np.arange(sum(lengths)), np.cumsum(lengths), batch, sequence, seed)


def test_an_epoch_reads_every_row_once_and_a_batch_depends_on_its_number_only() -> None:
    rows = packed([50, 3, 47, 29], 3, 8)
    assert rows.rows == 15
    batches = [rows(i) for i in range(5)]
    seen = torch.cat([batch.ids for batch in batches]).flatten().tolist()
    assert len(set(seen)) == len(seen) == 15 * 8
    assert torch.equal(rows(2).ids, batches[2].ids)
    assert torch.equal(packed([50, 3, 47, 29], 3, 8)(2).ids, batches[2].ids)
    assert not torch.equal(rows(7).ids, batches[2].ids), "the next epoch has another order"
    assert not torch.equal(packed([50, 3, 47, 29], 3, 8, seed=1)(2).ids, batches[2].ids)


def test_documents_of_a_row_are_numbered_and_do_not_predict_each_other() -> None:
    row = packed([5, 2, 30], 1, 10).at([2])
    assert row.ids.tolist() == [list(range(2, 12))]
    assert row.documents is not None
    assert row.documents.tolist() == [[0, 0, 0, 1, 1, 2, 2, 2, 2, 2]]
    assert row.targets.tolist() == [[3, 4, IGNORED, 6, IGNORED, 8, 9, 10, 11, 12]]
    assert packed([5, 2, 30], 1, 10).at([8]).documents is None, "one document needs no mask"


def test_a_text_too_short_for_two_rows_is_refused() -> None:
    with pytest.raises(vt.InputError, match="9 tokens, and sequence=8 needs at least 16"):
        packed([9], 1, 8)


# ------------------------------------------------------------------ data


def test_documents_are_read_once_and_some_are_held_out(tmp_path: Path) -> None:
    texts = [f"text number {i} says {i * i}" for i in range(300)]
    file = tmp_path / "texts.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in [*texts, *texts[:40], ""]))
    recipe = Recipe(data=str(file), tokenizer="bytes", validation=0.2, sequence=16, batch=2)
    found = prepare(recipe, None)
    assert found.index["documents"] == 300
    assert found.index["duplicates"] == 40
    parts = []
    for name in ("train", "held"):
        tokens, ends, _ = found._split(name)
        begins = [0, *ends[:-1]]
        parts.append({found.tokenizer.decode(tokens[a : b - 1].tolist()) for a, b in zip(begins, ends, strict=True)})
        assert all(tokens[end - 1] == found.tokenizer.eos_ids[0] for end in ends)
    assert parts[0] | parts[1] == set(texts)
    assert not parts[0] & parts[1]
    assert 30 < len(parts[1]) < 90
    again = prepare(replace(recipe, batch=4), None)
    assert again.index == found.index
    assert again.folder == found.folder


def test_the_end_of_one_long_text_is_held_out(corpus: Path) -> None:
    found = prepare(tiny(corpus, validation=0.1), None)
    (train_tokens, train_ends, _), (held_tokens, held_ends, _) = found._split("train"), found._split("held")
    text = found.tokenizer.decode([*train_tokens, *held_tokens[:-1]])
    assert text == corpus.read_text()
    assert len(held_tokens) == pytest.approx(0.1 * len(corpus.read_text()), abs=2)
    assert (train_ends[-1], held_ends[-1]) == (len(train_tokens), len(held_tokens))


def test_what_was_stopped_while_it_was_written_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitruvius.training import tokens

    file = tmp_path / "texts.jsonl"
    file.write_text("\n".join(json.dumps({"text": f"text {i % 900}"}) for i in range(3000)))
    recipe = Recipe(data=str(file), tokenizer="bytes", sequence=16, batch=2)
    monkeypatch.setattr(tokens, "AT_ONCE", 100)
    monkeypatch.setattr(tokens, "PIECE", 1000)
    whole = prepare(recipe, None)
    contents = {path.name: path.read_bytes() for path in whole.folder.iterdir()}
    for path in whole.folder.iterdir():
        path.unlink()
    encoded, calls = tokens._encoded, []

    def fails(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return encoded(*arguments)

    monkeypatch.setattr(tokens, "_encoded", fails)
    with pytest.raises(KeyboardInterrupt):
        prepare(recipe, None)
    assert (whole.folder / "progress.json").exists()
    prepare(recipe, None)
    assert {path.name: path.read_bytes() for path in whole.folder.iterdir()} == contents
    assert len(calls) < 6 + 30, "what was done is not done again"


def test_held_out_text_that_also_stands_in_the_training_text_is_told() -> None:
    random = np.random.default_rng(0)
    training, held = random.integers(0, 500, 5000), random.integers(0, 500, 1000)
    assert shared(held, training) == 0
    held[100:200] = training[3000:3100]
    held[500 : 500 + WINDOW - 1] = training[:31]  # too short a run
    assert shared(held, training) == 0.1
    assert shared(training, training) == 1


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"test": 1}', "line 2: no text 'text' and no `messages`; it has test"),
        ("a.jsonl", b'{"text": "x"', "line 1: not JSON"),
        ("a.jsonl", b'{"messages": [{"role": "user"}]}', "a message has a `role` and a `content`"),
        ("a.txt", b"\xff\xfe", "not UTF-8 (byte 0)"),
        ("a.txt", b"", "no text in it"),
        ("a.csv", b"", "is none of .txt"),
        ("a.parquet", b"PAR", "not parquet"),
    ],
)
def test_unusable_data_are_told(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(vt.InputError) as error:
        prepare(Recipe(data=str(tmp_path / name), tokenizer="bytes"), None)
    assert told in str(error.value)


def test_parquet_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = [f"row {i}" for i in range(250)]
    parquet.write_table(pyarrow.table({"body": [*texts, None]}), tmp_path / "a.parquet")
    recipe = Recipe(data=str(tmp_path), text="body", tokenizer="bytes", validation=0.0)
    assert prepare(recipe, None).index["documents"] == 250
    with pytest.raises(vt.InputError, match=r"no column 'text'; it has body \(text=COLUMN\)"):
        prepare(replace(recipe, text="text"), None)


def test_a_tokenizer_is_trained_and_bytes_are_bytes(corpus: Path) -> None:
    found = prepare(tiny(corpus, tokenizer="train", vocab=300), None)
    assert found.tokenizer.vocab_size == 300
    text = "7 and one are 8. Ünïcode 🙂"
    assert found.tokenizer.decode(found.tokenizer.encode(text)) == text
    assert len(found.tokenizer.encode("7 and one are 8.")) < 10
    plain = of_bytes()
    assert plain.vocab_size == 257
    assert len(plain.encode(text)) == len(text.encode())
    assert plain.decode(plain.encode(text)) == text


# ------------------------------------------------------------------ conversations

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def said(*texts: str) -> dict[str, Any]:
    roles = ["user", "assistant"] * len(texts)
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]}


@pytest.fixture
def chat_model(tmp_path: Path) -> Path:
    """The folder of an untrained model with a chat template."""
    folder, words = tmp_path / "chat-model", of_bytes()
    config = {**TINY, "vocab_size": 257, "eos_token_id": words.eos_ids[0]}
    vt.save(vt.build(vt.architecture(config)), folder)
    words.templates["default"] = TEMPLATE
    words.save(folder)
    return folder


def test_answers_are_learned_and_nothing_else(chat_model: Path, tmp_path: Path) -> None:
    from vitruvius.training import chats

    words = vt.tokenizer(chat_model)
    ids, learned = chats.encoded(words, said("ab", "cd", "e", "f")["messages"])
    text = "<|user|>ab<|assistant|>cd<|endoftext|><|user|>e<|assistant|>f<|endoftext|>"
    assert words.decode(ids) == text
    shown = [words.decode([i]) for i, each in zip(ids, learned, strict=True) if each]
    assert shown == ["c", "d", "<|endoftext|>", "f", "<|endoftext|>"]
    with pytest.raises(vt.InputError, match="without an answer"):
        chats.encoded(words, said("ab")["messages"])
    words.templates["default"] = TEMPLATE.replace("<|assistant|>", "<|answer|>")
    with pytest.raises(vt.InputError, match="does not write an answer after the prompt for it"):
        chats.encoded(words, said("ab", "cd")["messages"])


def test_rows_hold_whole_conversations() -> None:
    assert best_fit([3, 8, 5, 2, 9, 1], 10) == [[4, 5], [1, 3], [2, 0]]
    ends = np.array([3, 8, 10])
    rows = WholeDocuments(np.arange(10, 20), ends, 1, 6, 0, np.arange(10) % 2 == 1)
    assert rows.rows == [[1], [0, 2]]
    batch = rows.at([1])
    assert batch.ids.tolist() == [[10, 11, 12, 18, 19, 0]]
    assert batch.targets.tolist() == [[11, IGNORED, IGNORED, 19, IGNORED, IGNORED]]
    assert batch.documents is not None
    assert batch.documents.tolist() == [[0, 0, 0, 1, 1, -1]]
    assert sorted(rows(i).ids[0, 0].item() for i in range(2)) == [10, 13]
    short = replace(rows, sequence=4)
    assert short.cut == 1
    assert short.at([0]).ids.tolist() == [[13, 14, 15, 16]]


@pytest.mark.parametrize("lora", [None, 4])
def test_a_checkpoint_is_tuned_on_conversations(chat_model: Path, tmp_path: Path, lora: int | None) -> None:
    """All weights, or adapters; the export answers, with its template, and the base stays as it was."""
    data = tmp_path / "chat.jsonl"
    data.write_text("\n".join(json.dumps(said(f"{i} + 1?", f"{i + 1}!")) for i in range(40)))
    recipe = Recipe(out=str(tmp_path / "run"), model=str(chat_model), data=str(data), steps=40, warmup=5, batch=4)
    recipe = replace(recipe, sequence=64, lr=1e-2, precision="f32", device="cpu", lora=lora, save_every=15)
    heard: list[str] = []
    calls: list[int] = []
    stopped = train(recipe, say=heard.append, stop=lambda: calls.append(1) or len(calls) == 23)  # type: ignore[func-returns-value]
    assert stopped.progress.step == 23
    trained = train(read(None, ["resume=true", f"out={tmp_path / 'run'}"]))
    assert any("goes on from the weights" in line for line in heard)
    assert any("adapters of rank 4" in line for line in heard) == (lora is not None)
    assert trained.rows[-1]["loss"] < (0.98 if lora else 0.7) * trained.rows[0]["loss"]
    whole = train(replace(recipe, out=None))
    assert losses(whole.rows) == losses(trained.rows)
    export = tmp_path / "run" / "export"
    assert vt.tokenizer(export).render(said("a")["messages"]) == "<|user|>a<|assistant|>"
    ids = torch.arange(20)[None]
    torch.testing.assert_close(vt.load(export)(ids), trained.model(ids), atol=0, rtol=0)
    if lora:
        from vitruvius.tuning import load_adapter

        base = vt.load(chat_model)
        load_adapter(base, tmp_path / "run" / "adapter")
        torch.testing.assert_close(base(ids), trained.model(ids), atol=1e-4, rtol=1e-4)


def test_conversations_need_a_template(tmp_path: Path) -> None:
    data = tmp_path / "chat.jsonl"
    data.write_text(json.dumps(said("a", "b")))
    with pytest.raises(vt.InputError, match="has no chat template"):
        prepare(Recipe(data=str(data), tokenizer="bytes"), None)


# ------------------------------------------------------------------ steps


def test_a_run_learns_and_its_folder_has_all(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trained = train(tiny(corpus, out, steps=60, eval_every=30, keep=1, save_every=20))
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert rows == trained.rows
    assert [row["step"] for row in rows] == list(range(1, 61))
    assert rows[0]["loss"] == pytest.approx(log(257), abs=0.2)
    assert rows[-1]["loss"] < 2.6
    assert rows[29]["validation_loss"] > rows[59]["validation_loss"]
    assert rows[-1]["tokens"] == 60 * 4 * 32
    assert {"step", "loss", "tokens", "seconds", "lr", "grad_norm", "tokens_per_second", "memory"} <= rows[0].keys()
    assert [row["lr"] for row in rows[:2]] == [1.5e-3, 3e-3]
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["step-00000060"]
    assert read(out / "run.yaml") == replace(tiny(corpus, out, steps=60, eval_every=30, keep=1, save_every=20))
    facts = json.loads((out / "environment.json").read_text())
    assert facts["parameters"] == sum(p.numel() for p in trained.model.parameters())
    assert len(facts["data_sha256"]) == 64
    ids = torch.tensor([vt.tokenizer(out / "export").encode("7 and one")])
    loaded = vt.load(out / "export")
    torch.testing.assert_close(loaded(ids), trained.model(ids), atol=0, rtol=0)
    assert loaded.eos == {trained.tokenizer.eos_ids[0]} if trained.tokenizer else False


def test_the_same_recipe_gives_the_same_curve_and_another_seed_another(corpus: Path) -> None:
    first, again, other = (losses(train(tiny(corpus, seed=seed)).rows) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_parts_of_a_batch_have_the_gradients_of_the_whole(corpus: Path) -> None:
    """Also where the parts learn different numbers of targets."""
    whole, parts, kept = (
        train(tiny(corpus, steps=4, warmup=1, **more)).rows for more in ({}, {"accumulate": 4}, {"checkpointing": True})
    )
    assert losses(parts) == pytest.approx(losses(whole), abs=2e-5)
    assert losses(kept) == pytest.approx(losses(whole), abs=1e-6)
    model = vt.build(vt.architecture({**TINY, "vocab_size": 64}))
    ids = torch.randint(64, (2, 9), generator=torch.Generator().manual_seed(0))
    targets = ids.roll(-1, 1)
    targets[0, 2:] = IGNORED
    grads = []
    for accumulate in (1, 2):
        loop = Loop(model, Recipe(batch=2, accumulate=accumulate, lr=1e-9, clip=None, precision="f32"))
        grads.append(loop.step(5, TokenBatch(ids, targets)))
    assert grads[0].loss == pytest.approx(grads[1].loss, abs=1e-6)
    assert grads[0].norm == pytest.approx(grads[1].norm, rel=1e-4)
    expected = torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
    assert grads[0].loss == pytest.approx(expected.item(), abs=1e-5)


def test_losses_of_mixtures_and_of_tokens_further_ahead_are_told(corpus: Path) -> None:
    """And the heads of modules for multi-token prediction learn."""
    from cases import CASES

    config = {**CASES["deepseek_v3"], "vocab_size": 257, "num_nextn_predict_layers": 1}
    more = {"z_loss": 1e-4, "balance": 0.01, "router_z": 1e-3, "mtp": 0.3, "balance_bias": 1e-3, "steps": 6}
    trained = train(replace(tiny(corpus, **more), model=config, accumulate=2))
    row = trained.rows[-1]
    assert {"z", "balance", "router_z", "mtp", "load_violation", "unused_experts"} <= row.keys()
    assert trained.rows[0]["balance"] == pytest.approx(1, abs=0.5)
    assert trained.rows[0]["mtp"] > trained.rows[-1]["mtp"]
    biases = [value for name, value in trained.model.state_dict().items() if name.endswith("selection_bias")]
    assert biases
    assert all(float(bias.abs().max()) > 5e-4 for bias in biases)


def test_data_and_architecture_may_be_given(tmp_path: Path) -> None:
    """As the lab does: no files, an edited tree, batches by number."""
    arch = vt.architecture({**TINY, "vocab_size": 16})

    def copying(i: int) -> TokenBatch:
        ids = torch.randint(16, (16, 8), generator=torch.Generator().manual_seed(i))
        return TokenBatch(ids, ids)

    seen: list[int] = []
    recipe = Recipe(steps=60, warmup=5, lr=1e-2, precision="f32", device="cpu")
    trained = train(recipe, model=arch, data=copying, on_row=lambda row: seen.append(row["step"]))
    assert trained.rows[0]["loss"] > 2
    assert trained.rows[-1]["loss"] < 0.2
    assert seen == list(range(1, 61))
    assert trained.folder is None


def test_a_loss_that_is_no_number_stops_with_the_batch_and_the_last_checkpoint(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arch = vt.architecture({**TINY, "vocab_size": 257})
    recipe = tiny(corpus, out, steps=9, save_every=2)
    data = prepare(recipe, None).training(recipe)
    made = running.build(arch)

    def poisoned(i: int) -> TokenBatch:
        if i == 5:
            with torch.no_grad():
                made.layers[0].mlp.body.down.weight[0, 0] = torch.nan  # type: ignore[union-attr,index]
        return data(i)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "build", lambda *args, **more: made)
        with pytest.raises(vt.InputError, match=r"step 6: the loss is nan .*bad-batch-6.npz, .*step-00000004"):
            train(recipe, model=arch, data=poisoned)
    kept = np.load(out / "bad-batch-6.npz")
    assert np.array_equal(kept["ids"], data(5).ids.numpy())
    assert not (out / "export").exists()


# ------------------------------------------------------------------ profile and trackers


def test_some_steps_are_profiled(corpus: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    train(tiny(corpus, tmp_path / "run", steps=6, profile=True), say=heard.append)
    trace = json.loads((tmp_path / "run" / "profile" / "trace.json").read_text())
    assert sum(event.get("name") == "aten::mm" for event in trace["traceEvents"]) > 20
    lines = (tmp_path / "run" / "profile" / "table.txt").read_text().splitlines()
    shares = [float(line.split()[1].rstrip("%")) for line in lines[1:]]
    assert shares == sorted(shares, reverse=True)
    assert 90 <= sum(shares) < 100
    assert any(lines[0] in text for text in heard)
    with pytest.raises(vt.InputError, match="looks at steps 3 to 5, and the run has 4"):
        Recipe(steps=4, warmup=0, profile=True)


def test_metrics_go_to_tensorboard(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained = train(tiny(corpus, tmp_path / "run", steps=4, tracker="tensorboard"))
    read_back = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    read_back.Reload()
    found = [(event.step, event.value) for event in read_back.Scalars("loss")]
    assert found == [(row["step"], pytest.approx(row["loss"])) for row in trained.rows]


def test_metrics_go_to_services_with_the_functions_of_wandb(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, Any]] = []

    class Fake:
        @staticmethod
        def init(**given: Any) -> None:
            calls.append(("init", given))

        @staticmethod
        def log(values: dict[str, Any], step: int) -> None:
            calls.append(("log", (step, values["loss"])))

        @staticmethod
        def finish() -> None:
            calls.append(("finish", None))

    monkeypatch.setitem(sys.modules, "wandb", Fake)  # type: ignore[arg-type]
    trained = train(tiny(corpus, tmp_path / "run", steps=3, tracker="wandb"))
    assert [name for name, _ in calls] == ["init", "log", "log", "log", "finish"]
    assert calls[0][1]["name"] == "run"
    assert calls[0][1]["config"]["steps"] == 3
    assert [value for name, value in calls if name == "log"] == [(row["step"], row["loss"]) for row in trained.rows]
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(vt.InputError, match="trackio is not installed: pip install trackio"):
        train(tiny(corpus, tmp_path / "other", steps=3, tracker="trackio"))


# ------------------------------------------------------------------ stopped, killed, resumed


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(corpus: Path, tmp_path: Path) -> None:
    whole = train(tiny(corpus, tmp_path / "whole", optimizer="muon"))
    calls: list[int] = []

    def stop() -> bool:
        calls.append(1)
        return len(calls) == 7

    train(tiny(corpus, tmp_path / "cut", optimizer="muon"), stop=stop)
    assert json.loads((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 7
    went_on = train(read(None, ["resume=true", f"out={tmp_path / 'cut'}"]))
    assert losses(went_on.rows) == losses(whole.rows)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(went_on.model.state_dict()[name], value), name


def test_the_curve_after_a_kill_equals_the_curve_without(corpus: Path, tmp_path: Path) -> None:
    """SIGKILL at any moment: what was logged after the last checkpoint is run again."""
    words = ["steps=60", "batch=2", "sequence=16", "warmup=2", "precision=f32", "save_every=5", "keep=1", "device=cpu"]
    words += [f"data={corpus}", "tokenizer=bytes", f"model={json.dumps(TINY)}", "eval_every=10"]
    whole = train(read(None, [*words, f"out={tmp_path / 'whole'}"]))
    out = tmp_path / "killed"
    code = "import sys; from vitruvius.training import read, train; train(read(None, sys.argv[1:]))"
    metrics = out / "metrics.jsonl"
    process = subprocess.Popen([sys.executable, "-c", code, *words, f"out={out}"], env=dict(os.environ))
    deadline = time.monotonic() + 120
    while (not metrics.exists() or metrics.read_bytes().count(b"\n") < 12) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert metrics.read_bytes().count(b"\n") >= 12
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was too fast to be killed"
    with metrics.open("a") as file:
        file.write('{"step": 13, "lo')  # a line that was being written
    went_on = train(read(None, ["resume=true", f"out={out}"]))
    assert losses(went_on.rows) == losses(whole.rows)
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 61))
    assert [row.get("validation_loss") for row in rows] == [row.get("validation_loss") for row in whole.rows]


def test_a_full_disk_keeps_the_previous_checkpoint(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(tiny(corpus, out, steps=4))
    before = {path: path.read_bytes() for path in (out / "checkpoints").rglob("*") if path.is_file()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))  # files end there, as on a disk that is full
    try:
        with pytest.raises(vt.InputError, match=r"cannot be written .* the last checkpoint is .*step-00000004"):
            train(read(None, ["resume=true", f"out={out}", "steps=8"]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.read_bytes() for path in (out / "checkpoints").rglob("*") if path.is_file()} == before
    assert train(read(None, ["resume=true", f"out={out}", "steps=8"])).progress.step == 8


def test_a_run_goes_on_only_as_what_it_is(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(tiny(corpus, out, steps=3))
    with pytest.raises(vt.InputError, match="holds a run: go on with it by resume=true"):
        train(tiny(corpus, out))
    with pytest.raises(vt.InputError, match=r"resume: seed was 0 in .*, and is 1 now"):
        train(read(None, ["resume=true", f"out={out}", "seed=1", "steps=5"]))
    with pytest.raises(vt.InputError, match="holds no run"):
        train(read(None, ["resume=true", f"out={tmp_path / 'other'}", f"data={corpus}"]))
    corpus.write_text(corpus.read_text() + "more\n")
    with pytest.raises(vt.InputError, match="the data are not those that"):
        train(read(None, ["resume=true", f"out={out}", "steps=5"]))


def test_the_best_checkpoint_stays(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([3.0, 1.0, 2.0, 2.5])
    monkeypatch.setattr(Loop, "evaluate", lambda self, held: next(values))
    out = tmp_path / "run"
    trained = train(tiny(corpus, out, steps=8, eval_every=2, save_every=2, keep=1))
    assert (trained.progress.best, trained.progress.best_step) == (1.0, 4)
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["step-00000004", "step-00000008"]


# ------------------------------------------------------------------ memory


def test_a_run_that_does_not_fit_is_told_what_to_change() -> None:
    arch = vt.architecture({**TINY, "vocab_size": 5000, "num_hidden_layers": 12, "hidden_size": 256})
    recipe = Recipe(batch=8, sequence=512, precision="f32")
    whole, less = needed(arch, recipe), needed(arch, replace(recipe, checkpointing=True))
    assert less < whole
    check(arch, recipe, whole)
    with pytest.raises(vt.InputError, match="checkpointing=true needs"):
        check(arch, recipe, whole - 1)
    with pytest.raises(vt.InputError, match=r"accumulate=2 needs|accumulate=4 needs"):
        check(arch, recipe, less - 1)
    with pytest.raises(vt.InputError, match=r"one row at a time it is .* take a smaller model or a shorter sequence"):
        check(arch, recipe, 1 << 20)
    check(arch, recipe, None)


# ------------------------------------------------------------------ the verb


def test_the_verb_trains_says_how_far_it_is_and_writes_samples(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [f"data={corpus}", "tokenizer=bytes", f"model={json.dumps(TINY)}", "steps=6", "warmup=1", "batch=4"]
    words += ["sequence=32", "device=cpu", "precision=f32"]
    result = CliRunner().invoke(main, ["train", *words, "--samples", "1"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "runs/1/export"
    assert "tokens to learn from" in result.stderr
    assert "step 6/6  loss" in result.stderr
    assert "sample 1" in result.stderr
    result = CliRunner().invoke(main, ["train", *words, "--json"])
    found = json.loads(result.stdout)
    assert (found["out"], found["step"], found["tokens"]) == ("runs/2", 6, 6 * 4 * 32)


@pytest.mark.parametrize(("steps", "warmup", "wanted"), [(800, None, 20), (3, None, 0), (3, 2, 2), (400, 0, 0)])
def test_a_short_run_warms_up_in_proportion(steps: int, warmup: int | None, wanted: int) -> None:
    assert Recipe(steps=steps, warmup=warmup).warm_up == wanted
