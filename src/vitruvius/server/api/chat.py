"""`POST /v1/chat/completions`: the next message of a conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from time import time
from typing import Any

from starlette.requests import Request as Asked
from starlette.responses import Response

from ...inference.answers import AnswerPart
from ...inference.grammars import Kind
from ...inference.request import Token
from ...inference.tools.reading import ToolCall
from .answering import Answering, EventStream
from .chatting import Chat, Prepared, prepared
from .conversation import CHOICE, MESSAGES, TOOLS, said
from .errors import RefusedError
from .fields import Field, Flag, ListOf, MapOf, Object, Only, String, Tagged, Whole, accepted, required
from .models import LiveModel
from .options import CHOOSING, ENDING, MODEL, MOST_TOP, PENALTIES, RUNNING, STREAMING, WITHOUT_EFFECT
from .reading import Piece
from .spelling import chat_logprobs
from .ticket import Ticket
from .writer import Event, finish_reason, identifier, usage

SCHEMA = Object(
    {
        "name": Field(String()),
        "description": accepted(String()),
        "schema": Field(MapOf()),
        "strict": accepted(Flag(), "the schema is always followed"),
    }
)
FORMATS: Mapping[str, Object] = {
    "text": Object({}),
    "json_object": Object({}),
    "json_schema": Object({"json_schema": required(SCHEMA)}),
    "regex": Object({"regex": required(String(1))}),
    "grammar": Object({"grammar": required(String(1), "in Lark's form or GBNF")}),
}
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")

BODY = Object(
    {
        "model": MODEL,
        "messages": required(MESSAGES),
        "max_completion_tokens": Field(Whole(1), "as many as the context and memory have room for, if it is left out"),
        "max_tokens": Field(Whole(1), "the same"),
        "logprobs": Field(Flag()),
        "top_logprobs": Field(Whole(0, MOST_TOP)),
        "tools": Field(TOOLS),
        "tool_choice": Field(CHOICE),
        "parallel_tool_calls": Field(Flag(), "whether there may be several calls"),
        "response_format": Field(Tagged("type", FORMATS), "text, JSON, or what follows a regex or grammar"),
        "reasoning_effort": Field(Only(*EFFORTS), "a variable of the chat template; none turns reasoning off"),
        "chat_template_kwargs": Field(MapOf(), "variables of the chat template"),
        **CHOOSING,
        **PENALTIES,
        **ENDING,
        **RUNNING,
        **STREAMING,
        **WITHOUT_EFFECT,
        "modalities": accepted(ListOf(Only("text"))),
        "verbosity": accepted(Only("low", "medium", "high")),
    },
    refused={
        "functions": "give `tools`",
        "function_call": "give `tool_choice`",
        "audio": "no sound is written here",
        "prediction": "it would have no effect",
        "web_search_options": "nothing is searched here",
        "structured_outputs": "give `response_format`",
        "guided_json": "give `response_format`",
        "guided_regex": "give `response_format`",
    },
)


def grammar(given: Mapping[str, Any] | None) -> tuple[Kind, Any] | None:
    """What a `response_format` asks for."""
    match given:
        case {"type": "json_object"}:
            return "json_schema", {"type": "object"}
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return "json_schema", schema
        case {"type": "json_schema"}:
            return "json_schema", {}
        case {"type": "regex", "regex": text}:
            return "regex", text
        case {"type": "grammar", "grammar": text}:
            return "grammar", text
    return None


def effort(value: str | None) -> dict[str, Any]:
    """Variables of chat templates for how much reasoning there should be."""
    if value is None:
        return {}
    return {"reasoning_effort": value, "enable_thinking": value != "none", "thinking": value != "none"}


def read(asked: Mapping[str, Any]) -> Chat:
    """What a call asks for."""
    choice, top = asked.get("tool_choice", "auto"), asked.get("top_logprobs")
    if top is not None and not asked.get("logprobs"):
        raise RefusedError(400, "top_logprobs needs logprobs: true", "top_logprobs")
    return Chat(
        messages=said(asked["messages"]),
        tools=[tool["function"] for tool in asked.get("tools", ())],
        choice="required" if isinstance(choice, dict) else choice,
        named=choice["function"]["name"] if isinstance(choice, dict) else None,
        parallel=asked.get("parallel_tool_calls", True),
        grammar=grammar(asked.get("response_format")),
        variables={**effort(asked.get("reasoning_effort")), **asked.get("chat_template_kwargs", {})},
        most=asked.get("max_completion_tokens", asked.get("max_tokens")),
        logprobs=(top or 0) if asked.get("logprobs") else None,
    )


class ChatWriter:
    """See `Writer`."""

    def __init__(self, live: LiveModel, asked: Mapping[str, Any], ready: Prepared) -> None:
        self._tokenizer, self._readers = live.tokenizer, ready.readers
        self._head = {
            "id": identifier("chatcmpl-"),
            "object": "chat.completion.chunk" if asked.get("stream") else "chat.completion",
            "created": int(time()),
            "model": live.offer.name,
        }
        options = asked.get("stream_options", {})
        self._usage, self._always = options.get("include_usage", False), options.get("continuous_usage_stats", False)
        self._logprobs = bool(asked.get("logprobs"))
        self._several = asked.get("parallel_tool_calls", True)
        self._answers = [_Answer() for _ in ready.readers]

    def begin(self) -> Iterator[Event]:
        """See `Writer`."""
        for i in range(len(self._answers)):
            yield self._chunk(i, {"role": "assistant", "content": ""})

    def write(self, ticket: Ticket, tokens: Sequence[Token]) -> Iterator[Event]:
        """See `Writer`."""
        i = ticket.index
        told = chat_logprobs(self._tokenizer, tokens) if self._logprobs else None
        text = "".join(token.text for token in tokens)
        yield from self._pieces(i, list(self._readers[i].push(text)), told, len(tokens))

    def finish(self, ticket: Ticket) -> Iterator[Event]:
        """See `Writer`."""
        i, completion = ticket.index, ticket.completion
        assert completion
        complete = completion.finish in ("eos", "stop")
        yield from self._pieces(i, list(self._readers[i].finish(complete)), None, 0)
        answer = self._answers[i]
        answer.ticket = ticket
        answer.reason = "tool_calls" if answer.calls and complete else finish_reason(completion)
        yield self._chunk(i, {}, reason=answer.reason)

    def end(self) -> Iterator[Event]:
        """See `Writer`."""
        if self._usage:
            yield None, {**self._head, "choices": [], "usage": self._counted()}

    def whole(self) -> dict[str, Any]:
        """See `Writer`."""
        choices = []
        for i, answer in enumerate(self._answers):
            logprobs = {"content": answer.logprobs, "refusal": None} if self._logprobs else None
            choices.append(
                {"index": i, "message": answer.message(), "logprobs": logprobs, "finish_reason": answer.reason}
            )
        return {**self._head, "choices": choices, "usage": self._counted()}

    def _pieces(
        self, i: int, pieces: Sequence[Piece], logprobs: list[dict[str, Any]] | None, tokens: int
    ) -> Iterator[Event]:
        answer = self._answers[i]
        deltas: list[dict[str, Any]] = []
        answer.logprobs += logprobs or []
        for piece in pieces:
            match piece:
                case ToolCall() if self._several or not answer.calls:
                    deltas.append({"tool_calls": [{"index": len(answer.calls), **answer.called(piece)}]})
                case AnswerPart("reasoning", text):
                    answer.reasoning += text
                    deltas.append({"reasoning_content": text, "reasoning": text})
                case AnswerPart(_, text):
                    answer.text += text
                    deltas.append({"content": text})
        if any(isinstance(piece, AnswerPart) and piece.channel == "reasoning" for piece in pieces):
            answer.thought += tokens
        if not deltas and logprobs:
            deltas.append({"content": ""})
        for n, delta in enumerate(deltas):
            yield self._chunk(i, delta, logprobs if n == 0 else None)

    def _chunk(
        self, i: int, delta: dict[str, Any], logprobs: list[dict[str, Any]] | None = None, reason: str | None = None
    ) -> Event:
        told = {"content": logprobs, "refusal": None} if logprobs else None
        head = {**self._head, "choices": [{"index": i, "delta": delta, "logprobs": told, "finish_reason": reason}]}
        return None, head | ({"usage": self._counted() if self._always else None} if self._usage else {})

    def _counted(self) -> dict[str, Any]:
        completions = [a.ticket.completion for a in self._answers if a.ticket and a.ticket.completion]
        return usage(completions, 1, sum(answer.thought for answer in self._answers))


class _Answer:
    """One answer so far."""

    def __init__(self) -> None:
        self.text = self.reasoning = ""
        self.thought = 0  # tokens of reasoning
        self.calls: list[dict[str, Any]] = []
        self.logprobs: list[dict[str, Any]] = []
        self.reason: str | None = None
        self.ticket: Ticket | None = None

    def called(self, call: ToolCall) -> dict[str, Any]:
        """One more call."""
        function = {"name": call.name, "arguments": call.arguments}
        self.calls.append({"id": identifier("call_"), "type": "function", "function": function})
        return self.calls[-1]

    def message(self) -> dict[str, Any]:
        """As a message."""
        found: dict[str, Any] = {"role": "assistant", "content": self.text or (None if self.calls else "")}
        found |= {"refusal": None, "annotations": []}
        if self.reasoning:
            found |= {"reasoning_content": self.reasoning, "reasoning": self.reasoning}
        return found | ({"tool_calls": self.calls} if self.calls else {})


async def answer(call: Answering, request: Asked) -> Response | EventStream:
    """Answers a call."""
    live, chat = await call.model(), read(call.asked)
    ready = await asyncio.to_thread(prepared, live, call.asked, chat)
    return await call.respond(request, live, ready.requests, ChatWriter(live, call.asked, ready))
