"""The fields that say how text is written: what endpoints share of them, and the request that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...inference.request import Request
from ...inference.sampling import Logits, Processor, Sampler
from .errors import RefusedError
from .fields import Either, Field, Flag, ListOf, MapOf, Number, Object, Only, String, Whole, accepted
from .models import LiveModel

MOST_ANSWERS, MOST_STOPS, MOST_TOP = 128, 16, 20
MOST_BIASED, LONGEST_STOP = 1024, 256

MODEL = Field(String(1, 200), "which of the models that are served; the first one, if it is left out")
CHOOSING: Mapping[str, Field] = {
    "temperature": Field(Number(0, 100), "0 takes the most probable token"),
    "top_p": Field(Number(0, 1)),
    "top_k": Field(Whole(-1, 2**31 - 1), "0 and −1: all"),
    "min_p": Field(Number(0, 1)),
}
PENALTIES: Mapping[str, Field] = {
    "presence_penalty": Field(Number(-2, 2)),
    "frequency_penalty": Field(Number(-2, 2)),
    "repetition_penalty": Field(Number(0, 100, above=True)),
    "logit_bias": Field(MapOf(Number(-100, 100), "^[0-9]{1,9}$", MOST_BIASED)),
    "seed": Field(Whole(-(2**63)), "the same seed gives the same answer, alone and in company"),
}
ENDING: Mapping[str, Field] = {
    "stop": Field(
        Either(String(1, LONGEST_STOP), ListOf(String(1, LONGEST_STOP), most=MOST_STOPS)), "texts that end the answer"
    ),
    "stop_token_ids": Field(ListOf(Whole(0, 2**31 - 1), most=MOST_BIASED), "tokens that end it"),
    "ignore_eos": Field(Flag(), "goes on after the end of a text or a turn"),
    "min_tokens": Field(Whole(), "tokens before which it does not end"),
}
RUNNING: Mapping[str, Field] = {
    "n": Field(Whole(1, MOST_ANSWERS), "how many answers"),
    "priority": Field(Whole(-(2**31), 2**31 - 1), "smaller numbers go first"),
    "timeout": Field(Number(0, 86_400, above=True), "seconds after which it is given up"),
}
STREAMING: Mapping[str, Field] = {
    "stream": Field(Flag()),
    "stream_options": Field(
        Object(
            {
                "include_usage": Field(Flag(), "a last piece with the numbers of tokens"),
                "continuous_usage_stats": Field(Flag(), "the numbers of tokens in every piece"),
                "include_obfuscation": accepted(Flag()),
            }
        )
    ),
}
WITHOUT_EFFECT: Mapping[str, Field] = {
    "user": accepted(String()),
    "metadata": accepted(MapOf(String())),
    "store": accepted(Only(False), "nothing is kept"),
    "service_tier": accepted(String()),
    "safety_identifier": accepted(String()),
    "prompt_cache_key": accepted(String()),
    "prompt_cache_retention": accepted(String()),
}


class AtLeast:
    """Forbids the ids that end a text until so many tokens are written."""

    def __init__(self, count: int, prompt: int, ends: frozenset[int]) -> None:
        self.count, self.prompt, self.ends = count, prompt, sorted(ends)

    def __call__(self, ids: Sequence[int], logits: Logits) -> Logits:
        """See `Processor`."""
        if len(ids) - self.prompt < self.count:
            logits = logits.copy()
            logits[[end for end in self.ends if end < len(logits)]] = -np.inf
        return logits


def sampler(live: LiveModel, asked: Mapping[str, Any], answer: int = 0) -> Sampler:
    """How tokens are chosen: as the request says, else as the model's files ask, else at the temperature 1. Of several
    answers each has random numbers of its own."""
    chosen = {"temperature": 1.0, **live.offer.sampling}
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
    chosen |= {name: asked[name] for name in names if name in asked}
    if chosen.get("top_k") is not None and chosen["top_k"] < 1:
        del chosen["top_k"]
    if chosen.get("top_p") == 0:
        chosen["top_p"] = 1e-9  # the most probable token alone
    seed = asked.get("seed")
    bias = {int(token): value for token, value in asked.get("logit_bias", {}).items()}
    wrong = next((token for token in bias if token >= live.spec.output_width), None)
    if wrong is not None:
        raise RefusedError(
            400, f"logit_bias names the token {wrong}; ids end at {live.spec.output_width - 1}", "logit_bias"
        )
    return Sampler(**chosen, logit_bias=bias, seed=None if seed is None else (seed + answer) % 2**64)


def requests(
    live: LiveModel, asked: Mapping[str, Any], ids: Sequence[int], max_new_tokens: int | None, **more: Any
) -> list[Request]:
    """What is asked of the model for one prompt: a request for each of the `n` answers.

    Args:
        more: options of `Request`; a callable `processors` makes those of one answer.
    """
    make = more.pop("processors", list)
    ends = frozenset() if asked.get("ignore_eos") else live.eos
    ends |= frozenset(asked.get("stop_token_ids", ()))
    stop = asked.get("stop", ())
    least = asked.get("min_tokens", 0)
    made = []
    for answer in range(asked.get("n", 1)):
        processors: list[Processor] = [*make()]
        if least:
            processors.append(AtLeast(least, len(ids), ends | live.eos))
        made.append(
            Request(
                ids=ids,
                max_new_tokens=max_new_tokens,
                sampler=sampler(live, asked, answer),
                processors=processors,
                eos=ends,
                tokenizer=live.tokenizer,
                stop=[stop] if isinstance(stop, str) else stop,
                priority=asked.get("priority", 0),
                lookup=live.lookup,
                draft=live.draft,
                **more,
            )
        )
    return made


def room(live: LiveModel, prompt: int) -> int:
    """How many tokens fit into the model's context after a prompt. Raises RefusedError where it is too long."""
    context = live.spec.context
    if prompt >= context:
        raise RefusedError(
            400,
            f"the prompt has {prompt:,} tokens, and the context of {live.offer.name} is {context:,}: shorten it",
            code="context_length_exceeded",
        )
    return context - prompt
