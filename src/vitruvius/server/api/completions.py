"""`POST /v1/completions`: a text, or ids, continued as they stand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from time import time
from typing import Any

from starlette.requests import Request as Asked
from starlette.responses import Response

from ...inference.request import Request, Token
from .answering import Answering, EventStream
from .errors import RefusedError
from .fields import Either, Field, Flag, ListOf, Object, Only, String, Whole, accepted, required
from .models import LiveModel
from .options import CHOOSING, ENDING, MODEL, MOST_TOP, PENALTIES, RUNNING, STREAMING, WITHOUT_EFFECT, requests, room
from .spelling import Offsets
from .ticket import Ticket
from .writer import Event, finish_reason, identifier, usage

MOST_PROMPTS, USUAL = 2048, 16  # prompts of a call; new tokens where it does not say how many
IDS = ListOf(Whole(0, 2**31 - 1), least=1)

BODY = Object(
    {
        "model": MODEL,
        "prompt": required(
            Either(
                String(),
                IDS,
                ListOf(String(), least=1, most=MOST_PROMPTS),
                ListOf(IDS, least=1, most=MOST_PROMPTS),
            ),
            "a text or ids, or several of either",
        ),
        "max_tokens": Field(Whole(), "0 with `echo` only reads the prompt"),
        "echo": Field(Flag(), "gives the prompt back before the answer, with its log-probabilities"),
        "logprobs": Field(Whole(0, MOST_TOP), "of each token, and of so many of the most probable ones beside it"),
        "add_special_tokens": Field(Flag(), "whether a text is begun with the model's first token"),
        **CHOOSING,
        **PENALTIES,
        **ENDING,
        **RUNNING,
        **STREAMING,
        **WITHOUT_EFFECT,
        "best_of": accepted(Only(1)),
        "suffix": accepted(Only("")),
    },
    refused={"best_of": "every answer is given; ask for `n`"},
)


def prompts(live: LiveModel, asked: Mapping[str, Any]) -> list[tuple[list[int], str]]:
    """The prompts as ids and as text."""
    given = asked["prompt"]
    several = isinstance(given, list) and not isinstance(given[0], int)
    found = []
    for prompt in given if several else [given]:
        if isinstance(prompt, str):
            ids, text = live.tokenizer.encode(prompt, asked.get("add_special_tokens", True)), prompt
        else:
            ids, text = prompt, live.tokenizer.decode(prompt) if asked.get("echo") else ""
        if not ids:
            raise RefusedError(400, "the prompt is empty: give at least one token", "prompt")
        found.append((ids, text))
    return found


def made(live: LiveModel, asked: Mapping[str, Any], given: Sequence[tuple[list[int], str]]) -> list[Request]:
    """The requests of a call, those of each prompt side by side."""
    echo, logprobs, count = asked.get("echo", False), asked.get("logprobs"), asked.get("max_tokens", USUAL)
    if count == 0 and not echo:
        raise RefusedError(400, "max_tokens is 0: that only reads the prompt, and needs echo", "max_tokens")
    found = []
    for ids, _ in given:
        if count:
            room(live, len(ids))
        told = (0 if logprobs is None else logprobs) if echo and (count == 0 or logprobs is not None) else None
        found += requests(live, asked, ids, count, logprobs=logprobs, prompt_logprobs=told)
    return found


class CompletionWriter:
    """See `Writer`."""

    def __init__(self, live: LiveModel, asked: Mapping[str, Any], given: Sequence[tuple[list[int], str]]) -> None:
        self._asked, self._prompts = asked, [text for _, text in given]
        self._answers = asked.get("n", 1)
        count = len(given) * self._answers
        self._tickets: dict[int, Ticket] = {}
        self._offsets = [Offsets(live.tokenizer) for _ in range(count)]
        self._texts: list[list[str]] = [[] for _ in range(count)]
        self._told: list[dict[str, list[Any]] | None] = [None] * count
        self._head = {
            "id": identifier("cmpl-"),
            "object": "text_completion",
            "created": int(time()),
            "model": live.offer.name,
        }
        options = asked.get("stream_options", {})
        self._usage, self._always = options.get("include_usage", False), options.get("continuous_usage_stats", False)

    def begin(self) -> Iterator[Event]:
        """See `Writer`."""
        return iter(())

    def write(self, ticket: Ticket, tokens: Sequence[Token]) -> Iterator[Event]:
        """See `Writer`."""
        i, text = ticket.index, "".join(token.text for token in tokens)
        prompt: Sequence[Token] = ()
        if i not in self._tickets:
            self._tickets[i] = ticket
            if self._asked.get("echo"):
                text = self._prompts[i // self._answers] + text
                prompt = ticket.completion.prompt if ticket.completion else ()
        told = None
        if self._asked.get("logprobs") is not None:
            told = self._offsets[i].told([*prompt, *tokens])
            before = self._told[i]
            self._told[i] = told if before is None else {name: before[name] + told[name] for name in told}
        self._texts[i].append(text)
        if text or told:
            yield self._chunk({"index": i, "text": text, "logprobs": told, "finish_reason": None})

    def finish(self, ticket: Ticket) -> Iterator[Event]:
        """See `Writer`."""
        if ticket.index not in self._tickets:  # nothing was written
            yield from self.write(ticket, ())
        assert ticket.completion
        reason = finish_reason(ticket.completion)
        yield self._chunk({"index": ticket.index, "text": "", "logprobs": None, "finish_reason": reason})

    def end(self) -> Iterator[Event]:
        """See `Writer`."""
        if self._usage:
            yield None, {**self._head, "choices": [], "usage": self._counted()}

    def whole(self) -> dict[str, Any]:
        """See `Writer`."""
        choices = []
        for i, ticket in sorted(self._tickets.items()):
            assert ticket.completion
            reason = finish_reason(ticket.completion)
            text = "".join(self._texts[i])
            choices.append({"index": i, "text": text, "logprobs": self._told[i], "finish_reason": reason})
        return {**self._head, "choices": choices, "usage": self._counted()}

    def _chunk(self, choice: dict[str, Any]) -> Event:
        head = {**self._head, "choices": [choice]}
        return None, head | (
            {"usage": self._counted() if self._always else None} if self._usage or self._always else {}
        )

    def _counted(self) -> dict[str, Any]:
        completions = [ticket.completion for _, ticket in sorted(self._tickets.items()) if ticket.completion]
        return usage(completions, len(self._prompts))


async def answer(call: Answering, request: Asked) -> Response | EventStream:
    """Answers a call."""
    live = await call.model()

    def prepared() -> tuple[list[Request], CompletionWriter]:
        given = prompts(live, call.asked)
        return made(live, call.asked, given), CompletionWriter(live, call.asked, given)

    return await call.respond(request, live, *await asyncio.to_thread(prepared))
