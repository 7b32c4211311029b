"""The description of the interface that is published at /openapi.json, made from the tables that read requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ... import __version__
from . import chat, completions, embeddings, messages, responses, tokenizing
from .errors import TYPES
from .fields import Object

ERRORS = [status for status in TYPES if status not in (500, 501)]  # those two are faults of ours
JSON, EVENTS, TEXT = "application/json", "text/event-stream", "text/plain"


@dataclass(frozen=True)
class Called:
    """An endpoint that reads a body.

    Args:
        about: what it does.
        body: what it reads.
        streams: whether the answer may come in pieces.
        form: whose form its errors have.
    """

    about: str
    body: Object
    streams: bool = False
    form: Literal["openai", "anthropic"] = "openai"


CALLED: Mapping[str, Called] = {
    "/v1/completions": Called("Continues a text, or ids, as they stand.", completions.BODY, True),
    "/v1/chat/completions": Called("The next message of a conversation.", chat.BODY, True),
    "/v1/responses": Called("The same in the newer form of OpenAI's clients.", responses.BODY, True),
    "/v1/messages": Called("The same in the form of Anthropic's clients.", messages.BODY, True, "anthropic"),
    "/v1/messages/count_tokens": Called("How many tokens a conversation has.", messages.COUNT, form="anthropic"),
    "/v1/embeddings": Called("Texts as vectors, where the model embeds.", embeddings.BODY),
    "/tokenize": Called("The ids of a text or a conversation.", tokenizing.TOKENIZE),
    "/detokenize": Called("The text of ids.", tokenizing.DETOKENIZE),
}
GOT: Mapping[str, tuple[str, str | None]] = {
    "/v1/models": ("The models that are served.", JSON),
    "/v1/models/{name}": ("One of them.", JSON),
    "/tokenizer_info": ("Special tokens and the chat template.", JSON),
    "/health": ("200 while the server can answer.", None),
    "/metrics": ("Figures for Prometheus.", TEXT),
    "/openapi.json": ("This description.", JSON),
}
_ERROR = {
    "type": "object",
    "properties": {
        "message": {"type": "string"},
        "type": {"type": "string"},
        "param": {"type": ["string", "null"]},
        "code": {"type": ["string", "null"]},
    },
    "required": ["message", "type"],
}
_MODEL = {"name": "model", "in": "query", "schema": {"type": "string"}, "description": "the first one, if left out"}
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
PARAMETERS = {"/tokenizer_info": [_MODEL], "/v1/models/{name}": [_NAME]}


def document(keys: bool) -> dict[str, Any]:
    """The description, in OpenAPI 3.1; `keys` says whether a key is needed."""
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "vitruvius",
            "version": __version__,
            "description": "Models over HTTP. A request that a schema allows may still be refused with 400, where its "
            "fields contradict each other or the model: top_logprobs without logprobs, a prompt beyond the context.",
        },
        "paths": {
            **{path: {"post": _posted(path, each)} for path, each in CALLED.items()},
            **{path: {"get": _gotten(path)} for path in GOT},
        },
        "components": {"schemas": {"OpenAIError": _error("openai"), "AnthropicError": _error("anthropic")}},
    }
    if keys:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
        for path in ("/health", "/openapi.json"):
            found["paths"][path]["get"]["security"] = []
    return found


def _posted(path: str, each: Called) -> dict[str, Any]:
    kinds = {JSON: {"schema": {"type": "object"}}} | ({EVENTS: {"schema": {"type": "string"}}} if each.streams else {})
    return {
        "operationId": path.strip("/").replace("/", "_"),
        "summary": each.about,
        "requestBody": {"required": True, "content": {JSON: {"schema": each.body.schema()}}},
        "responses": {"200": {"description": "the answer", "content": kinds}, **_refusals(each.form)},
    }


def _gotten(path: str) -> dict[str, Any]:
    about, kind = GOT[path]
    content = {"content": {kind: {"schema": {"type": "object" if kind == JSON else "string"}}}} if kind else {}
    return {
        "operationId": path.strip("/").replace("/", "_").replace("{name}", "one"),
        "summary": about,
        "parameters": PARAMETERS.get(path, []),
        "responses": {"200": {"description": "the answer", **content}, **_refusals("openai")},
    }


def _refusals(form: str) -> dict[str, Any]:
    name = "AnthropicError" if form == "anthropic" else "OpenAIError"
    content = {JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    return {str(status): {"description": TYPES[status].replace("_", " "), "content": content} for status in ERRORS}


def _error(form: str) -> dict[str, Any]:
    more = {"type": {"const": "error"}} if form == "anthropic" else {}
    return {"type": "object", "properties": {"error": _ERROR, **more}, "required": ["error", *more]}
