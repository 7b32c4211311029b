"""A conversation that is to be answered: what the three chat endpoints share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ...inference.answers import Channels
from ...inference.grammars import Following, Kind
from ...inference.request import Request
from ...inference.sampling import Processor
from ...inference.tools.formats import PLAIN, ToolFormat
from .errors import RefusedError
from .models import LiveModel
from .options import requests, room
from .reading import Reader

Choice = Literal["none", "auto", "required"]
RESERVED = frozenset(("messages", "tools", "bos_token", "eos_token"))
INSTRUCTION = (
    "You may call these functions, given as JSON schemas:\n{tools}\nTo call one, answer only with "
    '{{"name": …, "arguments": …}}.'
)


@dataclass(frozen=True)
class Chat:
    """What is asked of a model in a conversation.

    Args:
        messages: as chat templates know them.
        tools: functions, with `name`, `description` and `parameters`.
        choice: whether one must be called, or the name of the one that must.
        parallel: whether there may be several calls.
        grammar: what the answer follows.
        variables: of the chat template.
        most: tokens of the answer; as many as the context and memory have room for, if None.
        logprobs: see `Request`.
        begun: what the answer begins with already.
    """

    messages: Sequence[dict[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    choice: Choice = "auto"
    named: str | None = None
    parallel: bool = True
    grammar: tuple[Kind, Any] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    most: int | None = None
    logprobs: int | None = None
    begun: str = ""


@dataclass(frozen=True)
class Prepared:
    """A conversation as ids, with what reads the answer."""

    requests: list[Request]
    readers: list[Reader]


def prepared(live: LiveModel, asked: Mapping[str, Any], chat: Chat) -> Prepared:
    """Makes the requests of a conversation. Raises InputError and RefusedError for what cannot be."""
    tools = () if chat.choice == "none" else chat.tools
    names = [tool["name"] for tool in tools]
    if chat.named is not None and chat.named not in names:
        raise RefusedError(400, f"tool_choice names {chat.named!r}, which is none of the tools", "tool_choice")
    if chat.choice == "required" and not tools:
        raise RefusedError(400, "tool_choice is required, and there are no tools", "tool_choice")
    if chat.grammar and tools and chat.choice == "required":
        raise RefusedError(400, "a required call and a response_format exclude each other", "response_format")
    if chat.grammar and asked.get("ignore_eos"):
        raise RefusedError(400, "ignore_eos goes on after the end, where no grammar says how", "ignore_eos")
    if wrong := RESERVED & chat.variables.keys():
        raise RefusedError(400, f"chat_template_kwargs may not set {min(wrong)}", "chat_template_kwargs")
    forced = chat.choice == "required"
    form = _form(live, forced) if tools else None
    ids = live.tokenizer.encode(_rendered(live, chat, tools) + chat.begun, add_special_tokens=False)
    room(live, len(ids))
    variables = {**chat.variables, **({"tools": _offered(tools)} if tools else {})}
    keep = _keep(live, form, variables)
    matcher = None
    if chat.grammar:
        matcher = live.grammars.matcher(*chat.grammar)
    elif forced:
        assert form
        wanted = [tool for tool in tools if chat.named in (None, tool["name"])]
        matcher = live.grammars.matcher("lark", calling(live, form, wanted, chat.parallel and chat.named is None))
    ends = live.eos | frozenset(asked.get("stop_token_ids", ()))

    def processors() -> Iterator[Processor]:
        if matcher:
            channels = Channels.of(live.tokenizer, variables)
            yield Following(matcher.deep_copy(), live.tokenizer, channels, len(ids), ends)

    count = asked.get("n", 1)
    schemas = {tool["name"]: tool.get("parameters") or {} for tool in tools}
    return Prepared(
        requests(
            live,
            asked,
            ids,
            chat.most,
            logprobs=chat.logprobs,
            keep=keep,
            processors=processors,
        ),
        [Reader(Channels.of(live.tokenizer, variables, calls=bool(tools)), form, schemas) for _ in range(count)],
    )


def _form(live: LiveModel, forced: bool) -> ToolFormat:
    """How the model writes calls; where it has no form of its own, or one that cannot be forced, plain JSON."""
    own = live.tool_format
    return own if own and (own.written or not forced) else PLAIN


def _rendered(live: LiveModel, chat: Chat, tools: Sequence[Mapping[str, Any]]) -> str:
    messages = [*chat.messages]
    variables = dict(chat.variables)
    if tools and live.tool_format:
        variables["tools"] = _offered(tools)
    elif tools:
        told = INSTRUCTION.format(tools="\n".join(json.dumps(dict(tool)) for tool in tools))
        if messages and messages[0]["role"] == "system":
            messages[0] = {**messages[0], "content": f"{messages[0]['content']}\n\n{told}"}
        else:
            messages = [{"role": "system", "content": told}, *messages]
    return live.tokenizer.render(messages, **variables)


def _offered(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "function", "function": dict(tool)} for tool in tools]


def _keep(live: LiveModel, form: ToolFormat | None, variables: Mapping[str, Any]) -> frozenset[str]:
    """Special tokens that are marks of reasoning or of calls."""
    return Channels.of(live.tokenizer, variables).form.texts | (form.marks if form else frozenset())


def calling(live: LiveModel, form: ToolFormat, tools: Sequence[Mapping[str, Any]], several: bool) -> str:
    """A grammar, in Lark's form, of one or several calls as the model writes them."""
    assert form.written
    before, between, after = form.written

    def literal(text: str) -> str:
        """Marks that are special tokens stand as such, all else as text."""
        marks = [mark for mark in form.marks if mark in live.tokenizer.special_texts and mark in text]
        pieces = [text]
        for mark in marks:
            pieces = [part for piece in pieces for part in _cut(piece, mark)]
        return " ".join(piece if piece in marks else json.dumps(piece, ensure_ascii=False) for piece in pieces if piece)

    calls = []
    for tool in tools:
        schema = json.dumps(_strict(tool.get("parameters") or {}))
        calls.append(f"{literal(before + tool['name'] + between)} %json {schema} {literal(after)}")
    rule = "call+" if several and form.begin else "call"
    return f"start: {rule}\ncall: {' | '.join(calls)}\n"


def _strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of arguments, which are an object; without others than it names, unless it says so."""
    closed = {"additionalProperties": False} if "$ref" not in schema else {}
    return {"type": "object", "properties": {}, **closed, **schema}


def _cut(text: str, mark: str) -> list[str]:
    """A text cut around each of its marks."""
    if text == mark:
        return [text]
    before, found, after = text.partition(mark)
    return [before, found, *(_cut(after, mark) if after else [])] if found else [text]
