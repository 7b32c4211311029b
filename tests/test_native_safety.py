"""The native engine and what it should withstand: hostile plans, calls, files, interruptions, several threads, a fork,
ten thousand generations. With sanitizers, and a hundred thousand inputs: tests/fuzz.py."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fuzz
import numpy as np
import pytest
from hostile import files

import vitruvius as vt
from vitruvius.errors import InputError
from vitruvius.inference.native import NativeEngine as Engine
from vitruvius.native import library as native

pytestmark = pytest.mark.skipif(native.library() is None, reason="python -m vitruvius.native.build")

PLAIN, RECURRENT, WINDOWED = "llama", "mamba2", "mistral_window"
LONG = 90  # tokens of a text: several windows, within every context
IDS = [int(i) for i in np.random.default_rng(5).integers(0, 83, LONG)]


@pytest.fixture
def engine(tmp_path: Path, request: pytest.FixtureRequest) -> Engine:
    return vt.engine(files.right(tmp_path, request.param), threads=2)


def one_of(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("engine", names, indirect=True)


# Hostile inputs


@pytest.mark.parametrize(("kind", "count"), [("plan", 150), ("random", 60), ("pack", 300), ("file", 120)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of weights that are not numbers
def test_hostile_inputs_are_refused_or_run(kind: str, count: int, tmp_path: Path) -> None:
    built = native.library()
    assert built is not None
    run = fuzz.inputs(kind, built.path, tmp_path)
    done = sum((run(number) for number in range(count)), Counter())
    assert done.total() > 0, "some are right"


def test_tensors_at_odd_places_are_read(tmp_path: Path) -> None:
    """The tensors of a safetensors file need not be aligned."""
    _, header, data = files.safetensors_file(PLAIN, "F32", 0)
    expected = vt.engine(files.right(tmp_path, PLAIN))([IDS])
    (tmp_path / "model.safetensors").write_bytes(files.spelled(header, data, spaces=1 + -len(str(header)) % 2))
    for spaces in (0, 1, 2, 3):
        (tmp_path / "model.safetensors").write_bytes(files.spelled(header, data, spaces))
        assert np.array_equal(vt.engine(tmp_path)([IDS]), expected), spaces


# Memory


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def mapped() -> int:
    """How many ranges of memory this process has mapped: all that the library allocates is one each."""
    return len(Path("/proc/self/maps").read_text().splitlines())


def generate(engine: Engine, times: int) -> None:
    for _ in range(times):
        state = engine.new_state(1, capacity=32)
        engine.feed([IDS[:4]], state)
        state.snapshot()
        engine.feed([IDS[4:5]], state)


@pytest.mark.parametrize("times", [400, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
@one_of(PLAIN, RECURRENT)
def test_generations_leave_no_memory_behind(engine: Engine, times: int) -> None:
    generate(engine, 200)
    gc.collect()
    before, ranges = resident(), mapped()
    generate(engine, times)
    gc.collect()
    assert abs(mapped() - ranges) <= 4, "the interpreter's own arenas come and go"
    assert resident() - before < 2 << 20


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_engines_leave_no_memory_behind(tmp_path: Path) -> None:
    files.right(tmp_path, PLAIN)

    def turn() -> None:
        loaded = vt.engine(tmp_path, threads=2)
        generate(loaded, 1)

    for _ in range(10):
        turn()
    gc.collect()
    before, ranges, threads = resident(), mapped(), len(os.listdir("/proc/self/task"))
    for _ in range(50):
        turn()
    gc.collect()
    assert len(os.listdir("/proc/self/task")) == threads
    assert abs(mapped() - ranges) <= 8
    assert resident() - before < 4 << 20


# Several engines, several threads, several processes


def test_two_engines_take_turns(tmp_path: Path) -> None:
    """Of other sizes, kinds of state, instruction sets and numbers of threads."""
    built = native.library()
    assert built is not None
    cases = (PLAIN, RECURRENT)
    folders = [files.right(tmp_path / case, case) for case in cases if not (tmp_path / case).mkdir()]
    engines = [
        vt.engine(folder, threads=count, simd=simd)
        for folder, count, simd in zip(folders, (2, 1), (built.simd[0], built.simd[-1]), strict=True)
    ]
    alone = [engine([IDS])[0] for engine in engines]
    states = [engine.new_state(1, capacity=LONG) for engine in engines]
    for at in range(0, LONG, 9):
        for engine, state, expected in zip(engines, states, alone, strict=True):
            got = engine([IDS[at : at + 9]], state)[0]
            np.testing.assert_allclose(got, expected[at : at + 9], rtol=0, atol=1e-4)
    with pytest.raises(InputError, match="another engine"):
        engines[0].feed([IDS[:1]], engines[1].new_state(1, capacity=8))


@one_of(PLAIN, RECURRENT)
def test_calls_from_several_threads_are_right_or_refused(engine: Engine) -> None:
    expected = engine([IDS])[0, -1]
    counts: Counter[str] = Counter()
    wrong: list[str] = []

    def work() -> None:
        for _ in range(60):
            try:
                state = engine.new_state(1, capacity=LONG)
                got = engine.feed([IDS], state)[0]
                if not np.allclose(got, expected, rtol=0, atol=1e-5) or state.length != LONG:
                    wrong.append("another result")
                counts["right"] += 1
            except InputError as error:
                counts["refused"] += 1
                if "in use by another thread" not in str(error):
                    wrong.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "none waits for ever"
    assert not wrong
    assert counts["right"] > 0
    assert np.array_equal(engine([IDS])[0, -1], expected), "afterwards it works as before"


@one_of(PLAIN, RECURRENT)
def test_one_state_asked_by_other_threads(engine: Engine) -> None:
    """Its numbers are right or refused while it grows, and takes snapshots."""
    state, done = engine.new_state(1, capacity=LONG), threading.Event()
    seen: list[int] = []
    problems: list[str] = []

    def ask() -> None:
        while not done.is_set():
            try:
                seen.extend((state.length, state.reach(LONG), state.nbytes))
            except InputError as error:
                if "in use by another thread" not in str(error):
                    problems.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for token in IDS:
            for call in (lambda t=token: engine.feed([[t]], state), state.snapshot):
                until_free(call)
    finally:
        done.set()
        asking.join(60)
    assert not problems
    assert min(seen, default=0) >= 0
    assert state.length == LONG


def until_free(call: object) -> None:
    """Tries again while another thread uses the engine."""
    for _ in range(10_000):
        try:
            call()  # type: ignore[operator]
            return
        except InputError as error:
            if "in use by another thread" not in str(error):
                raise
    raise AssertionError("the engine stayed in use")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@one_of(PLAIN)
def test_a_forked_process_is_refused_and_ends(engine: Engine) -> None:
    """The engine's threads are not there in a fork: it would wait for them without end."""
    state = engine.new_state(1, capacity=LONG)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            engine.feed([IDS], state)
        except InputError as error:
            code = 0 if "forked" in str(error) else 2
        del engine, state
        gc.collect()
        os._exit(code)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the fork hangs")
    assert os.waitstatus_to_exitcode(status) == 0
    assert engine.feed([IDS], state).shape == (1, 83)


# Interruptions


@pytest.fixture
def interrupts() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, as in a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("seed", range(3))
@one_of(PLAIN, RECURRENT, WINDOWED)
def test_an_interruption_leaves_whole_tokens(engine: Engine, seed: int) -> None:
    """Ctrl-C while tokens are fed one by one: the state stands after a whole number of them, and goes on from there."""
    expected = engine([IDS])[0]
    state = engine.new_state(1, capacity=LONG)
    timer = threading.Timer(random.Random(seed).uniform(0.0005, 0.005), signal.raise_signal, (signal.SIGINT,))
    fed = 0
    try:
        timer.start()
        for _ in range(1_000):
            for token in IDS[state.length :]:
                engine.feed([[token]], state)
                fed += 1
            state.rewind(0)
    except KeyboardInterrupt:
        pass
    timer.join()
    assert state.length % LONG in (fed % LONG, (fed + 1) % LONG), "at most one token is not yet counted"
    if state.length == LONG:
        state.rewind(0)
    rest = state.length
    got = engine([IDS[rest:]], state)[0]
    np.testing.assert_allclose(got, expected[rest:], rtol=0, atol=1e-4)


@one_of(PLAIN, RECURRENT, WINDOWED)
def test_a_step_ended_from_another_thread_can_be_returned_from(engine: Engine) -> None:
    """vt_interrupt: the step fails, and its sequence can be rewound and used again."""
    expected = engine([IDS])[0, -1]
    library, handle = engine._running.library, engine._running._engine.address
    state, done = engine.new_state(1, capacity=LONG), threading.Event()

    def interrupt() -> None:
        while not done.is_set():
            library.get("vt_interrupt", handle)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    ended = 0
    try:
        for _ in range(200):
            try:
                engine.feed([IDS], state)
            except InputError as error:
                assert "interrupted" in str(error)  # noqa: PT017
                ended += 1
            state.rewind(state.reach(0))
    finally:
        done.set()
        interrupting.join(60)
    assert ended > 0
    np.testing.assert_allclose(engine.feed([IDS], state)[0], expected, rtol=0, atol=1e-5)


@one_of(PLAIN)
def test_whatever_is_dropped_first(engine: Engine) -> None:
    """A state keeps its engine's memory until it goes."""
    state = engine.new_state(2, capacity=8)
    engine.feed([[1], [2]], state)
    running = engine._running
    del engine
    gc.collect()
    assert state.lengths == [1, 1]
    out = np.full((2, 83), np.nan, np.float32)
    handles = [sequence.handle for sequence in state.sequences]
    running.step(handles, [1, 1], np.array([3, 3], np.int32), np.ones(2, np.uint8), out)
    assert np.isfinite(out).all()
    del running
    gc.collect()
    assert state.nbytes > 0
