"""`POST /v1/responses`: a conversation in the newer form of OpenAI's clients. Nothing is kept from call to call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from time import time
from typing import Any

from starlette.requests import Request as Asked
from starlette.responses import Response

from ...inference.answers import AnswerPart
from ...inference.request import Completion, Token
from .answering import Answering, EventStream
from .blocks import AnswerBlock, AnswerBlocks, Change
from .chat import EFFORTS, effort, grammar
from .chatting import Chat, Prepared, prepared
from .conversation import NAME, TextParts, said
from .fields import (
    Anything,
    Either,
    Field,
    Flag,
    ListOf,
    MapOf,
    Object,
    Only,
    String,
    Tagged,
    Whole,
    accepted,
    required,
)
from .models import LiveModel
from .options import CHOOSING, MODEL, MOST_TOP, PENALTIES, RUNNING, WITHOUT_EFFECT
from .spelling import chat_logprobs
from .ticket import Ticket
from .writer import Event, identifier

LOGPROBS = "message.output_text.logprobs"
CONTENT = Either(String(), TextParts("input_text", "output_text", "text"))
OWN = {"id": accepted(String()), "status": accepted(String())}
ITEMS = {
    "message": Object(
        {
            "role": required(Only("user", "assistant", "system", "developer")),
            "content": required(CONTENT),
            "phase": accepted(String()),
            **OWN,
        }
    ),
    "function_call": Object(
        {
            "call_id": required(String()),
            "name": required(String(1)),
            "arguments": required(String()),
            "namespace": accepted(String()),
            **OWN,
        }
    ),
    "function_call_output": Object({"call_id": required(String()), "output": required(CONTENT), **OWN}),
    "reasoning": Object(
        {
            "content": Field(Either(String(), TextParts("reasoning_text"))),
            "summary": accepted(ListOf(Anything())),
            "encrypted_content": accepted(String()),
            **OWN,
        }
    ),
}
TOOL = Object(
    {
        "name": required(String(1, 128, NAME)),
        "description": Field(String()),
        "parameters": Field(MapOf()),
        "strict": accepted(Flag()),
    }
)
FORMATS = {
    "text": Object({}),
    "json_object": Object({}),
    "json_schema": Object(
        {
            "name": required(String()),
            "schema": required(MapOf()),
            "description": accepted(String()),
            "strict": accepted(Flag()),
        }
    ),
}
BODY = Object(
    {
        "model": MODEL,
        "input": required(Either(String(), ListOf(Tagged("type", ITEMS, "message"), least=1))),
        "instructions": Field(String(), "a first message of the system"),
        "max_output_tokens": Field(Whole(1)),
        "tools": Field(ListOf(Tagged("type", {"function": TOOL}), most=512)),
        "tool_choice": Field(
            Either(
                Only("none", "auto", "required"), Tagged("type", {"function": Object({"name": required(String(1))})})
            )
        ),
        "parallel_tool_calls": Field(Flag()),
        "text": Field(
            Object({"format": Field(Tagged("type", FORMATS)), "verbosity": accepted(Only("low", "medium", "high"))})
        ),
        "reasoning": Field(
            Object(
                {
                    "effort": Field(Only(*EFFORTS)),
                    "summary": accepted(Only("auto", "concise", "detailed")),
                    "generate_summary": accepted(Only("auto", "concise", "detailed")),
                }
            )
        ),
        "include": Field(ListOf(Only(LOGPROBS, "reasoning.encrypted_content")), f"{LOGPROBS} gives log-probabilities"),
        "top_logprobs": Field(Whole(0, MOST_TOP)),
        "stream": Field(Flag()),
        **CHOOSING,
        "seed": PENALTIES["seed"],
        "priority": RUNNING["priority"],
        "timeout": RUNNING["timeout"],
        **WITHOUT_EFFECT,
        "stream_options": accepted(Object({"include_obfuscation": accepted(Flag())})),
        "truncation": accepted(Only("disabled")),
        "background": accepted(Only(False)),
    },
    refused={
        "previous_response_id": "nothing is kept here: send the whole conversation",
        "conversation": "nothing is kept here: send the whole conversation",
        "prompt": "nothing is kept here",
        "max_tool_calls": "no tool runs here",
    },
)


def messages(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The conversation as OpenAI's messages; what the assistant thought, said and called in a row is one."""
    found: list[dict[str, Any]] = []
    if "instructions" in asked:
        found.append({"role": "system", "content": asked["instructions"]})
    given = asked["input"]
    for item in [{"type": "message", "role": "user", "content": given}] if isinstance(given, str) else given:
        match item["type"]:
            case "function_call_output":
                found.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
                continue
            case "message" if item["role"] != "assistant":
                found.append({"role": item["role"], "content": item["content"]})
                continue
        if not found or found[-1]["role"] != "assistant" or (item["type"] == "message" and found[-1].get("content")):
            found.append({"role": "assistant", "content": ""})
        match item["type"]:
            case "message":
                found[-1]["content"] = item["content"]
            case "reasoning" if item.get("content"):
                found[-1]["reasoning_content"] = item["content"]
            case "function_call":
                call = {"id": item["call_id"], "function": {"name": item["name"], "arguments": item["arguments"]}}
                found[-1].setdefault("tool_calls", []).append(call)
    return found


def read(asked: Mapping[str, Any]) -> Chat:
    """What a call asks for."""
    choice, form = asked.get("tool_choice", "auto"), asked.get("text", {}).get("format")
    if form and form["type"] == "json_schema":
        form = {"type": "json_schema", "json_schema": form}
    return Chat(
        messages=said(messages(asked)),
        tools=[{key: value for key, value in tool.items() if key != "type"} for tool in asked.get("tools", ())],
        choice="required" if isinstance(choice, dict) else choice,
        named=choice["name"] if isinstance(choice, dict) else None,
        parallel=asked.get("parallel_tool_calls", True),
        grammar=grammar(form),
        variables=effort(asked.get("reasoning", {}).get("effort")),
        most=asked.get("max_output_tokens"),
        logprobs=asked.get("top_logprobs", 0) if LOGPROBS in asked.get("include", ()) else None,
    )


class ResponseWriter:
    """See `Writer`."""

    def __init__(self, live: LiveModel, asked: Mapping[str, Any], chat: Chat, ready: Prepared) -> None:
        (self._reader,), self._tokenizer = ready.readers, live.tokenizer
        self._asked, self._logprobs = asked, chat.logprobs is not None
        self._blocks = AnswerBlocks(chat.parallel)
        self._ids: dict[AnswerBlock, str] = {}
        self._completion: Completion | None = None
        self._sequence = self._thought = 0
        self._head = {
            "id": identifier("resp_"),
            "object": "response",
            "created_at": int(time()),
            "model": live.offer.name,
            "error": None,
            "instructions": asked.get("instructions"),
            "max_output_tokens": asked.get("max_output_tokens"),
            "metadata": asked.get("metadata", {}),
            "parallel_tool_calls": chat.parallel,
            "previous_response_id": None,
            "reasoning": {"effort": asked.get("reasoning", {}).get("effort"), "summary": None},
            "store": False,
            "temperature": ready.requests[0].sampler.temperature,
            "text": {"format": asked.get("text", {}).get("format", {"type": "text"})},
            "tool_choice": asked.get("tool_choice", "auto"),
            "tools": [{"strict": None, "parameters": None, **tool} for tool in asked.get("tools", ())],
            "top_p": ready.requests[0].sampler.top_p or 1.0,
            "truncation": "disabled",
        }

    def begin(self) -> Iterator[Event]:
        """See `Writer`."""
        yield self._event("response.created", response=self._response())
        yield self._event("response.in_progress", response=self._response())

    def write(self, ticket: Ticket, tokens: Sequence[Token]) -> Iterator[Event]:
        """See `Writer`."""
        told = chat_logprobs(self._tokenizer, tokens) if self._logprobs else []
        pieces = list(self._reader.push("".join(token.text for token in tokens)))
        if any(isinstance(piece, AnswerPart) and piece.channel == "reasoning" for piece in pieces):
            self._thought += len(tokens)
        for change in self._blocks.add(pieces):
            if change[0] == "grow" and change[1].kind == "text":
                change[1].logprobs += told
            yield from self._told(change, told)

    def finish(self, ticket: Ticket) -> Iterator[Event]:
        """See `Writer`."""
        assert ticket.completion
        complete = ticket.completion.finish in ("eos", "stop")
        for change in self._blocks.add(self._reader.finish(complete)):
            yield from self._told(change, [])
        self._completion = ticket.completion
        for change in self._blocks.close():
            yield from self._told(change, [])

    def end(self) -> Iterator[Event]:
        """See `Writer`."""
        response = self._response()
        yield self._event(f"response.{response['status']}", response=response)

    def whole(self) -> dict[str, Any]:
        """See `Writer`."""
        return self._response()

    # ------------------------------------------------------------------ its parts

    def _event(self, name: str, /, **data: Any) -> Event:
        self._sequence += 1
        return name, {"type": name, "sequence_number": self._sequence - 1, **data}

    def _response(self) -> dict[str, Any]:
        done, cut = self._completion, None
        status = "in_progress"
        if done:
            cut = {"reason": "max_output_tokens"} if done.finish in ("length", "context") else None
            status = "incomplete" if cut else "completed"
        return {
            **self._head,
            "status": status,
            "incomplete_details": cut,
            "output": [self._item(block, True) for block in self._blocks.row] if done else [],
            "usage": self._usage(done) if done else None,
        }

    def _usage(self, done: Completion) -> dict[str, Any]:
        read, written = done.timing.prompt, len(done.tokens)
        return {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": done.timing.reused, "cache_write_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": self._thought},
            "total_tokens": read + written,
        }

    def _item(self, block: AnswerBlock, ended: bool) -> dict[str, Any]:
        """A block as an item of the output; only begun, if it has not ended."""
        prefix = {"reasoning": "rs_", "text": "msg_", "call": "fc_"}[block.kind]
        own = self._ids.setdefault(block, identifier(prefix))
        cut = self._completion is not None and self._completion.finish in ("length", "context")
        last = block is self._blocks.row[-1]
        head = {"id": own, "status": ("incomplete" if cut and last else "completed") if ended else "in_progress"}
        match block.kind:
            case "reasoning":
                return {"type": "reasoning", **head, "summary": [], "content": [self._part(block)] if ended else []}
            case "call":
                arguments = block.text if ended else ""
                return {
                    "type": "function_call",
                    **head,
                    "call_id": block.id,
                    "name": block.name,
                    "arguments": arguments,
                }
        return {"type": "message", **head, "role": "assistant", "content": [self._part(block)] if ended else []}

    def _part(self, block: AnswerBlock, ended: bool = True) -> dict[str, Any]:
        text = block.text if ended else ""
        if block.kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": block.logprobs if ended else []}

    def _told(self, change: Change, logprobs: list[dict[str, Any]]) -> Iterator[Event]:
        what, block, text = change
        item = self._item(block, False)
        place = {"item_id": item["id"], "output_index": block.index}
        part = {**place, "content_index": 0}
        match what, block.kind:
            case "open", kind:
                yield self._event("response.output_item.added", output_index=block.index, item=item)
                if kind != "call":
                    yield self._event("response.content_part.added", **part, part=self._part(block, False))
            case "grow", "text":
                yield self._event("response.output_text.delta", **part, delta=text, logprobs=logprobs)
            case "grow", "reasoning":
                yield self._event("response.reasoning_text.delta", **part, delta=text)
            case "grow", "call":
                yield self._event("response.function_call_arguments.delta", **place, delta=text)
            case "close", kind:
                yield from self._closed(block, place, part)
                yield self._event("response.output_item.done", output_index=block.index, item=self._item(block, True))

    def _closed(self, block: AnswerBlock, place: Mapping[str, Any], part: Mapping[str, Any]) -> Iterator[Event]:
        match block.kind:
            case "call":
                done = "response.function_call_arguments.done"
                yield self._event(done, **place, name=block.name, arguments=block.text)
            case "reasoning":
                yield self._event("response.reasoning_text.done", **part, text=block.text)
                yield self._event("response.content_part.done", **part, part=self._part(block))
            case "text":
                yield self._event("response.output_text.done", **part, text=block.text, logprobs=block.logprobs)
                yield self._event("response.content_part.done", **part, part=self._part(block))


async def answer(call: Answering, request: Asked) -> Response | EventStream:
    """Answers a call."""
    live, chat = await call.model(), read(call.asked)
    ready = await asyncio.to_thread(prepared, live, call.asked, chat)
    return await call.respond(request, live, ready.requests, ResponseWriter(live, call.asked, chat, ready))
