"""Calls as they are spelled: each function reads the text between the marks of a call, and raises ValueError where it
is none."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Schemas = Mapping[str, Mapping[str, Any]]  # name of a tool -> the JSON schema of its arguments


@dataclass(frozen=True)
class ToolCall:
    """A call: the tool's name, and its arguments as the text of a JSON object."""

    name: str
    arguments: str


def call(name: Any, arguments: Any) -> ToolCall:
    """A call with checked parts; arguments that are a text are JSON once more. Raises ValueError."""
    if isinstance(arguments, str):
        arguments = json.loads(arguments) if arguments.strip() else {}
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        raise ValueError("no call")
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False))


def objects(body: str, tools: Schemas) -> list[ToolCall]:
    """{"name": …, "arguments": {…}}, or a list of them, or several one after the other (";" between them)."""
    found, at, decoder, body = [], 0, json.JSONDecoder(), body.lstrip()
    while at < len(body):
        value, at = decoder.raw_decode(body, at)
        for item in value if isinstance(value, list) else [value]:
            arguments = item.get("arguments", item.get("parameters"))
            function = item.get("function")
            if "name" not in item and isinstance(function, dict):
                found.append(call(function.get("name"), function.get("arguments") or {}))
            else:
                found.append(call(item.get("name"), {} if arguments is None else arguments))
        at += len(body) - at - len(body[at:].lstrip(" \n\t;,"))
    if not found:
        raise ValueError("no call")
    return found


def headed(body: str, tools: Schemas, head: str) -> list[ToolCall]:
    """A head with the name, then the arguments as JSON, then what a fence of code may leave."""
    match = re.match(head, body, re.DOTALL)
    if not match:
        raise ValueError("no call")
    rest = body[match.end() :].strip()
    value, at = json.JSONDecoder().raw_decode(rest) if rest else ({}, 0)
    if rest[at:].strip() not in ("", "```"):
        raise ValueError("something follows the arguments")
    return [call(match["name"].strip(), value)]


def mistral(body: str, tools: Schemas) -> list[ToolCall]:
    """A list of objects, or NAME[ARGS]{…}."""
    if body.lstrip().startswith("["):
        return objects(body.strip(), tools)
    return headed(body, tools, r"\s*(?P<name>[^\[{]+?)\s*(?:\[CALL_ID\][^\[{]*)?(?:\[ARGS\]|(?={))")


def typed(text: str, schema: Mapping[str, Any] | None) -> Any:
    """A value that is written without quotes: as the tool's schema says, else as JSON where it is that."""
    kinds = _kinds(schema or {})
    if kinds == {"string"}:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = {"True": True, "False": False, "None": None}.get(text.strip(), text)
    if "string" in kinds and not isinstance(value, str):
        fits = {"null": None, "boolean": bool, "integer": int, "number": (int, float), "array": list, "object": dict}
        own = [fits[kind] for kind in kinds if kind in fits]
        if not any(value is None if kind is None else isinstance(value, kind) for kind in own):
            return text
    return value


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    found = schema.get("type", [])
    kinds = {found} if isinstance(found, str) else set(found)
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        kinds |= _kinds(part) if isinstance(part, Mapping) else set()
    if isinstance(schema.get("enum"), list) and not kinds and all(isinstance(v, str) for v in schema["enum"]):
        kinds = {"string"}
    return kinds


def _arguments(name: str, pairs: list[tuple[str, str]], tools: Schemas) -> ToolCall:
    properties = tools.get(name, {}).get("properties", {})
    return call(name, {key: typed(value, properties.get(key)) for key, value in pairs})


def tagged(body: str, tools: Schemas) -> list[ToolCall]:
    """<function=NAME><parameter=KEY>\\nVALUE\\n</parameter>…</function>, as Qwen3-Coder writes."""
    found, body = [], body if re.match(r"\s*<", body) else f"<function={body}"
    function = r"<function=(?P<name>[^>\n]+)>(?P<body>.*?)(?:</function>(?=\s*(?:</tool_call>|<function=|\Z))|\Z)"
    value = r"\n?(?P<value>.*?)\n?(?:</parameter>(?=\s*(?:<parameter=|\Z))|\Z)"
    for match in re.finditer(function, body, re.DOTALL):
        inside = re.finditer(rf"<parameter=(?P<key>[^>\n]+)>{value}", match["body"], re.DOTALL)
        pairs = [(each["key"].strip(), each["value"]) for each in inside]
        found.append(_arguments(match["name"].strip(), pairs, tools))
    if not found:
        raise ValueError("no call")
    return found


def keyed(body: str, tools: Schemas) -> list[ToolCall]:
    """NAME, then <arg_key>KEY</arg_key><arg_value>VALUE</arg_value>…, as GLM writes."""
    pair = r"\s*<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)(?:</arg_value>|</tool_call>\s*\Z|\Z)"
    match = re.fullmatch(rf"\s*(?P<name>[^\n<]+?)\s*(?P<pairs>(?:{pair})*)\s*(?:</tool_call>)?\s*", body, re.DOTALL)
    if not match:
        raise ValueError("no call")
    pairs = [(key.strip(), value) for key, value in re.findall(pair, match["pairs"], re.DOTALL)]
    return [_arguments(match["name"], pairs, tools)]


def invoked(body: str, tools: Schemas) -> list[ToolCall]:
    """<｜DSML｜invoke name="NAME"><｜DSML｜parameter name="KEY" string="true">VALUE</｜DSML｜parameter>…

    As DeepSeek 3.2 writes.
    """
    mark, found = "｜DSML｜ ?", []
    invoke = rf'<{mark}invoke name="(?P<name>[^"]+)"\s*(?:/>|>(?P<body>.*?)</{mark}invoke>)'
    for match in re.finditer(invoke, body, re.DOTALL):
        pattern = rf'<{mark}parameter name="([^"]+)"(?: string="(true|false)")?>(.*?)</{mark}parameter>'
        pairs = re.findall(pattern, match["body"] or "", re.DOTALL)
        values = {key: text if is_text == "true" else typed(text, None) for key, is_text, text in pairs}
        found.append(call(match["name"], values))
    if not found:
        raise ValueError("no call")
    return found


def braced(body: str, tools: Schemas) -> list[ToolCall]:
    """call:NAME{KEY:VALUE,…} with texts between <|"|>, as Gemma 4 writes."""
    match = re.fullmatch(r"\s*call:(?P<name>[^{\s]+)\s*(?P<body>{.*})\s*", body, re.DOTALL)
    if not match:
        raise ValueError("no call")
    pieces = match["body"].split('<|"|>')
    if len(pieces) % 2 == 0:
        raise ValueError("a text does not end")
    quoted = [
        json.dumps(piece, ensure_ascii=False) if i % 2 else re.sub(r'(?<=[{,])\s*([^{}\[\],:"]+?)\s*:', r'"\1":', piece)
        for i, piece in enumerate(pieces)
    ]
    return [call(match["name"], json.loads("".join(quoted)))]


def pythonic(body: str, tools: Schemas) -> list[ToolCall]:
    """[NAME(KEY=VALUE, …), …] in Python's spelling, as Llama 4 writes."""
    try:
        tree = ast.parse(body.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError("no call") from None
    found = []
    for node in tree.elts if isinstance(tree, ast.List) else []:
        if not isinstance(node, ast.Call) or node.args or not all(keyword.arg for keyword in node.keywords):
            raise ValueError("no call")
        values = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
        found.append(call(ast.unparse(node.func), values))
    if not found:
        raise ValueError("no call")
    return found


def llama(body: str, tools: Schemas) -> list[ToolCall]:
    """Objects, or Python; only calls of tools that were offered, since nothing else marks them."""
    body = re.sub(r"<\|python_\w+\|>\s*$", "", body).strip()
    found = pythonic(body, tools) if re.match(r"\[\s*[A-Za-z_]", body) else objects(body, tools)
    if not all(each.name in tools for each in found):
        raise ValueError("no call")
    return found
