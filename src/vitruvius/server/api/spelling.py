"""Tokens and their log-probabilities, as clients get them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...inference.request import Token

if TYPE_CHECKING:
    from ...checkpoints.tokenizer import Tokenizer

LEAST = -9999.0  # stands for −∞, which JSON cannot say


def spelled(tokenizer: Tokenizer, i: int) -> tuple[str, bytes]:
    """A token as text and as bytes; one that is no text by itself is spelled out: "bytes:\\xe2\\x96"."""
    piece = tokenizer.token_bytes(i)
    try:
        return piece.decode(), piece
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece), piece


def finite(logprob: float) -> float:
    """A log-probability that JSON can say."""
    return max(logprob, LEAST)


def chat_logprobs(tokenizer: Tokenizer, tokens: Iterable[Token]) -> list[dict[str, Any]]:
    """As `/v1/chat/completions` tells them."""

    def one(i: int, logprob: float | None) -> dict[str, Any]:
        text, piece = spelled(tokenizer, i)
        return {"token": text, "logprob": finite(logprob or 0.0), "bytes": list(piece)}

    return [
        {**one(token.id, token.logprob), "top_logprobs": [one(i, logprob) for i, logprob in token.top]}
        for token in tokens
    ]


class Offsets:
    """Log-probabilities as `/v1/completions` tells them: lists side by side. The offsets go on from call to call."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._at = tokenizer, 0

    def told(self, tokens: Iterable[Token]) -> dict[str, Any]:
        """The next tokens."""
        found: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token in tokens:
            text, _ = spelled(self._tokenizer, token.id)
            known = token.logprob is not None
            pairs = [*token.top, (token.id, token.logprob)]
            top = {spelled(self._tokenizer, i)[0]: finite(logprob) for i, logprob in pairs if logprob is not None}
            found["tokens"].append(text)
            found["token_logprobs"].append(finite(token.logprob) if token.logprob is not None else None)
            found["top_logprobs"].append(top if known else None)
            found["text_offset"].append(self._at)
            self._at += len(text)
        return found
