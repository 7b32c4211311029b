"""The native engine against the torch models: every tiny case of a decoder, whole, through the state, in batches.

What the lowerings emit is first run by `interpreter`, in numpy and without the library, so that a compiler is not
needed to see them right; then by the library itself.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest
import reference
import torch
from cases import CASES, TOKENS
from interpreter import Interpreter, Text, operations
from test_architectures import Checkpoint, checkpoint, model_of, tokens  # noqa: F401, a fixture

import vitruvius as vt
from vitruvius import nn
from vitruvius.checkpoints.matching import canonical
from vitruvius.checkpoints.stored import Stored
from vitruvius.errors import NotLoweredError
from vitruvius.inference.native import NativeEngine as Engine
from vitruvius.native import library as native
from vitruvius.native import loading
from vitruvius.native.engine import Parts
from vitruvius.native.formats import FORMATS, FROM_FLOATS, OWN, Weights, format_for
from vitruvius.native.packing import Packed, pack
from vitruvius.native.running import Running

CPP = Path(native.__file__).parent / "cpp"
DESCRIBED = operations(CPP / "plan.h")
CLOSE = 1e-4
BY_CASE = pytest.mark.parametrize("case", cases.PLAIN)
BUILT = pytest.mark.skipif(native.library() is None, reason="the native library is not built")


def assert_close(got: Any, wanted: Any, what: str, bound: float = CLOSE) -> None:
    assert got.shape == tuple(wanted.shape), what
    worst = float(np.abs(got - np.asarray(wanted)).max())
    assert worst <= bound, f"{what}: differs by {worst:.1e}"  # a NaN fails too


def values(model: nn.Decoder) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


class InMemory:
    """A model's weights as a checkpoint with the tree's own names."""

    path, packed = Path("memory"), frozenset[str]()

    def __init__(self, model: nn.Decoder) -> None:
        self._values = values(model)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: value.shape for name, value in self._values.items()}

    def read(self, name: str) -> Any:
        return self._values[name]

    def stored(self, name: str) -> Stored:
        return Stored("F32", self._values[name])

    def kind(self, name: str) -> str:
        return "F32"


def engine_of(model: nn.Decoder, format_: str = "f32", threads: int = 2, simd: str | None = None) -> Engine:
    """The engine of a model that exists, all matrices in one format."""
    library = native.library()
    assert library is not None
    plans = loading.lowered(model.spec, library, lambda name, role: format_)
    packed = pack(library, plans, canonical(model.spec), InMemory(model), threads)
    running = [Running(plan, packed, model.spec, threads, simd) for plan in plans]
    return Engine(Parts(model.spec, running[0], running[1] if model.spec.mtp else None, "f32", model.eos))


@cache
def engine_for(case: str) -> Engine:
    return engine_of(model_of(case))


# ------------------------------------------------------------------ what the lowerings mean


@BY_CASE
@torch.no_grad()
def test_a_plan_means_what_the_torch_model_computes(case: str) -> None:
    """In float64, two sequences of different lengths, in two steps."""
    model = model_of(case)
    ids, weights = tokens(model, 2), values(model)
    expected = model(ids)
    plan, *others = loading.lowered(model.spec, DESCRIBED, lambda name, role: "f32")
    interpreter, texts = Interpreter(plan, DESCRIBED, weights), [Text(), Text()]
    first = interpreter.step(texts, [ids[0, :11].tolist(), ids[1, :5].tolist()])
    second = interpreter.step(texts, [ids[0, 11:12].tolist(), ids[1, 5:].tolist()])
    assert_close(np.concatenate((first[:11], second[:1])), expected[0, :12], "the first row")
    assert_close(np.concatenate((first[11:], second[1:])), expected[1], "the second row")
    for further in others:
        logits = Interpreter(further, DESCRIBED, weights).step([Text()], [ids[0].tolist()])
        for k, wanted in enumerate(model.ahead(ids[:1])):
            vocab = model.spec.head.vocab
            assert_close(logits[k + 1 :, k * vocab : (k + 1) * vocab], wanted[0], f"module {k} ahead")


@pytest.mark.parametrize("name", [entry.id for entry in vt.catalog.entries() if not entry.like])
def test_every_decoder_of_the_catalog_has_a_plan(name: str) -> None:
    arch = vt.architecture(name)
    if arch.encoder:
        with pytest.raises(NotLoweredError, match=r"Encoder .* has no native form yet"):
            loading.lowered(arch, DESCRIBED, lambda weight, role: "f32")
        return
    for plan in loading.lowered(arch, DESCRIBED, lambda weight, role: "q4m"):
        assert plan.max_rows >= 8
        assert 4 * plan.arena <= 2**26
        weights = {piece.name for matrix in plan.matrices for piece in matrix.pieces}
        weights |= {weight for vector in plan.vectors for weight in vector.names}
        assert weights <= set(nn.model.weights_of(arch))
    assert set(nn.model.weights_of(arch)) == {
        name
        for plan in loading.lowered(arch, DESCRIBED, lambda weight, role: "f32")
        for name in (
            *(piece.name for matrix in plan.matrices for piece in matrix.pieces),
            *(weight for vector in plan.vectors for weight in vector.names),
        )
    }, "every weight is used"


def test_the_source_and_the_library_describe_the_same_operations() -> None:
    library = native.library()
    if library is not None:
        assert (DESCRIBED.ops, DESCRIBED.choices) == (library.ops, library.choices)
    assert len(DESCRIBED.ops) > 20


# ------------------------------------------------------------------ the library


@BUILT
@BY_CASE
@torch.no_grad()
def test_logits_equal_those_of_the_torch_model(case: str) -> None:
    model, engine = model_of(case), engine_for(case)
    ids = tokens(model, 2)
    expected = model(ids)
    assert_close(engine(ids.numpy()), expected, "at once")
    state = engine.new_state(2, TOKENS)
    assert_close(np.concatenate([engine(new, state) for new in ids.split(1, 1)], 1), expected, "one by one")
    if model.spec.mtp:
        for k, wanted in enumerate(model.ahead(ids)):
            assert_close(engine.ahead(ids.numpy())[k], wanted, f"module {k} ahead")


@BUILT
@BY_CASE
@torch.no_grad()
def test_any_chunks_rewinds_and_lengths(case: str) -> None:
    model, engine, choose = model_of(case), engine_for(case), random.Random(case)
    ids = tokens(model, 3)
    expected = torch.cat([model(row[None]) for row in ids]).numpy()
    state = engine.new_state(3, TOKENS, slack=choose.choice([0, 3, TOKENS]))
    for _ in range(4):
        while (room := TOKENS - state.length) > 0:
            most = choose.choice([1, min(4, room), room])
            counts = [choose.randint(1, most) for _ in range(3)]
            starts = state.lengths
            new = np.zeros((3, max(counts)), np.int64)
            for row, (start, count) in enumerate(zip(starts, counts, strict=True)):
                new[row, :count] = ids[row, start : start + count]
            got = engine(new, state, counts)
            for row, (start, count) in enumerate(zip(starts, counts, strict=True)):
                wanted = expected[row, start : start + count]
                assert_close(got[row, :count], wanted, f"row {row}, {count} tokens at {start}", 2 * CLOSE)
                assert not got[row, count:].any(), "padding has no logits"
            if choose.random() < 0.4:
                state.snapshot()
        back = state.reach(choose.randint(0, min(state.lengths)))
        assert state.reach(back) == back
        state.rewind(back)
        assert state.lengths == [back] * 3


@BUILT
@BY_CASE
def test_sequences_side_by_side(case: str) -> None:
    """A long prompt, a sequence that decodes and one whose logits nobody wants: each gives what it gives alone, and so
    does a fork after it has gone another way."""
    engine = engine_for(case)
    rng = np.random.default_rng(len(case))
    long, short, other = (rng.integers(0, engine.spec.embedding.vocab, n).tolist() for n in (TOKENS, 12, 9))
    alone = [engine([ids])[0] for ids in (long, short, [*short[:6], *other])]
    a, b = engine.sequence(TOKENS), engine.sequence(TOKENS, slack=TOKENS)
    (first,) = engine.step([(b, short[:5], "all")])
    one, none = engine.step([(b, short[5:6], "last"), (a, long[:3], "none")])
    fork = b.fork()
    rest, last, forked = engine.step([(a, long[3:], "all"), (b, short[6:], "last"), (fork, other, "all")])
    assert none is None
    assert (one.shape[0], last.shape[0]) == (1, 1)
    bound = 2 * CLOSE
    assert_close(np.concatenate((first, one)), alone[1][:6], "in chunks", bound)
    assert_close(rest, alone[0][3:], "a long prompt", bound)
    assert_close(last, alone[1][-1:], "the last token", bound)
    assert_close(forked, alone[2][6:], "a fork", bound)
    assert (a.length, b.length, fork.length) == (TOKENS, 12, 15)
    assert engine.step([]) == []


@BUILT
def test_a_step_that_cannot_be_done_changes_nothing() -> None:
    engine = engine_for("llama_no_groups")
    a, b = engine.sequence(8), engine.sequence(8)
    for parts, message in (
        ([(a, [1], "last"), (b, [1] * 9, "last")], "sequence 1 holds 8 tokens, and 0 . 9 are needed"),
        ([(a, [1], "last"), (a, [2], "last")], "sequence 1 is given twice"),
        ([(a, [1], "last"), (b, [83], "last")], "token ids run from 0 to 82"),
        ([(a, [1], "last"), (b, [], "last")], "input_ids must be integers"),
        ([(a, [1], "last"), (engine_for("gemma3").sequence(8), [1], "last")], "sequence 1 belongs to another engine"),
        ([(a, [1], "some")], "logits are wanted of last, all, none, not of 'some'"),
    ):
        with pytest.raises(vt.InputError, match=message):
            engine.step(parts)
        assert (a.length, b.length) == (0, 0)
    with pytest.raises(vt.InputError, match="a capacity of at least 1"):
        engine.sequence(0)


@BUILT
def test_every_decoder_case_runs_natively(capsys: pytest.CaptureFixture[str]) -> None:
    run = [case for case in cases.PLAIN if engine_for(case).spec == model_of(case).spec]
    with capsys.disabled():
        print(f"\nnative: {len(run)} of {len(cases.PLAIN)} decoder cases")
    assert len(run) == len(cases.PLAIN)


LOADED = [case for case in cases.COMPARED if CASES[case]["model_type"] in ("gpt2", "gpt_oss", "llama4_text")]
LOADED += ["olmo_hybrid_implied", "mixtral", "qwen3_next", "gemma3n_shared"]


@BUILT
@pytest.mark.parametrize("case", [case for case in dict.fromkeys(LOADED) if case in cases.COMPARED])
def test_checkpoints_are_loaded_without_torch(case: str, checkpoint: Checkpoint) -> None:  # noqa: F811
    """Files as transformers writes them: fused, transposed, one tensor for each expert."""
    expected: reference.Reference = checkpoint(case)
    engine = vt.engine(expected.folder)
    assert_close(engine(expected.input_ids.numpy()), expected.logits, case, 2 * CLOSE)
    assert set(engine.weights) == {"f32"}


@BUILT
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux")
def test_threads_stay_on_their_processors(checkpoint: Checkpoint) -> None:  # noqa: F811
    expected: reference.Reference = checkpoint("olmo_hybrid_implied")
    before, last = set(os.listdir("/proc/self/task")), max(os.sched_getaffinity(0))
    engine = vt.engine(expected.folder, cpus=[last, last, last])
    assert_close(engine(expected.input_ids.numpy()), expected.logits, "on one processor", 2 * CLOSE)
    others = set(os.listdir("/proc/self/task")) - before  # by now those that have packed are gone
    assert [os.sched_getaffinity(int(thread)) for thread in others].count({last}) == 2


@BUILT
@torch.no_grad()
def test_formats_lose_no_more_than_their_bits() -> None:
    model = model_of("llama_no_groups")
    ids = tokens(model, 2)
    wanted = model(ids).numpy()

    def error(name: str) -> float:
        return float(np.abs(engine_of(model, name)(ids.numpy()) - wanted).mean())

    errors = {name: error(name) for name in ("f32", "f16", "bf16", "q8", "q4m", "q4")}
    assert set(errors) < set(FORMATS)
    assert list(errors) == sorted(errors, key=lambda name: errors[name]), errors
    assert errors["bf16"] < 0.02 < errors["q4"] < 0.6, errors


@BUILT
def test_what_is_generated_is_what_the_torch_model_generates() -> None:
    model, engine = model_of("gemma3"), engine_for("gemma3")
    prompts = [[5, 9, 11, 3], [7], list(range(3, 33))]
    options: list[dict[str, Any]] = [{}, {"temperature": 0.8, "top_k": 20, "seed": 3}, {"repetition_penalty": 1.3}]
    for given in options:
        wanted = vt.generate(model, prompts, max_new_tokens=9, ignore_eos=True, **given)
        got = engine.generate(prompts, max_new_tokens=9, ignore_eos=True, **given)
        assert (got.dtype, got.tolist()) == (np.int64, wanted.tolist())


@BUILT
def test_two_engines_share_nothing() -> None:
    one, other = engine_of(model_of("gemma3")), engine_of(model_of("qwen3_next"))
    ids = np.arange(3, 20)[None]
    first, second = one(ids), other(ids)
    state = one.new_state(1, 40)
    one(ids[:, :9], state)
    assert np.array_equal(other(ids), second)
    assert np.array_equal(one(ids), first)
    assert_close(one(ids[:, 9:], state), first[:, 9:], "an interrupted text")


@BUILT
def test_what_a_token_reads_is_counted() -> None:
    model = model_of("mixtral")
    engine, router = engine_for("mixtral"), model.spec.layers[0].branches[1].body.router
    plan, places = engine._running.plan, engine._running.packed.places
    used = {m: places[m].bytes * (router.active / router.experts if m.copies > 1 else 1) for m in plan.matrices}
    table = next(m for m in plan.matrices if m.pieces[0].name == "embedding.weight")
    used[table] = places[table].bytes / table.rows
    state = sum(4 * int(heads * (k + v)) * 7 for heads, k, v, *_ in plan.states)
    assert engine.bytes_per_token(7) == pytest.approx(sum(used.values()) + state, abs=2)
    assert engine.bandwidth() > 1e6


# ------------------------------------------------------------------ refusals


@BUILT
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e(np.array([[83]])), "token ids run from 0 to 82, got 83 to 83"),
        (lambda e: e(np.array([[-1]])), "token ids run from 0 to 82, got -1"),
        (lambda e: e(np.array([1, 2])), "input_ids must be integers"),
        (lambda e: e(np.zeros((1, 0), np.int64)), "input_ids must be integers"),
        (lambda e: e(np.zeros((1, 3))), "input_ids must be integers"),
        (lambda e: e(np.ones((2, 3), int), lengths=[1, 4]), "lengths must be 2 numbers from 1 to 3"),
        (
            lambda e: e(np.ones((1, 3), int), e.new_state(1, 2)),
            "sequence 0 holds 2 tokens, and 0 . 3 are needed: ask for a capacity of 3",
        ),
        (lambda e: e(np.ones((1, 3), int), e.new_state(2, 9)), "the state is for 2 sequences, got 1"),
        (lambda e: e.new_state(0), "a batch of at least 1"),
        (lambda e: e.ahead(np.ones((1, 3), int)), "without layers for multi-token prediction"),
        (lambda e: e.generate([[1]], temperature=-1), "temperature must be at least 0"),
        (lambda e: e.generate([[]]), "the prompt is empty"),
        (lambda e: e.new_state(1, 9).rewind(3), "cannot return to 3 tokens; the nearest is 0"),
    ],
)
def test_what_cannot_be_done_is_refused(call: Callable[[Engine], object], message: str) -> None:
    with pytest.raises(vt.InputError, match=message):
        call(engine_for("llama_no_groups"))


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("weights", ["as-is", "q4"])
def test_what_is_not_the_files_is_packed_from_floats(kind: str, weights: Weights) -> None:
    """Matrices that are made from others, as latent attention's, take only formats that floats are quantised to."""
    stored, changed = (format_for(weights, kind, role) for role in ("matmul", "changed"))
    assert changed in FROM_FLOATS
    assert changed == stored or stored not in FROM_FLOATS


def test_options_are_checked_and_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for options, message in (
        ({"weights": "q3"}, "weights='q3' is not one of as-is"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"state": "f8"}, "state='f8' is not one of f32"),
        ({"cpus": [0, -1]}, r"cpus must be one of the processors .* for each of 2 threads, got \[0, -1\]"),
        ({"threads": 3, "cpus": [0, 0]}, "for each of 3 threads"),
        ({"cpus": []}, "cpus must be"),
    ):
        with pytest.raises(vt.InputError, match=message):
            vt.engine(tmp_path, **options)
    monkeypatch.setattr(loading, "library", lambda: None)
    with pytest.raises(vt.InputError, match=r"not built: run `python -m vitruvius.native.build`"):
        vt.engine(tmp_path)


@BUILT
def test_weights_that_do_not_fit_are_refused_before_anything_is_read() -> None:
    library = native.library()
    assert library is not None
    plans = loading.lowered(vt.architecture("deepseek-v3"), library, lambda name, role: "f32")
    with pytest.raises(vt.InputError, match=r"the weights need 2,\d\d\d\.\d GiB as they are packed"):
        Packed(library, plans)


@BUILT
def test_no_torch_is_needed(checkpoint: Checkpoint) -> None:  # noqa: F811
    folder = checkpoint("qwen3").folder
    code = (
        "import sys; sys.modules.update(torch=None, transformers=None)\n"
        "import vitruvius as vt\n"
        f"print(vt.engine({str(folder)!r}).generate([[5, 6, 7]], max_new_tokens=4).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    wanted = vt.generate(vt.load(folder), [[5, 6, 7]], max_new_tokens=4).tolist()
    assert done.stdout.strip() == str(wanted)
