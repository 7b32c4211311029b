"""Generation: tokens and text from a model, whatever runs it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .runner import Memory, Runner
from .sampling import Sampler
from .streaming import Answer, Stream, Timing
from .streaming import Decoder as TextDecoder
from .torch_runner import TorchRunner

if TYPE_CHECKING:
    from torch import Tensor

    from ..nn import Decoder
    from ..spec import Decoder as Spec

BEFORE = 4  # tokens of the prompt that a decoder has seen: whether a space follows it depends on them
ROOM = 1024  # tokens that a session has room for at first
SLACK = 64  # tokens beyond the window that a conversation can go back without reading it anew


class Tokenizer(Protocol):
    """What is needed of a tokenizer (`vitruvius.tokenizer`); `eos_ids` end a text or a turn."""

    eos_ids: tuple[int, ...]

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        ...

    def chat(self, messages: list[dict[str, Any]]) -> list[int]:
        """The ids of a conversation, up to where the answer begins."""
        ...

    def stream(self) -> TextDecoder:
        """Text from ids that come one at a time."""
        ...


def generate(
    model: Decoder,
    input_ids: Tensor | Sequence[Sequence[int]],
    max_new_tokens: int = 16,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    ignore_eos: bool = False,
) -> Tensor:
    """What a model writes after each prompt, or where it has an encoder in answer to it.

    Args:
        input_ids: LongTensor (B, T), or a list of B lists of different lengths.
        max_new_tokens: how many tokens to write; fewer where the longest prompt reaches the model's context.
        temperature, top_k, top_p, min_p, repetition_penalty, seed: see `Sampler`. The temperature 0 is greedy.
        ignore_eos: goes on after the end of a text. Else a row stops there and is filled with the token that ended it.

    Returns LongTensor (B, new tokens). Raises InputError for an empty prompt, one longer than the model's context, and
    ids or options out of range.
    """
    import torch

    sampler = Sampler(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    rows = input_ids.tolist() if isinstance(input_ids, torch.Tensor) else input_ids
    new = write(TorchRunner(model), rows, max_new_tokens, sampler, ignore_eos)
    return torch.from_numpy(new).to(model.head.weight.device)


def write(
    runner: Runner,
    input_ids: NDArray[np.integer] | Sequence[Sequence[int]],
    max_new_tokens: int,
    sampler: Sampler,
    ignore_eos: bool,
) -> NDArray[np.int64]:
    """As `generate`, by whatever runs the model."""
    prompts = _prompts(runner.spec, input_ids)
    longest = max(map(len, prompts))
    begun = 1 if runner.spec.encoder else longest
    count = _room(runner.spec, begun, max_new_tokens)
    state = runner.new_state(len(prompts), begun + count - 1, encoder_capacity=longest)
    if runner.spec.encoder:
        prompts = runner.encode(prompts, state)
    eos = frozenset() if ignore_eos else runner.eos
    new = np.zeros((len(prompts), count), np.int64)
    ended = np.zeros(len(prompts), bool)
    for i, chosen in enumerate(islice(_steps(runner, prompts, sampler, state), count)):
        new[:, i] = np.where(ended, new[:, i - 1], chosen)
        ended |= np.isin(chosen, list(eos))
        if ended.all():
            new[:, i:] = new[:, i, None]
            break
    return new


def _steps(runner: Runner, prompts: list[list[int]], sampler: Sampler, state: Memory) -> Iterator[NDArray[np.int64]]:
    """The next token of every row (B,), again and again."""
    history = [list(prompt) for prompt in prompts]
    logits = runner.feed(prompts, state)
    while True:
        chosen = sampler.choose(logits, history)
        for row, token in zip(history, chosen.tolist(), strict=True):
            row.append(token)
        yield chosen
        logits = runner.feed(chosen[:, None].tolist(), state)


def runner_of(model: Decoder | Runner) -> Runner:
    """What runs a model."""
    return model if isinstance(model, Runner) else TorchRunner(model)


def _prompts(spec: Spec, input_ids: NDArray[np.integer] | Sequence[Sequence[int]]) -> list[list[int]]:
    """The prompts as lists. Raises InputError for what the model cannot read."""
    rows = input_ids.tolist() if isinstance(input_ids, np.ndarray) else input_ids
    if not rows or not all(isinstance(row, Sequence) for row in rows):
        raise InputError("input_ids must be integers (B, T), or a list of lists of them")
    vocab, context = spec.embedding.vocab, spec.context
    for row in rows:
        if not row:
            raise InputError("the prompt is empty: give at least one token")
        if not all(isinstance(token, Integral) for token in row):
            raise InputError("input_ids must be integers (B, T), or a list of lists of them")
        if not 0 <= min(row) <= max(row) < vocab:
            raise InputError(f"token ids run from 0 to {vocab - 1}, got {min(row)} to {max(row)}")
        if len(row) > context:
            raise InputError(f"the prompt has {len(row):,} tokens, and the model's context is {context:,}: shorten it")
    return [list(map(int, row)) for row in rows]


def _room(spec: Spec, prompt: int, wanted: int) -> int:
    """How many tokens can be written after a prompt. The last of them is not read, so it may lie beyond the context."""
    if not isinstance(wanted, Integral) or wanted < 1:
        raise InputError(f"max_new_tokens must be a whole number of at least 1, got {wanted!r}")
    return min(int(wanted), spec.context - prompt + 1)


class Session:
    """One sequence that a model remembers: what a prompt shares with what came before is not computed again.

    It makes one answer at a time: asking for the next ends the one before.

    Args:
        model: the model, or what runs it.
        slack: see `Decoder.new_state`.
    """

    def __init__(self, model: Decoder | Runner, slack: int = SLACK) -> None:
        self.runner, self._slack = runner_of(model), slack
        self._state = self.runner.new_state(1, 1)
        self._ids: list[int] = []  # what the state holds

    def stream(
        self,
        input_ids: Sequence[int],
        max_new_tokens: int = 16,
        sampler: Sampler | None = None,
        eos: Collection[int] | None = None,
    ) -> Stream:
        """What the model writes after one prompt, token by token, until one of `eos` (the model's own, if None).

        Errors as those of `generate`.
        """
        (prompt,) = _prompts(self.runner.spec, [input_ids])
        if self.runner.spec.encoder:  # another prompt is another text for the encoder
            count, kept = _room(self.runner.spec, 1, max_new_tokens), 0
            self._state, self._ids = self.runner.new_state(1, count, encoder_capacity=len(prompt)), []
            (begun,) = self.runner.encode([prompt], self._state)
        else:
            begun, count = prompt, _room(self.runner.spec, len(prompt), max_new_tokens)
            kept = self._return(prompt, len(prompt) + count - 1)
        tokens = self._tokens(begun, kept, sampler or Sampler())
        ends = self.runner.eos if eos is None else frozenset(eos)
        return Stream(
            tokens, (count, "length" if count == max_new_tokens else "context"), ends, Timing(len(prompt), kept)
        )

    def _tokens(self, prompt: list[int], kept: int, sampler: Sampler) -> Iterator[int]:
        history = list(prompt)
        logits = self._feed(prompt[kept:])
        self._state.snapshot()  # the next prompt may repeat this one and not the answer
        while True:
            (token,) = sampler.choose(logits, [history]).tolist()
            history.append(token)
            yield token
            logits = self._feed([token])

    def _return(self, ids: list[int], capacity: int) -> int:
        """Makes the state hold as much of the beginning of `ids` as it can, with room for `capacity` tokens in all."""
        if self._state.capacity < capacity:  # twice as much, so that a long conversation is not read anew at each turn
            room = max(capacity, min(max(2 * self._state.capacity, ROOM), self.runner.spec.context))
            self._state, self._ids = self.runner.new_state(1, room, self._slack), []
        shared = 0
        for old, new in zip(self._ids, ids[:-1], strict=False):  # the last token is read in any case, for its logits
            if old != new:
                break
            shared += 1
        kept = self._state.reach(shared)
        self._state.rewind(kept)
        self._ids = self._ids[:kept]
        return kept

    def _feed(self, ids: list[int]) -> NDArray[np.float32]:
        """Logits (1, V) after these new tokens."""
        before = self._ids
        if self._state.recurrent:  # an interrupted call would leave recurrent states between two tokens
            self._ids = []
        logits = self.runner.feed([ids], self._state)
        self._ids = [*before, *ids]
        return logits


def stream(
    model: Decoder | Runner,
    input_ids: Sequence[int],
    max_new_tokens: int = 16,
    sampler: Sampler | None = None,
    eos: Collection[int] | None = None,
) -> Stream:
    """What a model writes after one prompt, token by token: see `Session.stream`."""
    return Session(model).stream(input_ids, max_new_tokens, sampler, eos)


def stream_text(
    model: Decoder | Runner | Session,
    tokenizer: Tokenizer,
    prompt: str | list[dict[str, Any]],
    max_new_tokens: int = 256,
    sampler: Sampler | None = None,
    stop: Sequence[str] = (),
    ignore_eos: bool = False,
) -> Answer:
    """What a model writes, as text, piece by piece.

    Args:
        model: a model, what runs one, or the session of one whose memory is to be used again.
        prompt: a text to continue, or the messages of a conversation to answer ({"role": …, "content": …}).
        stop: strings that end the answer; they are not part of it.
        ignore_eos: goes on after the end of a text or a turn, which the model's files and its tokenizer name.

    Errors as those of `generate`.
    """
    ids = tokenizer.encode(prompt) if isinstance(prompt, str) else tokenizer.chat(prompt)
    session = model if isinstance(model, Session) else Session(model)
    eos = () if ignore_eos else {*session.runner.eos, *tokenizer.eos_ids}
    tokens = session.stream(ids, max_new_tokens, sampler, eos)
    decoder = tokenizer.stream()
    for token in () if session.runner.spec.encoder else ids[-BEFORE:]:
        decoder.push(token)
    return Answer(tokens, decoder, stop)
