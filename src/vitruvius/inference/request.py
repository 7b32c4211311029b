"""What is asked of a model, and what it has written so far."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..errors import InputError
from .sampling import Processor, Sampler

if TYPE_CHECKING:
    from ..spec import Decoder
    from .text import TextDecoder

Finish = Literal["eos", "stop", "length", "context", "cancelled", "error"]


class TextTokenizer(Protocol):
    """What a request needs of a tokenizer (`vitruvius.tokenizer`)."""

    def stream(self, *, keep: Collection[str] = ()) -> TextDecoder:
        """Text from ids that come one at a time; special tokens have none, except those in `keep`."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """One text to be continued, or answered where the model has an encoder.

    Args:
        ids: the prompt's tokens.
        max_new_tokens: how many to write; 0 only reads the prompt, for its log-probabilities. Fewer are written where
            the model's context ends. As many as the context and memory have room for, if None.
        sampler: how each is chosen. The random numbers belong to the request: the same seed gives the same tokens
            whatever else runs beside it.
        processors: change the logits before all else; each is given the ids so far, prompt included.
        eos: ids that end the text; the model's own, if None.
        tokenizer: makes text of the tokens; without it they have none.
        keep: special tokens that are part of the text; the others have none.
        stop: strings that end the text; neither they nor a part of them are given out.
        logprobs: whether the log-probability of each token is wanted, and those of how many of the most probable ones
            beside it; none, if None.
        prompt_logprobs: the same of the tokens of the prompt.
        lookup: how many tokens to guess at a time, by what followed the last ones where they stood before (prompt
            look-up), while that pays; the tokens that are written stay the same.
        draft: how many tokens the model's layers for multi-token prediction guess at a time where look-up finds none,
            if the scheduler has them draft.
        priority: requests with a smaller number go first.
    """

    ids: Sequence[int]
    max_new_tokens: int | None = 16
    sampler: Sampler = field(default_factory=Sampler)
    processors: Sequence[Processor] = ()
    eos: Iterable[int] | None = None
    tokenizer: TextTokenizer | None = None
    keep: Collection[str] = ()
    stop: Sequence[str] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    lookup: int = 0
    draft: int = 0
    priority: int = 0


@dataclass(frozen=True)
class Token:
    """A token that was written, or read in a prompt.

    Args:
        id: the token.
        logprob: the logarithm of its probability by the model itself, before anything of the request changes it; None
            where it is not wanted, and for the first token of a prompt.
        top: the most probable tokens there, with theirs.
        text: what can be given out from here on.
    """

    id: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()
    text: str = ""


@dataclass
class Timing:
    """How long an answer took.

    Args:
        prompt: tokens of the prompt.
        reused: of these, how many were remembered from before.
        first: seconds until the first new token.
        tokens: new tokens.
        decode: seconds for the new tokens after the first.
        guessed, accepted: tokens that were guessed, and those that were right.
    """

    prompt: int
    reused: int = 0
    first: float = 0.0
    tokens: int = 0
    decode: float = 0.0
    guessed: int = 0
    accepted: int = 0

    @property
    def prefill_rate(self) -> float | None:
        """Tokens of the prompt read per second; None before the first token."""
        return (self.prompt - self.reused) / self.first if self.first else None

    @property
    def decode_rate(self) -> float | None:
        """Tokens per second after the first; None for fewer than two."""
        return (self.tokens - 1) / self.decode if self.tokens > 1 and self.decode else None

    def count(self, seconds: float) -> None:
        """One more token, which took this long."""
        if self.tokens == 0:
            self.first = seconds
        else:
            self.decode += seconds
        self.tokens += 1


@dataclass(eq=False)
class Completion:
    """What came of a request so far.

    Args:
        tokens: those written, the one that ends the text included.
        prompt: those of the prompt, where their log-probabilities are wanted.
        finish: why it has ended; None while it has not. "error" has an `error`, "stop" the string `stopped` that was
            found.
        timing: how long it took.
    """

    request: Request
    timing: Timing
    tokens: list[Token] = field(default_factory=list)
    prompt: list[Token] = field(default_factory=list)
    finish: Finish | None = None
    stopped: str | None = None
    error: InputError | None = None

    @property
    def ids(self) -> list[int]:
        """The tokens written."""
        return [token.id for token in self.tokens]

    @property
    def text(self) -> str:
        """The text written."""
        return "".join(token.text for token in self.tokens)


def checked_ids(spec: Decoder, ids: Any) -> list[int]:
    """A prompt as a list. Raises InputError for what the model cannot read, and for a model that does not write."""
    if not spec.writes:
        gives = "scores for its labels" if spec.head else "the tokens' hidden states"
        raise InputError(f"{spec.name} does not say which token comes next, so it cannot write: it gives {gives}")
    if not isinstance(ids, Sequence) or not all(isinstance(token, Integral) for token in ids):
        raise InputError("input_ids must be integers (B, T), or a list of lists of them")
    if not ids:
        raise InputError("the prompt is empty: give at least one token")
    vocab, context = spec.embedding.vocab, spec.context
    if not 0 <= min(ids) <= max(ids) < vocab:
        raise InputError(f"token ids run from 0 to {vocab - 1}, got {min(ids)} to {max(ids)}")
    if len(ids) > context:
        raise InputError(f"the prompt has {len(ids):,} tokens, and the model's context is {context:,}: shorten it")
    return [int(token) for token in ids]


def room(spec: Decoder, prompt: int, wanted: int | None, least: int = 0) -> int:
    """How many tokens can be written after a prompt. The last of them is not read, so it may lie beyond the context."""
    wanted = spec.context if wanted is None else wanted
    if not isinstance(wanted, Integral) or wanted < least:
        raise InputError(f"max_new_tokens must be a whole number of at least {least}, got {wanted!r}")
    return min(int(wanted), spec.context - (1 if spec.encoder else prompt) + 1)
