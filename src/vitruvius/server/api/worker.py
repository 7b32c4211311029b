"""The one thread that runs models. It owns their schedulers: all that others want of them is done here, between two
steps."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

from ...errors import InputError
from ...inference.request import Completion, Token
from ...inference.runner import Runner
from ...inference.scheduler import Scheduler
from .ticket import StoppedError, Ticket

T = TypeVar("T")
log = logging.getLogger(__name__)


class Resident:
    """A model at work, with the requests that it runs. Only the worker's thread may touch it.

    Args:
        runner: the model.
        weights: bytes of its weights.
        scheduler: makes a scheduler for it.
    """

    def __init__(self, runner: Runner, weights: int, scheduler: Callable[[Runner], Scheduler]) -> None:
        self.runner, self.weights, self._new = runner, weights, scheduler
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forgets all requests, and what they have left behind."""
        self.tickets: dict[Completion, Ticket] = {}
        self.scheduler = self._new(self.runner)


class Worker:
    """A thread that steps models in turn, as long as any has something to do.

    Args:
        memory: bytes for the weights and states of all.
    """

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.residents: list[Resident] = []
        self.steps = self.faults = 0
        self.lent = 0  # bytes for what is no request
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins; tickets hear on `loop` what comes of them."""
        self._loop = loop
        self._thread.start()

    def stop(self) -> None:
        """Ends after the step that is under way; requests that are not done fail."""
        self._stopping = True
        self._inbox.put(lambda: None)
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether it can take requests."""
        return self._thread.is_alive() and not self._stopping

    async def call(self, what: Callable[[], T]) -> T:
        """Does something in the thread, between two steps; what it returns or raises. Raises StoppedError where the
        thread has ended."""
        future: Future[T] = Future()

        def do() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(what())
                except BaseException as error:  # whoever called must hear it, whatever it is
                    future.set_exception(error)

        if not self.alive:
            raise StoppedError("the server stops")
        self._inbox.put(do)
        return await asyncio.wrap_future(future)

    def post(self, what: Callable[[], None]) -> None:
        """The same for what nobody waits for."""
        self._inbox.put(what)

    # ------------------------------------------------------------------ what is called and posted

    def admit(self, resident: Resident) -> None:
        """Takes a model in."""
        self.residents.append(resident)

    def dismiss(self, resident: Resident) -> None:
        """Lets a model go; its requests fail."""
        self._fail(resident, StoppedError("the model is unloaded"))
        self.residents.remove(resident)

    def add(self, resident: Resident, tickets: Sequence[Ticket]) -> None:
        """Takes requests, all or none. Raises InputError for one that cannot be."""
        resident.scheduler.memory = self._states()  # as much as there may be, some time
        added: list[Completion] = []
        try:
            for ticket in tickets:
                ticket.completion = resident.scheduler.add(ticket.request)
                added.append(ticket.completion)
        except Exception:  # any, since none of them may stay behind
            for completion in added:
                resident.scheduler.cancel(completion)
            raise
        resident.tickets |= dict(zip(added, tickets, strict=True))

    def cancel(self, resident: Resident, tickets: Sequence[Ticket]) -> None:
        """Ends requests that have not ended; nobody hears of them any more."""
        for ticket in tickets:
            if ticket.completion and resident.tickets.pop(ticket.completion, None):
                resident.scheduler.cancel(ticket.completion)

    def lend(self, size: int) -> None:
        """Sets bytes aside for what is no request. Raises InputError where there are not as many."""
        for each in self.residents:
            if each.scheduler.idle:
                each.scheduler.forget()
        left = self._states() - sum(each.scheduler.reserved for each in self.residents)
        if size > left:
            raise InputError(f"this needs {size:,} bytes of memory, and {left:,} are free; try again, or ask for less")
        self.lent += size

    def give_back(self, size: int) -> None:
        """Frees them."""
        self.lent -= size

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._take(wait=all(resident.scheduler.idle for resident in self.residents))
                for resident in [*self.residents]:
                    if not resident.scheduler.idle:
                        self._step(resident)
        except Exception:  # a fault of ours: those who wait must hear of it
            log.exception("the thread that runs models has ended")
        finally:
            self._stopping = True
            for resident in self.residents:
                self._fail(resident, StoppedError("the server stops"))
            self._take(wait=False)

    def _take(self, wait: bool) -> None:
        """Does what others have asked for."""
        try:
            self._inbox.get(block=wait)()
            while True:
                self._inbox.get_nowait()()
        except Empty:
            pass

    def _step(self, resident: Resident) -> None:
        others = [other.scheduler for other in self.residents if other is not resident]
        if resident.scheduler.waiting:
            for other in others:
                if other.idle:
                    other.forget()
        resident.scheduler.memory = self._states() - sum(other.reserved for other in others)
        try:
            events = resident.scheduler.step()
        except Exception as error:  # whatever it is, no request may wait for ever
            log.exception("a step has failed")
            self.faults += 1
            self._fail(resident, StoppedError(f"the model met a fault ({type(error).__name__}); try again"))
            return
        self.steps += 1
        told: dict[Completion, list[Token]] = defaultdict(list)
        for event in events:
            told[event.completion] += [event.token] if event.token else []
        groups = []
        for completion, tokens in told.items():
            last = completion.finish is not None
            if ticket := resident.tickets.pop(completion, None) if last else resident.tickets.get(completion):
                groups.append((ticket, tokens, last))

        def deliver() -> None:
            for ticket, tokens, last in groups:
                ticket.deliver(tokens, last)

        self._tell(deliver)

    def _states(self) -> int:
        """Bytes for the states of all models."""
        return self.memory - self.lent - sum(resident.weights for resident in self.residents)

    def _fail(self, resident: Resident, error: StoppedError) -> None:
        tickets = list(resident.tickets.values())
        resident.begin_anew()

        def fail() -> None:
            for ticket in tickets:
                ticket.fail(error)

        self._tell(fail)

    def _tell(self, what: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:  # the loop is closed: nobody listens any more
            log.debug("nobody listens any more")
