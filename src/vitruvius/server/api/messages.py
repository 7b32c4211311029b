"""`POST /v1/messages`: a conversation in the form of Anthropic's clients; and how many tokens it has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response

from ...inference.request import Completion, Token
from .answering import Answering, EventStream
from .blocks import AnswerBlock, AnswerBlocks, Change
from .chatting import Chat, Prepared, prepared
from .conversation import NAME, TextParts
from .errors import RefusedError
from .fields import (
    Anything,
    Derived,
    Either,
    Field,
    Flag,
    Kind,
    ListOf,
    MapOf,
    Number,
    Object,
    Only,
    String,
    Tagged,
    Whole,
    accepted,
    required,
)
from .models import LiveModel
from .options import CHOOSING, LONGEST_STOP, MODEL, MOST_STOPS, PENALTIES, RUNNING, WITHOUT_EFFECT
from .ticket import Ticket
from .writer import Event, identifier

CACHE = {"cache_control": accepted(MapOf(), "what conversations have in common is always remembered")}
TEXT = Object({"text": required(String()), "citations": accepted(ListOf(Anything())), **CACHE})
RESULT = Object(
    {
        "tool_use_id": required(String()),
        "content": Field(Either(String(), TextParts("text"))),
        "is_error": Field(Flag()),
        **CACHE,
    }
)
USE = Object({"id": required(String()), "name": required(String(1)), "input": required(MapOf()), **CACHE})
THINKING = Object({"thinking": required(String()), "signature": accepted(String())})
REDACTED = Object({"data": accepted(String())})


class Contents(Derived):
    """The content of a message: a text, or parts."""

    def __init__(self, **parts: Object) -> None:
        self.kind: Kind = Either(String(), ListOf(Tagged("type", parts)))

    def read(self, value: Any, at: str) -> list[dict[str, Any]]:
        """See `Kind`: parts in any case."""
        for i, item in enumerate(value if isinstance(value, list) else ()):
            if isinstance(item, dict) and item.get("type") in ("image", "document"):
                what = f"{at}[{i}] holds a {item['type']}, and the models served here read text"
                raise RefusedError(400, what, f"{at}[{i}]")
        found = self.kind.read(value, at)
        return [{"type": "text", "text": found}] if isinstance(found, str) else found


MESSAGES = ListOf(
    Tagged(
        "role",
        {
            "user": Object({"content": required(Contents(text=TEXT, tool_result=RESULT))}),
            "assistant": Object(
                {"content": required(Contents(text=TEXT, tool_use=USE, thinking=THINKING, redacted_thinking=REDACTED))}
            ),
            "system": Object({"content": required(Contents(text=TEXT))}),
        },
    ),
    least=1,
)
TOOL = Object(
    {
        "name": required(String(1, 128, NAME)),
        "description": Field(String()),
        "input_schema": required(MapOf()),
        "type": accepted(Only("custom")),
        "strict": accepted(Flag()),
        "eager_input_streaming": accepted(Flag()),
        "input_examples": accepted(ListOf(MapOf())),
        **CACHE,
    }
)
ONE = {"disable_parallel_tool_use": Field(Flag())}
CHOICE = Tagged(
    "type",
    {"auto": Object(ONE), "any": Object(ONE), "tool": Object({"name": required(String(1)), **ONE}), "none": Object({})},
)
SHOWN = {"display": accepted(Only("summarized", "omitted"))}
ASKED: Mapping[str, Field] = {
    "model": MODEL,
    "messages": required(MESSAGES),
    "system": Field(Either(String(), TextParts("text"))),
    "tools": Field(ListOf(TOOL, most=512)),
    "tool_choice": Field(CHOICE),
    "thinking": Field(
        Tagged(
            "type",
            {
                "enabled": Object({"budget_tokens": accepted(Whole(1)), **SHOWN}),
                "adaptive": Object(SHOWN),
                "disabled": Object({}),
            },
        ),
        "where the chat template can turn reasoning on and off; off, if it is left out",
    ),
    "output_config": Field(
        Object(
            {
                "effort": Field(Only("low", "medium", "high", "xhigh", "max")),
                "format": Field(Tagged("type", {"json_schema": Object({"schema": required(MapOf())})})),
            }
        )
    ),
}
BODY = Object(
    {
        **ASKED,
        "max_tokens": required(Whole(1)),
        "stop_sequences": Field(ListOf(String(1, LONGEST_STOP), most=MOST_STOPS)),
        "stream": Field(Flag()),
        **CHOOSING,
        "temperature": Field(Number(0, 100)),
        "seed": PENALTIES["seed"],
        "priority": RUNNING["priority"],
        "timeout": RUNNING["timeout"],
        "metadata": accepted(MapOf()),
        "service_tier": WITHOUT_EFFECT["service_tier"],
        **CACHE,
    },
    refused={
        "container": "no code runs here",
        "mcp_servers": "no other servers are asked",
        "prefill": "end with a message of the assistant",
    },
)
COUNT = Object({**ASKED, **CACHE})


def said(asked: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """The messages as chat templates know them, and the beginning of the answer where the last message is one."""
    found: list[dict[str, Any]] = [{"role": "system", "content": asked["system"]}] if "system" in asked else []
    names: dict[str, str] = {}
    for message in asked["messages"]:
        parts = message["content"]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        if message["role"] == "assistant":
            found.append(_assistant(parts, names))
            continue
        for part in parts:
            if part["type"] == "tool_result":
                name = names.get(part["tool_use_id"], "")
                told = {"tool_call_id": part["tool_use_id"], "name": name, "content": part.get("content", "")}
                found.append({"role": "tool", **told})
        if texts or not any(part["type"] == "tool_result" for part in parts):
            found.append({"role": message["role"], "content": "\n".join(texts)})
    last = found[-1]
    if last["role"] == "assistant" and "tool_calls" not in last:
        return found[:-1], last["content"]
    return found, ""


def _assistant(parts: Sequence[Mapping[str, Any]], names: dict[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "role": "assistant",
        "content": "\n".join(part["text"] for part in parts if part["type"] == "text"),
    }
    if thought := [part["thinking"] for part in parts if part["type"] == "thinking"]:
        made["reasoning_content"] = "\n".join(thought)
    for part in parts:
        if part["type"] == "tool_use":
            names[part["id"]] = part["name"]
            call = {"name": part["name"], "arguments": part["input"]}
            made.setdefault("tool_calls", []).append({"id": part["id"], "type": "function", "function": call})
    return made


def read(asked: Mapping[str, Any]) -> Chat:
    """What a call asks for."""
    choice, config = asked.get("tool_choice", {"type": "auto"}), asked.get("output_config", {})
    messages, begun = said(asked)
    thinking = asked.get("thinking", {"type": "disabled"})["type"] != "disabled"
    effort = {"reasoning_effort": config["effort"]} if "effort" in config else {}
    return Chat(
        messages=messages,
        tools=[
            {"name": tool["name"], "description": tool.get("description", ""), "parameters": tool["input_schema"]}
            for tool in asked.get("tools", ())
        ],
        choice={"any": "required", "tool": "required", "none": "none"}.get(choice["type"], "auto"),  # type: ignore[arg-type]
        named=choice.get("name"),
        parallel=not choice.get("disable_parallel_tool_use", False),
        grammar=("json_schema", config["format"]["schema"]) if "format" in config else None,
        variables={"enable_thinking": thinking, "thinking": thinking, **effort},
        most=asked.get("max_tokens"),
        begun=begun,
    )


def stop_reason(completion: Completion, called: bool) -> str:
    """Why an answer has ended, in Anthropic's words."""
    if completion.finish in ("length", "context"):
        return "max_tokens" if completion.finish == "length" else "model_context_window_exceeded"
    return "tool_use" if called else "stop_sequence" if completion.stopped else "end_turn"


class MessageWriter:
    """See `Writer`."""

    def __init__(self, live: LiveModel, asked: Mapping[str, Any], ready: Prepared) -> None:
        (self._reader,), self._prompt = ready.readers, len(ready.requests[0].ids)
        self._blocks = AnswerBlocks(not asked.get("tool_choice", {}).get("disable_parallel_tool_use", False))
        self._head = {"id": identifier("msg_"), "type": "message", "role": "assistant", "model": live.offer.name}
        self._completion: Completion | None = None

    def begin(self) -> Iterator[Event]:
        """See `Writer`."""
        usage = {"input_tokens": self._prompt, "output_tokens": 0}
        usage |= {"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
        ends = {"stop_reason": None, "stop_sequence": None}
        yield _event("message_start", message={**self._head, "content": [], **ends, "usage": usage})

    def write(self, ticket: Ticket, tokens: Sequence[Token]) -> Iterator[Event]:
        """See `Writer`."""
        for change in self._blocks.add(self._reader.push("".join(token.text for token in tokens))):
            yield from _told(change)

    def finish(self, ticket: Ticket) -> Iterator[Event]:
        """See `Writer`."""
        self._completion = ticket.completion
        assert self._completion
        complete = self._completion.finish in ("eos", "stop")
        for change in (*self._blocks.add(self._reader.finish(complete)), *self._blocks.close()):
            yield from _told(change)

    def end(self) -> Iterator[Event]:
        """See `Writer`."""
        yield _event("message_delta", delta=self._ended(), usage=self._usage())
        yield _event("message_stop")

    def whole(self) -> dict[str, Any]:
        """See `Writer`."""
        content = [_whole(block) for block in self._blocks.row]
        return {**self._head, "content": content, **self._ended(), "usage": self._usage()}

    def _ended(self) -> dict[str, Any]:
        assert self._completion
        called = any(block.kind == "call" for block in self._blocks.row)
        return {"stop_reason": stop_reason(self._completion, called), "stop_sequence": self._completion.stopped}

    def _usage(self) -> dict[str, int]:
        assert self._completion
        cached = self._completion.timing.reused
        return {
            "input_tokens": self._prompt - cached,
            "output_tokens": len(self._completion.tokens),
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0,
        }


def _event(name: str, **data: Any) -> Event:
    return name, {"type": name, **data}


def _whole(block: AnswerBlock) -> dict[str, Any]:
    match block.kind:
        case "reasoning":
            return {"type": "thinking", "thinking": block.text, "signature": ""}
        case "call":
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": json.loads(block.text)}
    return {"type": "text", "text": block.text}


def _told(change: Change) -> Iterator[Event]:
    what, block, text = change
    match what, block.kind:
        case "open", "call":
            begun = {"type": "tool_use", "id": block.id, "name": block.name, "input": {}}
            yield _event("content_block_start", index=block.index, content_block=begun)
        case "open", _:
            yield _event("content_block_start", index=block.index, content_block=_whole(block))
        case "grow", kind:
            named = {"reasoning": ("thinking_delta", "thinking"), "call": ("input_json_delta", "partial_json")}
            name, key = named.get(kind, ("text_delta", "text"))
            yield _event("content_block_delta", index=block.index, delta={"type": name, key: text})
        case "close", _:
            yield _event("content_block_stop", index=block.index)


async def answer(call: Answering, request: Asked) -> Response | EventStream:
    """Answers a call."""
    live, chat = await call.model(), read(call.asked)
    options = {**call.asked, "stop": call.asked.get("stop_sequences", [])}
    ready = await asyncio.to_thread(prepared, live, options, chat)
    return await call.respond(request, live, ready.requests, MessageWriter(live, call.asked, ready))


async def count(call: Answering, request: Asked) -> Response:
    """How many tokens a conversation has."""
    live, chat = await call.model(), read(call.asked)
    ready = await asyncio.to_thread(prepared, live, {}, chat)
    return JSONResponse({"input_tokens": len(ready.requests[0].ids)})
