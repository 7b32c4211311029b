"""Generation with the torch models: the prompt in chunks, then one token at a time, with the state."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from math import ceil
from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .sampling import Sampler
from .streaming import Answer, Stream, Timing
from .streaming import Decoder as TextDecoder

if TYPE_CHECKING:
    from torch import Tensor

    from ..nn import Decoder, State

CHUNK = 512  # tokens of a prompt that go through the model together: enough to be fast, and memory stays bounded
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
    prompts = _prompts(model, input_ids)
    longest = max(map(len, prompts))
    begun = 1 if model.spec.encoder else longest
    count = _room(model, begun, max_new_tokens)
    state = model.new_state(len(prompts), begun + count - 1, encoder_capacity=longest)
    if model.spec.encoder:
        prompts = encode(model, prompts, state)
    eos = frozenset() if ignore_eos else model.eos
    new = np.zeros((len(prompts), count), np.int64)
    ended = np.zeros(len(prompts), bool)
    for i, chosen in enumerate(islice(_steps(model, prompts, sampler, state), count)):
        new[:, i] = np.where(ended, new[:, i - 1], chosen)
        ended |= np.isin(chosen, list(eos))
        if ended.all():
            new[:, i:] = new[:, i, None]
            break
    return torch.from_numpy(new).to(model.head.weight.device)


def _steps(model: Decoder, prompts: list[list[int]], sampler: Sampler, state: State) -> Iterator[NDArray[np.int64]]:
    """The next token of every row (B,), again and again."""
    history = [list(prompt) for prompt in prompts]
    logits = feed(model, prompts, state)
    while True:
        chosen = sampler.choose(logits, history)
        for row, token in zip(history, chosen.tolist(), strict=True):
            row.append(token)
        yield chosen
        logits = feed(model, chosen[:, None].tolist(), state)


def feed(model: Decoder, rows: Sequence[Sequence[int]], state: State) -> NDArray[np.float32]:
    """Adds new tokens to the state of each row, a chunk at a time; only the last goes through the head.

    Args:
        rows: B lists of at least one token each.

    Returns the logits after the last token of each row, (B, V).
    """
    import torch

    lengths = np.array([len(row) for row in rows])
    # every row takes part in every chunk, so that all end with the last one
    chunks = min(ceil(lengths.max() / CHUNK), lengths.min())
    device = model.head.weight.device
    with torch.inference_mode():
        for i in range(chunks):
            begins, ends = lengths * i // chunks, lengths * (i + 1) // chunks
            counts = ends - begins
            ids = np.zeros((len(rows), counts.max()), np.int64)
            for row, tokens in enumerate(rows):
                ids[row, : counts[row]] = tokens[begins[row] : ends[row]]
            even = bool((counts == counts[0]).all())
            x = model.hidden(torch.from_numpy(ids).to(device), state, None if even else torch.from_numpy(counts))
        last = x[torch.arange(len(rows)), torch.from_numpy(counts - 1)]
        logits: NDArray[np.float32] = model.head(last).float().cpu().numpy()
    return logits


def encode(model: Decoder, prompts: Sequence[Sequence[int]], state: State) -> list[list[int]]:
    """Gives the prompts to the encoder; returns what the decoder goes on from, its first token in every row."""
    import torch

    start, vocab = (model.spec.config or {}).get("decoder_start_token_id"), model.spec.embedding.vocab
    if type(start) is not int or not 0 <= start < vocab:
        raise InputError(f"decoder_start_token_id says what the decoder of {model.spec.name} begins with, got {start}")
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    ids = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    with torch.inference_mode():
        model.encode(ids.to(model.head.weight.device), lengths, state)
    return [[start] for _ in prompts]


def _prompts(model: Decoder, input_ids: Tensor | Sequence[Sequence[int]]) -> list[list[int]]:
    """The prompts as lists. Raises InputError for what the model cannot read."""
    import torch

    rows = input_ids.tolist() if isinstance(input_ids, torch.Tensor | np.ndarray) else input_ids
    if not rows or not all(isinstance(row, Sequence) for row in rows):
        raise InputError("input_ids must be integers (B, T), or a list of lists of them")
    vocab, context = model.spec.embedding.vocab, model.spec.context
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


def _room(model: Decoder, prompt: int, wanted: int) -> int:
    """How many tokens can be written after a prompt. The last of them is not read, so it may lie beyond the context."""
    if not isinstance(wanted, Integral) or wanted < 1:
        raise InputError(f"max_new_tokens must be a whole number of at least 1, got {wanted!r}")
    return min(int(wanted), model.spec.context - prompt + 1)


class Session:
    """One sequence that a model remembers: what a prompt shares with what came before is not computed again.

    It makes one answer at a time: asking for the next ends the one before.

    Args:
        model: the model.
        slack: see `Decoder.new_state`.
    """

    def __init__(self, model: Decoder, slack: int = SLACK) -> None:
        self.model, self._slack = model, slack
        self._state = model.new_state(1, 1)
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
        (prompt,) = _prompts(self.model, [input_ids])
        if self.model.spec.encoder:  # another prompt is another text for the encoder
            count, kept = _room(self.model, 1, max_new_tokens), 0
            self._state, self._ids = self.model.new_state(1, count, encoder_capacity=len(prompt)), []
            (begun,) = encode(self.model, [prompt], self._state)
        else:
            begun, count = prompt, _room(self.model, len(prompt), max_new_tokens)
            kept = self._return(prompt, len(prompt) + count - 1)
        tokens = self._tokens(begun, kept, sampler or Sampler())
        ends = self.model.eos if eos is None else frozenset(eos)
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
            room = max(capacity, min(max(2 * self._state.capacity, ROOM), self.model.spec.context))
            self._state, self._ids = self.model.new_state(1, room, self._slack), []
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
        if self._state.fixed:  # an interrupted call would leave recurrent states between two tokens
            self._ids = []
        logits = feed(self.model, [ids], self._state)
        self._ids = [*before, *ids]
        return logits


def stream(
    model: Decoder,
    input_ids: Sequence[int],
    max_new_tokens: int = 16,
    sampler: Sampler | None = None,
    eos: Collection[int] | None = None,
) -> Stream:
    """What a model writes after one prompt, token by token: see `Session.stream`."""
    return Session(model).stream(input_ids, max_new_tokens, sampler, eos)


def stream_text(
    model: Decoder | Session,
    tokenizer: Tokenizer,
    prompt: str | list[dict[str, Any]],
    max_new_tokens: int = 256,
    sampler: Sampler | None = None,
    stop: Sequence[str] = (),
    ignore_eos: bool = False,
) -> Answer:
    """What a model writes, as text, piece by piece.

    Args:
        model: a model, or the session of one whose memory is to be used again.
        prompt: a text to continue, or the messages of a conversation to answer ({"role": …, "content": …}).
        stop: strings that end the answer; they are not part of it.
        ignore_eos: goes on after the end of a text or a turn, which the model's files and its tokenizer name.

    Errors as those of `generate`.
    """
    ids = tokenizer.encode(prompt) if isinstance(prompt, str) else tokenizer.chat(prompt)
    session = model if isinstance(model, Session) else Session(model)
    eos = () if ignore_eos else {*session.model.eos, *tokenizer.eos_ids}
    tokens = session.stream(ids, max_new_tokens, sampler, eos)
    decoder = tokenizer.stream()
    for token in () if session.model.spec.encoder else ids[-BEFORE:]:
        decoder.push(token)
    return Answer(tokens, decoder, stop)
