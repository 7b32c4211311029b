"""The one loop that writes tokens.

Requests join and leave between steps. Each step gives every sequence that writes its next token, and prompts that are
being read their next chunk, as far as a step's tokens go: a long prompt does not stall the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from ..errors import InputError
from ..spec import DRAFTS, SNAPSHOTS
from .lookup import Lookup
from .payoff import MOST_ROWS, Payoff
from .request import Completion, Finish, Request, Timing, Token, checked_ids, room
from .runner import Logits, Runner, Wanted
from .sampling import log_softmax
from .text import StopStrings, TextDecoder

STEP = 512  # tokens of one step: enough to be fast, and memory and the wait for the others stay bounded
ALL = 64  # tokens of a prompt whose logits are wanted at once: they are as wide as the vocabulary
PAGE = 64  # tokens: the capacity of sequences is a multiple of it, or all that they will need
AHEAD = 128  # tokens more than it holds that a sequence has room for at least, when it begins and when it grows
BEFORE = 4  # tokens of the prompt that a decoder has seen: whether a space follows it depends on them


@dataclass(frozen=True)
class Event:
    """One more token of a request; `token` is None where it ended without one."""

    completion: Completion
    token: Token | None


@dataclass(eq=False)
class _Prefix:
    """The sequence of a request that has ended, and the tokens that it holds."""

    ids: list[int]
    sequence: Any
    bytes: int
    slack: int

    @property
    def read(self) -> int:
        return len(self.ids)


@dataclass(eq=False)
class _Job:
    """A request at work. `sequence` holds the first `read` of its `ids`; the first `begun` of them are the prompt."""

    completion: Completion
    number: int
    prompt: list[int]
    ids: list[int]
    begun: int
    slack: int
    limit: tuple[int, Finish]
    eos: frozenset[int]
    random: np.random.Generator
    decoder: TextDecoder | None
    stop: StopStrings
    lookup: Lookup = field(default_factory=Lookup)
    payoff: Payoff = field(default_factory=Payoff)
    sequence: Any = None
    bytes: int = 0
    read: int = 0
    branch: int = 0  # where another text began to differ: a place for a snapshot
    torn: bool = False  # a step was begun and not finished
    clock: float = 0.0  # seconds since its last token

    @property
    def request(self) -> Request:
        return self.completion.request

    @property
    def new(self) -> int:
        return len(self.ids) - self.begun

    @property
    def order(self) -> tuple[int, int]:
        return self.request.priority, self.number


class Scheduler:
    """Runs requests beside each other on one model. One thread at a time may use it.

    Args:
        runner: the model.
        memory: bytes that sequences may have, in all; no limit, if None. Sequences begin small and grow; where there is
            no more room, the requests that come last give way, and read their text again later.
        max_running: how many requests are at work at once.
        step_tokens: about how many tokens are read in a step; `STEP`, if None.
        prefixes: how many sequences of finished requests are remembered, so that a request that begins like one of them
            reads only the rest.
        slack: tokens beyond their window that windowed layers remember, to go back to.
        draft: whether sequences have what the layers for multi-token prediction need, so that requests may have them
            guess. Raises InputError where the runner has no such layers.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        memory: int | None = None,
        max_running: int | None = None,
        step_tokens: int | None = None,
        prefixes: int = 0,
        slack: int = 0,
        draft: bool = False,
    ) -> None:
        if draft and not runner.drafts:
            raise InputError(f"{runner.spec.name} has no layers for multi-token prediction to draft with")
        self.draft = draft
        self.runner, self.memory, self.max_running = runner, memory, max_running
        self.step_tokens, self.prefixes, self.slack = step_tokens or STEP, prefixes, slack
        self._waiting: list[_Job] = []
        self._running: list[_Job] = []
        self._finished: list[_Prefix] = []  # the one that was used last is the last
        self._events: list[Event] = []
        self._count = 0
        self.preempted = 0  # how often a request had to give way

    # ------------------------------------------------------------------ what clients call

    def add(self, request: Request) -> Completion:
        """Lets a request wait for its turn. Raises InputError for a prompt or options that cannot be."""
        spec = self.runner.spec
        ids = checked_ids(spec, request.ids)
        least = 1 if request.prompt_logprobs is None else 0
        count = room(spec, len(ids), request.max_new_tokens, least)
        if spec.encoder and request.prompt_logprobs is not None:
            raise InputError(f"{spec.name} has an encoder: its prompt has no log-probabilities")
        if request.stop and not request.tokenizer:
            raise InputError("stop strings need a tokenizer, which makes text of the tokens")
        decoder = request.tokenizer.stream(keep=request.keep) if request.tokenizer else None
        if decoder and not spec.encoder:
            for token in ids[-BEFORE:]:
                decoder.push(token)
        job = _Job(
            completion=Completion(request, Timing(len(ids))),
            number=self._count,
            prompt=ids,
            ids=[] if spec.encoder else list(ids),
            begun=0 if spec.encoder else len(ids),
            slack=min(max(self.slack, request.lookup, request.draft, DRAFTS * self.draft), spec.context),
            limit=(count, "length" if count == request.max_new_tokens else "context"),
            eos=self.runner.eos if request.eos is None else frozenset(request.eos),
            random=request.sampler.generator(),
            decoder=decoder,
            stop=StopStrings(request.stop),
        )
        self._check_memory(job)
        self._count += 1
        self._waiting.append(job)
        return job.completion

    def cancel(self, completion: Completion) -> None:
        """Ends a request that has not ended yet."""
        for job in [*self._waiting, *self._running]:
            if job.completion is completion:
                self._end(job, "cancelled")
                self._events.append(Event(completion, None))

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._waiting and not self._running

    @property
    def running(self) -> int:
        """How many requests are at work; `waiting` are the others."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return len(self._waiting)

    @property
    def reserved(self) -> int:
        """Bytes that are set aside for sequences, of those that `memory` allows."""
        return sum(source.bytes for source in self._sources)

    def forget(self) -> None:
        """Forgets the sequences of finished requests."""
        self._finished.clear()

    @property
    def nbytes(self) -> int:
        """Bytes that sequences hold."""
        return sum(source.sequence.nbytes for source in self._sources)

    @property
    def _sources(self) -> list[_Prefix | _Job]:
        """All that has a sequence."""
        return [*self._running, *self._finished]

    def step(self) -> list[Event]:
        """One step of all requests; returns what came of it. An interruption (KeyboardInterrupt) leaves everything so
        that the next step goes on."""
        begun = perf_counter()
        for job in self._running:
            self._settle(job, len(job.ids) - 1)
        self._admit()
        if parts := self._parts():
            for job, *_ in parts:
                job.torn = True
            outputs = self.runner.step([(job.sequence, [*ids, *guess], wanted) for job, ids, guess, wanted in parts])
            for (job, ids, guess, _), logits in zip(parts, outputs, strict=True):
                self._receive(job, ids, guess, logits, begun)
        seconds = perf_counter() - begun
        for job in [*self._waiting, *self._running]:
            job.clock += seconds
        events, self._events = self._events, []
        return events

    def run(self) -> Iterator[Event]:
        """Steps until all requests have ended; what comes of them."""
        while not self.idle:
            yield from self.step()

    def follow(self, completion: Completion) -> Iterator[Token]:
        """The tokens of one request as they come, with steps of all until it has ended. It is cancelled if the iterator
        is closed before. Raises the InputError that the request ended with."""
        told = 0
        try:
            while True:
                while told < len(completion.tokens):
                    told += 1
                    yield completion.tokens[told - 1]
                if completion.error:
                    raise completion.error
                if completion.finish:
                    return
                self.step()
        finally:
            self.cancel(completion)

    def _check_memory(self, job: _Job) -> None:
        """Raises InputError where a request could not even run alone. One that does not say how much it writes writes
        as much as there is room for."""

        def price(capacity: int) -> int:
            return self._price(job, capacity, job.slack)

        if self.memory is None or (needed := price(self._most(job))) <= self.memory:
            return
        if job.request.max_new_tokens is None and not self.runner.spec.encoder:
            fits, not_ = 0, -(-self._most(job) // PAGE)  # pages
            while not_ - fits > 1:
                middle = (fits + not_) // 2
                fits, not_ = (middle, not_) if price(middle * PAGE) <= self.memory else (fits, middle)
            if fits * PAGE > job.begun:
                job.limit = fits * PAGE - job.begun + 1, "context"
                return
        raise InputError(f"the request needs {needed:,} bytes of memory, and there are {self.memory:,}: shorten it")

    # ------------------------------------------------------------------ who is at work

    def _admit(self) -> None:
        """Starts the requests that wait, in their order, as far as there is room."""
        for job in sorted(self._waiting, key=lambda job: job.order):
            if not self._place(job):
                return

    def _place(self, job: _Job) -> bool:
        """Gives a job its sequence, with as much of its text in it as another one has; False where there is no room."""
        if self.max_running is not None and len(self._running) >= self.max_running:
            last = self._running_last_first()[0]
            if last.request.priority <= job.request.priority:
                return False
            self._preempt(last)
        size = self._room(job, len(job.ids))
        source, length = self._source(job)
        alone = isinstance(source, _Prefix) and (length == source.read or len(self._finished) >= self.prefixes)
        alone = alone and not (source and self._keeps(source))
        capacity = max(size, source.sequence.capacity if source else 0)
        slack = source.slack if source else job.slack
        price = self._price(job, capacity, slack)
        if source and not alone and self._free(price, job, source):
            sequence = source.sequence.fork()
            if isinstance(source, _Prefix):
                self._finished.remove(source)
                self._finished.append(source)
        elif isinstance(source, _Prefix) and self._free(price - source.bytes, job, source):
            self._finished.remove(source)  # nobody else will need it, or there is no room for two
            sequence = source.sequence
        else:
            length, capacity, slack, price = 0, size, job.slack, self._price(job, size, job.slack)
            if not self._free(price, job):
                return False
            sequence = self._new(job, size)
        sequence.rewind(length)
        sequence.grow(capacity)
        job.sequence, job.bytes, job.slack, job.read, job.torn = sequence, price, slack, length, False
        job.completion.timing.reused = job.completion.timing.reused or min(length, job.begun)
        self._waiting.remove(job)
        self._running.append(job)
        return True

    def _new(self, job: _Job, size: int) -> Any:
        """An empty sequence; where the model has an encoder, one that remembers the prompt."""
        spec = self.runner.spec
        if not spec.encoder:
            return self.runner.sequence(size, job.slack, draft=self.draft, most=spec.context)
        sequence, start = self.runner.encode(job.prompt, size)
        job.ids, job.begun = [*start, *job.ids[job.begun :]], len(start)
        return sequence

    def _most(self, job: _Job) -> int:
        """The most tokens that its sequence will ever hold."""
        begun = max(job.begun, 1)  # a decoder beside an encoder begins with one token
        return max(begun + job.limit[0] - 1, begun)

    def _room(self, job: _Job, length: int) -> int:
        """The capacity of a sequence that is to hold so many tokens, and more as it is written. It grows by a quarter
        at a time, so that what is copied then stays in proportion."""
        most = self._most(job)
        size = length + max(AHEAD, length // 4)
        return (
            most if self.runner.spec.encoder or size >= most else min(-(-size // PAGE) * PAGE, self.runner.spec.context)
        )

    def _price(self, job: _Job, capacity: int, slack: int) -> int:
        """The most bytes that its sequence may hold with that capacity."""
        if self.memory is None:
            return 0
        snapshots = SNAPSHOTS if self.prefixes or job.request.lookup or job.request.draft else 0
        most = self.runner.spec.context
        return self.runner.sequence_bytes(capacity, slack, snapshots, draft=self.draft, most=most)

    def _grown(self, job: _Job, length: int) -> bool:
        """Gives its sequence room for so many tokens. Where there is none, the requests after it give way, and if that
        is not enough, it gives way itself: False."""
        if length <= job.sequence.capacity:
            return True
        capacity = self._room(job, length)
        price = self._price(job, capacity, job.slack)
        later = [other for other in self._running_last_first() if other.order > job.order]
        if not self._make_room(price - job.bytes, [*self._finished, *later]):
            self._preempt(job)
            return False
        job.sequence.grow(capacity)
        job.bytes = price
        return True

    def _source(self, job: _Job) -> tuple[_Prefix | _Job | None, int]:
        """The sequence that can give a job the longest beginning of its text, and how long that is."""
        best: tuple[_Prefix | _Job | None, int] = (None, 0)
        if self.runner.spec.encoder or not self.prefixes or job.request.prompt_logprobs is not None:
            return best
        for source in self._sources:
            same = shared(source.ids[: source.read], job.ids[:-1])  # the last token is read for its logits
            length = source.sequence.reach(same)
            if source.slack >= job.slack and length > best[1]:
                best = source, length
            if same < source.read:
                job.branch = max(job.branch, same)
        return best

    def _free(self, needed: int, job: _Job, spare: _Prefix | _Job | None = None) -> bool:
        """Makes room for `needed` bytes: forgets finished sequences, then preempts requests of lower priority. Where
        that is not enough, nothing is changed."""
        lower = [other for other in self._running_last_first() if other.request.priority > job.request.priority]
        victims: list[_Prefix | _Job] = [*self._finished, *lower]
        return self._make_room(needed, [victim for victim in victims if victim is not spare])

    def _make_room(self, needed: int, victims: Sequence[_Prefix | _Job]) -> bool:
        """Lets go of victims, in their order, until there is room; where all of them are not enough, of none."""
        if self.memory is None:
            return True
        total = needed + self.reserved
        if total - sum(victim.bytes for victim in victims) > self.memory:
            return False
        for victim in victims:
            if total <= self.memory:
                break
            total -= victim.bytes
            if isinstance(victim, _Job):
                self._preempt(victim)
            else:
                self._finished.remove(victim)
        return True

    def _running_last_first(self) -> list[_Job]:
        return sorted(self._running, key=lambda job: job.order, reverse=True)

    def _preempt(self, job: _Job) -> None:
        """Lets a job wait again; it will read its text anew."""
        self.preempted += 1
        self._running.remove(job)
        self._waiting.append(job)
        job.sequence, job.bytes, job.read = None, 0, 0

    def _end(self, job: _Job, finish: Finish) -> None:
        """Ends a job, and remembers its sequence for others."""
        job.completion.finish = finish
        if job in self._waiting:
            self._waiting.remove(job)
            return
        self._running.remove(job)
        if self.prefixes and not self.runner.spec.encoder:
            self._settle(job, job.read)
            self._finished.append(_Prefix(job.ids[: job.read], job.sequence, job.bytes, job.slack))
            del self._finished[: -self.prefixes]
        job.sequence = None

    def _settle(self, job: _Job, most: int) -> None:
        """Makes a sequence hold a beginning of its job's text of at most so many tokens, whatever came between: guesses
        that were wrong, or an interruption, after which only the sequence knows what it can return to."""
        length = min(job.read, most, job.sequence.length)
        if job.torn or job.sequence.length != length:
            job.sequence.rewind(length := job.sequence.reach(length))
        job.read, job.torn = length, False

    # ------------------------------------------------------------------ what a step does

    def _parts(self) -> list[tuple[_Job, list[int], list[int], Wanted]]:
        """What this step reads of each job: tokens of its text, guesses of what follows, whose logits are wanted."""
        parts: list[tuple[_Job, list[int], list[int], Wanted]] = []
        left = self.step_tokens
        for job in sorted(self._running, key=lambda job: (len(job.ids) - job.read > 1, job.order)):
            if job not in self._running:  # it had to give way to one before it
                continue
            rest = len(job.ids) - job.read
            told = job.request.prompt_logprobs is not None and job.read < job.begun
            count = min(rest, max(left, 1) if rest == 1 else left, ALL if told else rest)
            if job.read < job.branch and (self._snapshots(job) or self._keeps(job)):
                count = min(count, job.branch - job.read)
            if count < 1:
                continue
            if not self._grown(job, job.read + count):
                continue
            ids = job.ids[job.read : job.read + count]
            parts.append((job, ids, [], "all" if told else "last" if count == rest else "none"))
            left -= count
        parts = [part for part in parts if part[0] in self._running]
        guesses, most = self._guesses([part for part in parts if part[3] == "last"]), MOST_ROWS
        for i, (job, ids, _, _) in enumerate(parts):
            if guess := guesses.get(job, [])[:most]:
                most -= len(guess)
                job.completion.timing.guessed += len(guess)
                if job.sequence.recurrent:
                    job.sequence.snapshot()
                parts[i] = job, ids, guess, "all"
        return parts

    def _guesses(self, parts: Sequence[tuple[_Job, list[int], list[int], Wanted]]) -> dict[_Job, list[int]]:
        """Tokens that may follow the texts of jobs that are about to be written: by look-up, else by drafts."""
        found: dict[_Job, list[int]] = {}
        drafting: dict[_Job, int] = {}
        if len(parts) >= MOST_ROWS:
            return found
        for job, ids, *_ in parts:
            room = job.sequence.capacity - len(job.ids)  # nobody gives way for a guess
            room = min(job.limit[0] - job.new - 1, room)
            lookup, draft = min(job.request.lookup, room), min(job.request.draft, DRAFTS, room)
            if max(lookup, draft) < 1 or not job.payoff.pays():
                continue
            guess = job.lookup.guess(job.ids, lookup) if lookup > 0 else []
            if guess:
                found[job] = guess
            elif draft > 0 and self.draft and len(ids) == 1 and job.sequence.length:
                drafting[job] = draft
        if drafting:
            drafts = self.runner.draft([(job.sequence, job.ids[-1]) for job in drafting], max(drafting.values()))
            found |= {job: draft[:count] for (job, count), draft in zip(drafting.items(), drafts, strict=True)}
        return found

    def _snapshots(self, job: _Job) -> bool:
        """Whether others may want to return to a place inside what a job reads."""
        return bool(self.prefixes) and job.sequence.recurrent and job.read < job.begun

    def _keeps(self, source: _Prefix | _Job) -> bool:
        """Whether forks of a sequence are kept at the places where others may want to return to: windows forget what
        they would need there."""
        return self.prefixes > 1 and bool(source.sequence.windowed)

    def _remember(self, job: _Job) -> None:
        """Keeps a fork of a job's sequence as it is now, where there is room for it."""
        ids = job.ids[: job.read]
        if all(each.ids != ids for each in self._finished) and self._make_room(job.bytes, self._finished):
            self._finished.append(_Prefix(ids, job.sequence.fork(), job.bytes, job.slack))
            del self._finished[: -self.prefixes]

    def _receive(self, job: _Job, ids: list[int], guess: list[int], logits: Logits | None, begun: float) -> None:
        """What a step has made of a job's tokens."""
        if job.request.prompt_logprobs is not None and logits is not None:
            self._read(job, logits)
        snapshots = self._snapshots(job)
        job.read, job.torn = job.read + len(ids), False
        if snapshots:
            job.sequence.snapshot()
        if job.read in (job.branch, job.begun) and self._keeps(job):
            self._remember(job)
        if job.read < len(job.ids):
            return
        if job.limit[0] == 0:
            self._events.append(Event(job.completion, None))
            return self._end(job, job.limit[1])
        assert logits is not None
        accepted = job.completion.timing.accepted
        self._choose(job, guess, logits[-1 - len(guess) :], begun)
        if guess:
            job.payoff.told(len(guess), job.completion.timing.accepted - accepted)

    def _choose(self, job: _Job, guess: list[int], logits: Logits, begun: float) -> None:
        """Chooses the next token, and those after it while the guesses were right: each as without guesses."""
        for i, row in enumerate(logits):
            try:
                changed = row
                for process in job.request.processors:
                    changed = process(job.ids, changed)
                token = job.request.sampler.choose(changed, job.ids, job.new, job.random)
            except InputError as error:
                job.completion.error = error
                self._events.append(Event(job.completion, None))
                return self._end(job, "error")
            right = i < len(guess) and guess[i] == token
            if finish := self._write(job, token, row, begun):
                return self._end(job, finish)
            if not right:
                return
            job.read += 1
            job.completion.timing.accepted += 1

    def _read(self, job: _Job, logits: Logits) -> None:
        """Tells the tokens of the prompt that were read, with the probabilities that those before them gave."""
        prompt, most = job.completion.prompt, job.request.prompt_logprobs or 0
        if not prompt:
            prompt.append(Token(job.ids[0], None))
        for place, row in enumerate(logits, job.read + 1):
            if place == len(prompt) < job.begun:
                prompt.append(Token(job.ids[place], *_logprobs(row, job.ids[place], most)))

    def _write(self, job: _Job, token: int, logits: Logits, begun: float) -> Finish | None:
        """Adds a token to a job's text; why it ends with that, if it does."""
        count, reached = job.limit
        finish: Finish | None = "eos" if token in job.eos else reached if job.new + 1 == count else None
        text = ""
        if job.decoder:
            text = "" if finish == "eos" else job.stop.push(job.decoder.push(token))
            if finish and not job.stop.found:
                text += job.stop.push(job.decoder.finish()) + job.stop.rest()
            if job.stop.found:
                finish, job.completion.stopped = "stop", job.stop.found
        most = job.request.logprobs
        logprob, top = (None, ()) if most is None else _logprobs(logits, token, most)
        written = Token(token, logprob, top, text)
        now = perf_counter()
        job.completion.timing.count(job.clock + now - begun)
        job.clock = begun - now
        job.completion.tokens.append(written)
        job.ids.append(token)
        self._events.append(Event(job.completion, written))
        return finish


def _logprobs(logits: Logits, token: int, most: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """The log-probability of a token, and the `most` largest ones with their tokens, from logits (V,)."""
    values = log_softmax(logits)
    best = np.argpartition(-values, min(most, len(values) - 1))[:most] if most else np.empty(0, np.int64)
    best = best[np.lexsort((best, -values[best]))]  # the smaller id first where two are equal
    return float(values[token]), tuple((int(i), float(values[i])) for i in best)


def shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginning."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low
