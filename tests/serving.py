"""A server for tests: in this process, on a free port, with SmolLM2 or with a model that writes what it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx2
import numpy as np
import uvicorn

import vitruvius as vt
from vitruvius.checkpoints.tokenizer import Tokenizer
from vitruvius.inference.runner import Runner
from vitruvius.server.api.application import Service
from vitruvius.server.api.models import Limits, LiveModel, Models, Offer, opened
from vitruvius.spec import Decoder

SMOLLM2 = "smollm2-135m-instruct"
GIB = 2**30


def offered(name: str, runner: Runner, tokenizer: Tokenizer, weights: int = 1000) -> Offer:
    return Offer(name, runner.spec, weights, lambda: (runner, tokenizer))


def service(
    offers: Sequence[Offer], limits: Limits | None = None, memory: int = 4 * GIB, ready: int = 1, **options: Any
) -> Service:
    limits = limits or Limits()
    loaded: list[LiveModel] = [opened(offer, limits) for offer in offers[:ready]]
    return Service(Models(offers, memory, limits), loaded, **options)


@contextlib.contextmanager
def running(made: Service, **settings: Any) -> Iterator[str]:
    """The address of a server that runs until the block ends."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(made.app, log_level="error", lifespan="on", timeout_graceful_shutdown=2, **settings)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    at = f"http://127.0.0.1:{listening.getsockname()[1]}"
    for _ in range(200):
        with contextlib.suppress(httpx2.HTTPError):
            if httpx2.get(f"{at}/health").status_code == 200:
                break
        time.sleep(0.02)
    yield at
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
    listening.close()


class SpokenSequence:
    """The ids that it was given."""

    recurrent, windowed, nbytes = False, False, 1

    def __init__(self, capacity: int, ids: Sequence[int] = ()) -> None:
        self.capacity, self.ids = capacity, list(ids)

    @property
    def length(self) -> int:
        return len(self.ids)

    def reach(self, length: int) -> int:
        return min(length, self.length)

    def rewind(self, length: int) -> None:
        del self.ids[length:]

    def snapshot(self) -> None: ...

    def grow(self, capacity: int) -> None:
        self.capacity = max(self.capacity, capacity)

    def fork(self) -> SpokenSequence:
        return SpokenSequence(self.capacity, self.ids)


class Spoken:
    """A model that writes what a function of all ids so far says; None ends the text.

    Args:
        says: ids -> the next one.
        pause: seconds that a step takes.
    """

    def __init__(self, says: Callable[[Sequence[int]], int | None], pause: float = 0.0) -> None:
        self.says, self.pause = says, pause
        self.fault: Exception | None = None
        self.steps: list[int] = []  # the sequences of each

    @property
    def spec(self) -> Decoder:
        return vt.architecture(SMOLLM2)

    @property
    def eos(self) -> frozenset[int]:
        return frozenset({2})

    drafts = False

    def sequence(self, capacity: int | None = None, slack: int = 0, **how: Any) -> SpokenSequence:
        return SpokenSequence(self.spec.context if capacity is None else capacity)

    def sequence_bytes(self, capacity: int, slack: int, snapshots: int, **how: Any) -> int:
        return capacity

    def step(self, parts: Sequence[tuple[SpokenSequence, Sequence[int], str]]) -> list[Any]:
        time.sleep(self.pause)
        if self.fault:
            raise self.fault
        self.steps.append(len(parts))
        found: list[Any] = []
        for sequence, ids, wanted in parts:
            assert sequence.length + len(ids) <= sequence.capacity
            rows = []
            for token in ids:
                sequence.ids.append(token)
                logits = np.zeros(self.spec.head.vocab, np.float32)
                said = self.says(sequence.ids)
                logits[2 if said is None else said] = 40.0
                rows.append(logits)
            found.append(None if wanted == "none" else np.stack(rows if wanted == "all" else rows[-1:]))
        return found

    def draft(self, entries: Any, count: int) -> Any:
        raise AssertionError

    def encode(self, prompt: Sequence[int], capacity: int) -> Any:
        raise AssertionError


def saying(tokenizer: Tokenizer, text: str, mark: str = "assistant\n") -> Callable[[Sequence[int]], int | None]:
    """Writes a text after a conversation, whatever it was; the text may be cut into tokens anyhow."""
    wanted, opening = tokenizer.encode(text, False), tokenizer.encode(mark, False)

    def says(ids: Sequence[int]) -> int | None:
        last = max((i for i in range(len(ids)) if list(ids[i : i + len(opening)]) == opening), default=None)
        begun = len(ids) - (last + len(opening) if last is not None else 0)
        return wanted[begun] if begun < len(wanted) else None

    return says
