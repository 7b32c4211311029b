"""OpenAI's messages and tools, and what a chat template gets of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

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
    Object,
    Only,
    String,
    Tagged,
    accepted,
    required,
)

NAME = "^[A-Za-z0-9_.:-]{1,128}$"
UNSEEN = {
    **dict.fromkeys(("image_url", "input_image", "image"), "pictures"),
    **dict.fromkeys(("file", "input_file", "document"), "files"),
    "input_audio": "sound",
}


class TextParts(Derived):
    """Parts of a content that are text; others are refused by what they are."""

    def __init__(self, *tags: str) -> None:
        ours = {name: accepted(ListOf(Anything())) for name in ("annotations", "logprobs", "citations")}
        part = Object({"text": required(String()), **ours, "cache_control": accepted(MapOf())})
        self.kind = ListOf(Tagged("type", dict.fromkeys(tags, part)))

    def read(self, value: Any, at: str) -> str:
        """See `Kind`: the texts, a line each."""
        for i, item in enumerate(value if isinstance(value, list) else ()):
            if isinstance(item, dict) and (what := UNSEEN.get(str(item.get("type")))):
                raise RefusedError(400, f"{at} holds {what}, and the models served here read text", f"{at}[{i}]")
        return "\n".join(part["text"] for part in self.kind.read(value, at))


def content(*tags: str) -> Kind:
    """The content of a message: a text, or parts that are text."""
    return Either(String(), TextParts(*tags))


CALL = Object(
    {
        "id": required(String()),
        "type": Field(Only("function")),
        "index": accepted(Anything()),
        "function": required(Object({"name": required(String(1)), "arguments": required(String())})),
    }
)
ROLES: Mapping[str, Object] = {
    "system": Object({"content": required(content("text")), "name": accepted(String())}),
    "developer": Object({"content": required(content("text")), "name": accepted(String())}),
    "user": Object({"content": required(content("text")), "name": accepted(String())}),
    "assistant": Object(
        {
            "content": Field(content("text")),
            "tool_calls": Field(ListOf(CALL)),
            "reasoning_content": Field(String()),
            "reasoning": Field(String()),
            "name": accepted(String()),
            "refusal": accepted(String()),
            "annotations": accepted(ListOf(Anything())),
        }
    ),
    "tool": Object(
        {
            "content": required(content("text")),
            "tool_call_id": required(String()),
            "name": Field(String()),
        }
    ),
}
MESSAGES = ListOf(Tagged("role", ROLES), least=1)
FUNCTION = Object(
    {
        "name": required(String(1, 128, NAME)),
        "description": Field(String()),
        "parameters": Field(MapOf()),
        "strict": accepted(Flag(), "arguments of forced calls always follow the schema"),
    }
)
TOOLS = ListOf(Tagged("type", {"function": Object({"function": required(FUNCTION)})}), most=512)
NAMED = Object({"name": required(String(1))})
CHOICE = Either(Only("none", "auto", "required"), Tagged("type", {"function": Object({"function": required(NAMED)})}))


def said(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages as chat templates know them: a developer's are the system's, those of the system that come first are
    one, arguments of calls are objects, and results bear the name of their tool."""
    found: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for message in messages:
        made: dict[str, Any] = {"role": message["role"], "content": message.get("content", "")}
        match message["role"]:
            case "system" | "developer":
                made["role"] = "system"
                if len(found) == 1 and found[0]["role"] == "system":
                    found[0]["content"] += f"\n\n{made['content']}"
                    continue
            case "assistant":
                reasoning = message.get("reasoning_content", message.get("reasoning"))
                made |= {"reasoning_content": reasoning} if reasoning is not None else {}
                if calls := message.get("tool_calls"):
                    names |= {each["id"]: each["function"]["name"] for each in calls}
                    made["tool_calls"] = [_called(each) for each in calls]
            case "tool":
                made["tool_call_id"] = message["tool_call_id"]
                made["name"] = message.get("name", names.get(message["tool_call_id"], ""))
        found.append(made)
    return found


def _called(each: Mapping[str, Any]) -> dict[str, Any]:
    function, text = each["function"], each["function"]["arguments"]
    try:
        arguments = json.loads(text) if text.strip() else {}
    except ValueError:
        arguments = text
    return {"id": each["id"], "type": "function", "function": {"name": function["name"], "arguments": arguments}}
