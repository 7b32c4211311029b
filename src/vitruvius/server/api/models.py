"""The models that are served: each loaded when it is asked for, as far as memory goes, and unloaded when it is idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from ...checkpoints.pooling import Pooling
from ...errors import InputError
from ...inference.grammars import Grammars
from ...inference.request import Request
from ...inference.runner import Runner
from ...inference.scheduler import Scheduler
from ...inference.tools.formats import ToolFormat, tool_format
from .errors import RefusedError
from .memory import shown
from .ticket import Flight
from .worker import Resident, Worker

if TYPE_CHECKING:
    from ...checkpoints.tokenizer import Tokenizer
    from ...spec import Decoder


@dataclass(frozen=True)
class Limits:
    """What one server does at once.

    Args:
        running: requests of a model that are at work at once.
        waiting: requests that may wait, of all models; others are told to come again.
        seconds: a request may take, waiting included.
        prefixes: finished sequences that a model remembers.
        idle: seconds after which a model that nobody asks is unloaded; never, if None.
        lookup, draft: tokens to guess at a time, see `Request`; drafts of models that have the layers for it.
    """

    running: int = 64
    waiting: int = 256
    seconds: float = 600.0
    prefixes: int = 32
    idle: float | None = None
    lookup: int = 0
    draft: int = 0


@dataclass(frozen=True)
class Offer:
    """A model that may be asked for.

    Args:
        name: by which requests call it.
        spec: its architecture.
        weights: bytes that its weights take.
        open: loads it, with its tokenizer; takes seconds to minutes.
        sampling: how tokens are chosen unless a request says otherwise, as its files ask.
        pooling: how it makes one vector of a text, where it embeds.
    """

    name: str
    spec: Decoder
    weights: int
    open: Callable[[], tuple[Runner, Tokenizer]]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    pooling: Pooling = field(default_factory=Pooling)
    created: int = field(default_factory=lambda: int(time()))


class LiveModel:
    """A model that is loaded."""

    def __init__(self, offer: Offer, runner: Runner, tokenizer: Tokenizer, limits: Limits) -> None:
        self.offer, self.tokenizer = offer, tokenizer
        self.resident = Resident(
            runner,
            offer.weights,
            lambda runner: Scheduler(
                runner,
                memory=0,
                max_running=limits.running,
                prefixes=limits.prefixes,
                draft=limits.draft > 0 and runner.drafts,
            ),
        )
        self.lookup, self.draft = limits.lookup, limits.draft
        self.users, self.used = 0, monotonic()

    @property
    def spec(self) -> Decoder:
        """Its architecture."""
        return self.offer.spec

    @cached_property
    def eos(self) -> frozenset[int]:
        """The ids that end a text or a turn."""
        return frozenset((*self.resident.runner.eos, *self.tokenizer.eos_ids))

    @cached_property
    def tool_format(self) -> ToolFormat | None:
        """How it writes calls of tools; None where it knows none."""
        return tool_format(self.tokenizer)

    @cached_property
    def grammars(self) -> Grammars:
        """Makes grammars for it."""
        return Grammars(self.tokenizer, self.spec.output_width, self.eos)


def opened(offer: Offer, limits: Limits) -> LiveModel:
    """Loads a model, and lets it read a few tokens, so that its first request is no slower than others."""
    runner, tokenizer = offer.open()
    if not runner.spec.encoder:
        sequence = runner.sequence(2)
        runner.step([(sequence, [0], "none")])
        runner.step([(sequence, [0], "last")])
    return LiveModel(offer, runner, tokenizer, limits)


class Models:
    """All that are served. Everything here is called on the event loop."""

    def __init__(self, offers: Sequence[Offer], memory: int, limits: Limits) -> None:
        for offer in offers:
            if offer.weights >= memory:
                raise InputError(
                    f"{offer.name} needs {shown(offer.weights)} for its weights, and there are {shown(memory)}: "
                    "give more with --memory, or a smaller format with --weights"
                )
        self.offers = {offer.name: offer for offer in offers}
        self.limits, self.worker = limits, Worker(memory)
        self.open = 0  # requests that wait or are at work
        self._live: dict[str, LiveModel] = {}
        self._loading = asyncio.Lock()
        self._freed = asyncio.Event()

    @property
    def live(self) -> Sequence[LiveModel]:
        """Those that are loaded."""
        return [*self._live.values()]

    async def start(self, ready: Sequence[LiveModel] = ()) -> None:
        """Begins, with models that are loaded already."""
        self.worker.start(asyncio.get_running_loop())
        for live in ready:
            await self._admit(live)

    def stop(self) -> None:
        """Ends; requests that are not done fail."""
        self.worker.stop()

    def offer(self, name: str | None) -> Offer:
        """The offer of this name; the first one where none is said. Raises RefusedError (404) where there is none."""
        if name is None:
            return next(iter(self.offers.values()))
        if name not in self.offers:
            there = ", ".join(self.offers)
            raise RefusedError(404, f"there is no model {name[:80]!r}; there are {there}", "model", "model_not_found")
        return self.offers[name]

    @asynccontextmanager
    async def using(self, name: str | None) -> AsyncIterator[LiveModel]:
        """A model that is loaded, and stays so within the block. Raises RefusedError."""
        offer = self.offer(name)
        try:
            async with asyncio.timeout(self.limits.seconds):
                live = await self._loaded(offer)
        except TimeoutError:
            raise RefusedError(503, f"{offer.name} could not be loaded in time; try again", retry=10) from None
        live.users += 1
        try:
            yield live
        finally:
            live.users, live.used = live.users - 1, monotonic()
            self._freed.set()

    @asynccontextmanager
    async def flight(self, live: LiveModel, requests: Sequence[Request]) -> AsyncIterator[Flight]:
        """Requests on their way; those that have not ended at the end of the block are cancelled.

        Raises RefusedError (429) where too many wait, and InputError for a request that cannot be.
        """
        most, count = self.limits.running + self.limits.waiting, len(requests)
        if count > most:
            raise RefusedError(400, f"the call has {count:,} prompts and answers, and {most:,} is the most", "n")
        if self.open + count > most:
            raise RefusedError(429, f"{self.open:,} requests are on their way; try again", code="queue_full", retry=1)
        self.open += count
        flight = Flight(requests)
        try:
            await self.worker.call(lambda: self.worker.add(live.resident, flight.tickets))
            yield flight
        finally:
            self.open -= count
            self.worker.post(lambda: self.worker.cancel(live.resident, flight.tickets))

    async def unload_idle(self) -> None:
        """Unloads what nobody has asked for long enough; for as long as it is not cancelled."""
        assert self.limits.idle is not None
        while True:
            await asyncio.sleep(min(self.limits.idle, 30.0) / 4)
            for live in self.live:
                if not live.users and monotonic() - live.used > self.limits.idle:
                    await self._unload(live)

    async def _loaded(self, offer: Offer) -> LiveModel:
        if offer.name not in self._live:
            async with self._loading:  # one at a time
                if offer.name not in self._live:
                    await self._make_room(offer.weights)
                    try:
                        live = await asyncio.to_thread(opened, offer, self.limits)
                    except InputError as error:
                        raise RefusedError(503, f"{offer.name} cannot be loaded: {error}") from None
                    await self._admit(live)
        return self._live[offer.name]

    async def _admit(self, live: LiveModel) -> None:
        await self.worker.call(lambda: self.worker.admit(live.resident))
        self._live[live.offer.name] = live

    async def _make_room(self, needed: int) -> None:
        """Unloads models that nobody uses, those that were used longest ago first, until there is room; where all are
        in use, waits."""
        while sum(live.offer.weights for live in self.live) + needed >= self.worker.memory:
            self._freed.clear()
            unused = sorted((live for live in self.live if not live.users), key=lambda live: live.used)
            if unused:
                await self._unload(unused[0])
            else:
                await self._freed.wait()

    async def _unload(self, live: LiveModel) -> None:
        del self._live[live.offer.name]
        await self.worker.call(lambda: self.worker.dismiss(live.resident))
