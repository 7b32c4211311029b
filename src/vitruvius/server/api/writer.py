"""What an endpoint makes of the tokens of its requests: pieces while they come, or the whole at the end."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from ...inference.request import Completion, Token
from .ticket import Ticket

Event = tuple[str | None, dict[str, Any]]  # the name of a server-sent event, where it has one, and its data


class Writer(Protocol):
    """The answer of one call."""

    def begin(self) -> Iterator[Event]:
        """Events before any token."""
        ...

    def write(self, ticket: Ticket, tokens: Sequence[Token]) -> Iterator[Event]:
        """Events of more tokens of one of its requests."""
        ...

    def finish(self, ticket: Ticket) -> Iterator[Event]:
        """Events after the last token of one of them."""
        ...

    def end(self) -> Iterator[Event]:
        """Events after all of them have ended."""
        ...

    def whole(self) -> dict[str, Any]:
        """The answer in one piece; after `end`."""
        ...


def identifier(kind: str) -> str:
    """A new name for an answer or a part of one."""
    return f"{kind}{secrets.token_hex(12)}"


def usage(completions: Sequence[Completion], prompts: int, reasoning: int = 0) -> dict[str, Any]:
    """The numbers of tokens, in OpenAI's form; each of `prompts` prompts is counted once, however many answers it
    got."""
    each = max(1, len(completions) // max(prompts, 1))
    read = sum(completion.timing.prompt for completion in completions[::each])
    written = sum(len(completion.tokens) for completion in completions)
    cached = sum(completion.timing.reused for completion in completions[::each])
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def finish_reason(completion: Completion) -> str:
    """Why an answer has ended, in OpenAI's words."""
    return "length" if completion.finish in ("length", "context") else "stop"
