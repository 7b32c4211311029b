"""Generation: tokens and text from a model, whatever runs it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .answers import AnswerPart, Channels
from .request import Finish, Request, Timing, Token, checked_ids, room
from .runner import Runner
from .sampling import Processor, Sampler
from .scheduler import Scheduler
from .torch_runner import TorchRunner

if TYPE_CHECKING:
    from torch import Tensor

    from ..checkpoints.tokenizer import Tokenizer
    from ..nn import Decoder

SLACK = 64  # tokens beyond the window that a conversation can go back without reading it anew


def generate(
    model: Decoder,
    input_ids: Tensor | Sequence[Sequence[int]],
    max_new_tokens: int = 16,
    temperature: float = 0.0,
    seed: int | None = None,
    ignore_eos: bool = False,
    processors: Sequence[Processor] = (),
    **sampling: Any,
) -> Tensor:
    """What a model writes after each prompt, or where it has an encoder in answer to it.

    Args:
        input_ids: LongTensor (B, T), or a list of B lists of different lengths.
        max_new_tokens: how many tokens to write; fewer where the longest prompt reaches the model's context.
        temperature: 0 is greedy.
        seed: of the random numbers: row i gets the tokens that its prompt gets alone with the seed + i.
        ignore_eos: goes on after the end of a text. Else a row stops there and is filled with the token that ended it.
        processors: functions of the ids so far and the logits (V,) that give changed logits.
        sampling: `top_k`, `top_p`, `min_p`, `repetition_penalty` and the other options of `Sampler`.

    Returns LongTensor (B, new tokens). Raises InputError for an empty prompt, one longer than the model's context, and
    ids or options out of range.
    """
    import torch

    sampler = Sampler(temperature=temperature, seed=seed, **sampling)
    rows = input_ids.tolist() if isinstance(input_ids, torch.Tensor) else input_ids
    new = write(TorchRunner(model), rows, max_new_tokens, sampler, ignore_eos, processors)
    return torch.from_numpy(new).to(model.device)


def write(
    runner: Runner,
    input_ids: NDArray[np.integer] | Sequence[Sequence[int]],
    max_new_tokens: int,
    sampler: Sampler,
    ignore_eos: bool,
    processors: Sequence[Processor] = (),
) -> NDArray[np.int64]:
    """As `generate`, by whatever runs the model."""
    rows = input_ids.tolist() if isinstance(input_ids, np.ndarray) else input_ids
    if not rows:
        raise InputError("input_ids must be integers (B, T), or a list of lists of them")
    prompts = [checked_ids(runner.spec, row) for row in rows]
    count = room(runner.spec, max(map(len, prompts)), max_new_tokens, least=1)
    scheduler = Scheduler(runner)
    completions = [
        scheduler.add(
            Request(
                ids=prompt,
                max_new_tokens=count,
                sampler=sampler if sampler.seed is None else replace(sampler, seed=sampler.seed + row),
                processors=processors,
                eos=() if ignore_eos else None,
            )
        )
        for row, prompt in enumerate(prompts)
    ]
    new = np.zeros((len(prompts), count), np.int64)
    for row, completion in zip(new, completions, strict=True):
        tokens = [token.id for token in scheduler.follow(completion)]
        row[:] = tokens + tokens[-1:] * (count - len(tokens))
    return new


def runner_of(model: Decoder | Runner) -> Runner:
    """What runs a model."""
    return model if isinstance(model, Runner) else TorchRunner(model)


class TokenStream:
    """The token ids of one answer as they come, the one that ends it included; it is cancelled if nobody listens to the
    end.

    `completion` has all that came so far.
    """

    def __init__(self, scheduler: Scheduler, request: Request) -> None:
        self._scheduler, self.completion = scheduler, scheduler.add(request)

    def __iter__(self) -> Iterator[int]:
        return (token.id for token in self.tokens())

    def tokens(self) -> Iterator[Token]:
        """The same with their text and log-probabilities, where the request wants them."""
        return self._scheduler.follow(self.completion)

    def cancel(self) -> None:
        """Ends it here."""
        self._scheduler.cancel(self.completion)

    @property
    def finish(self) -> Finish | None:
        """Why it has ended, None while it has not."""
        return self.completion.finish

    @property
    def timing(self) -> Timing:
        """How long it took so far."""
        return self.completion.timing


class Answer:
    """The text of one answer, in pieces, as it comes; its reasoning is apart."""

    def __init__(self, stream: TokenStream, channels: Channels) -> None:
        self._stream, self._channels = stream, channels

    def __iter__(self) -> Iterator[str]:
        return (part.text for part in self.parts() if part.channel == "text")

    def parts(self) -> Iterator[AnswerPart]:
        """The same with the reasoning."""
        for token in self._stream.tokens():
            yield from self._channels.push(token.text)
        yield from self._channels.finish()

    @property
    def finish(self) -> Finish | None:
        """Why it has ended, None while it has not."""
        return self._stream.finish

    @property
    def timing(self) -> Timing:
        """How long it took so far."""
        return self._stream.timing


class Session:
    """One sequence that a model remembers: what a prompt shares with what came before is not computed again.

    It makes one answer at a time: asking for the next ends the one before.

    Args:
        model: the model, or what runs it.
        slack: tokens beyond the window that windowed layers remember, so that an answer can be taken back.
        draft: whether requests may have the layers for multi-token prediction guess.
    """

    def __init__(self, model: Decoder | Runner, slack: int = SLACK, draft: bool = False) -> None:
        self.runner = runner_of(model)
        self._scheduler = Scheduler(self.runner, prefixes=1, slack=slack, draft=draft)
        self._stream: TokenStream | None = None

    def ask(self, request: Request) -> TokenStream:
        """What the model writes for one request, token by token. Errors as those of `generate`."""
        if self._stream:
            self._stream.cancel()
        self._stream = TokenStream(self._scheduler, request)
        return self._stream

    def stream(
        self,
        input_ids: Sequence[int],
        max_new_tokens: int = 16,
        sampler: Sampler | None = None,
        eos: Collection[int] | None = None,
    ) -> TokenStream:
        """What the model writes after one prompt, token by token, until one of `eos` (the model's own, if None).

        Errors as those of `generate`.
        """
        return self.ask(Request(ids=input_ids, max_new_tokens=max_new_tokens, sampler=sampler or Sampler(), eos=eos))


def stream(
    model: Decoder | Runner,
    input_ids: Sequence[int],
    max_new_tokens: int = 16,
    sampler: Sampler | None = None,
    eos: Collection[int] | None = None,
) -> TokenStream:
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
    variables: Mapping[str, Any] | None = None,
    lookup: int = 0,
    draft: int = 0,
) -> Answer:
    """What a model writes, as text, piece by piece.

    Args:
        model: a model, what runs one, or the session of one whose memory is to be used again.
        prompt: a text to continue, or the messages of a conversation to answer ({"role": …, "content": …}).
        stop: strings that end the answer; they are not part of it.
        ignore_eos: goes on after the end of a text or a turn, which the model's files and its tokenizer name.
        variables: what else the chat template knows, such as `enable_thinking`.
        lookup, draft: see `Request`.

    Errors as those of `generate`.
    """
    session = model if isinstance(model, Session) else Session(model, draft=draft > 0)
    known = variables or {}
    channels = Channels() if isinstance(prompt, str) else Channels.of(tokenizer, known)
    request = Request(
        ids=tokenizer.encode(prompt) if isinstance(prompt, str) else tokenizer.chat(prompt, **known),
        max_new_tokens=max_new_tokens,
        sampler=sampler or Sampler(),
        eos=() if ignore_eos else {*session.runner.eos, *tokenizer.eos_ids},
        tokenizer=tokenizer,
        keep=channels.form.texts,
        stop=stop,
        lookup=lookup,
        draft=draft,
    )
    return Answer(session.ask(request), channels)
