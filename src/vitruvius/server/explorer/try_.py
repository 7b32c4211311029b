"""Trying a model on this machine: its text as it comes, with probabilities, and what one forward pass looks like.

    GET  api/try            which models there are
    POST api/try/generate   {model, prompt, …} -> server-sent events: `token`, then `done` or `error`
    POST api/try/look       {model, text} -> its tokens, and where there are attentions and routers to look at
    POST api/try/attention  {model, text, path, head} -> the weights, a row for each token
    POST api/try/heads      {model, text, path} -> the weights of all heads, for texts of at most 64 tokens
    POST api/try/router     {model, text, path} -> the experts of each token, and their weights
    POST api/try/lens       {model, text} -> the likeliest next token after each, as of every layer
    POST api/try/without    {model, text, path, number} -> the next token with and without a head, a layer, an expert

One request runs a model at a time; others are told so. A page that is closed ends its text.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from math import exp
from time import perf_counter
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ...errors import InputError
from .local import Loaded, LocalModels

if TYPE_CHECKING:
    from ...inference.sampling import Sampler

LONGEST_PROMPT = 8_000  # characters
MOST_NEW, MOST_SHOWN = 512, 256  # tokens written; tokens of a text whose inside is shown
MOST_IN_GRID = 64  # tokens of a text of which all heads are shown at once
ALTERNATIVES = 5
LARGEST_REQUEST = 64 * 2**10  # bytes


def routes(given: Sequence[str] = (), ignore: Sequence[str] = ()) -> list[Route]:
    """The routes, for the models at hand and the checkpoints in `given`."""
    models, desk = LocalModels(given, ignore), _Desk()

    async def listed(request: Request) -> Response:
        why = await run_in_threadpool(models.unavailable)
        found = [{"id": name} for name in ({} if why else models.sources)]
        return JSONResponse({"available": why is None, "why": why, "models": found})

    async def generate(request: Request) -> ASGIApp:
        asked = await _asked(request)
        async with AsyncExitStack() as seat:
            await seat.enter_async_context(desk.seat())
            loaded = await run_in_threadpool(models.load, _text(asked, "model", 200))
            tokens = await run_in_threadpool(_prepared, loaded, asked)
            return _held(StreamingResponse(_events(tokens), media_type="text/event-stream"), seat.pop_all())

    def looking(answer: Callable[[Loaded, list[int], Mapping[str, Any]], dict[str, Any]]) -> Any:
        async def look(request: Request) -> Response:
            asked = await _asked(request)
            async with desk.seat():
                return JSONResponse(await run_in_threadpool(_looked, models, asked, answer))

        return look

    return [
        Route("/api/try", listed, methods=["GET"]),
        Route("/api/try/generate", generate, methods=["POST"]),
        Route("/api/try/look", looking(_places), methods=["POST"]),
        Route("/api/try/attention", looking(_attention), methods=["POST"]),
        Route("/api/try/heads", looking(_heads), methods=["POST"]),
        Route("/api/try/router", looking(_router), methods=["POST"]),
        Route("/api/try/lens", looking(_lens), methods=["POST"]),
        Route("/api/try/without", looking(_without), methods=["POST"]),
    ]


class _Desk:
    """There is one seat, and nobody waits for it."""

    def __init__(self) -> None:
        self.taken = False

    @asynccontextmanager
    async def seat(self) -> AsyncIterator[None]:
        """Taken until the block ends. Raises HTTPException (409) where somebody sits."""
        if self.taken:
            raise HTTPException(409, "a model is at work for another request; try again when it is done")
        self.taken = True
        try:
            yield
        finally:
            self.taken = False


def _held(response: Response, seat: AsyncExitStack) -> ASGIApp:
    """The answer, after which the seat is free, whether anybody heard it to the end or not."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async with seat:
            await response(scope, receive, send)

    return answer


# ------------------------------------------------------------------ text


def _prepared(loaded: Loaded, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The tokens to come. What cannot be done is refused here, before the answer has begun."""
    from ...inference.sampling import Sampler

    prompt = _text(asked, "prompt", LONGEST_PROMPT)
    sampler = Sampler(
        temperature=asked.get("temperature", 0.0),
        top_k=asked.get("top_k"),
        top_p=asked.get("top_p"),
        seed=asked.get("seed"),
    )
    most = _whole(asked, "max_new_tokens", 1, MOST_NEW, 64)
    chat = asked.get("chat") is True
    ids = loaded.tokenizer.chat([{"role": "user", "content": prompt}]) if chat else loaded.tokenizer.encode(prompt)
    room = loaded.runner.spec.context - len(ids)
    if not ids or room < 1:
        raise InputError(f"the prompt has {len(ids):,} tokens, the model's context is {loaded.runner.spec.context:,}")
    return _tokens(loaded, ids, min(most, room), sampler)


def _tokens(loaded: Loaded, ids: list[int], most: int, sampler: Sampler) -> Iterator[dict[str, Any]]:
    """Each new token with its probability before any sampling option, and the likeliest ones beside it."""
    from ...inference.generation import TokenStream
    from ...inference.request import Request
    from ...inference.scheduler import Scheduler

    tokenizer = loaded.tokenizer
    request = Request(
        ids=ids,
        max_new_tokens=most,
        sampler=sampler,
        eos={*loaded.runner.eos, *tokenizer.eos_ids},
        tokenizer=tokenizer,
        logprobs=ALTERNATIVES,
    )
    for token in TokenStream(Scheduler(loaded.runner), request).tokens():
        yield {
            "id": token.id,
            "text": token.text,
            "probability": _probability(token.logprob),
            "top": [
                {"id": i, "text": tokenizer.decode([i]), "probability": _probability(logprob)}
                for i, logprob in token.top
            ],
        }


def _probability(logprob: float | None) -> float | None:
    return None if logprob is None else round(exp(logprob), 6)


async def _events(tokens: Iterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    """Server-sent events, until all is told or the page has gone."""
    begin, count = perf_counter(), 0
    try:
        while (told := await run_in_threadpool(next, tokens, None)) is not None:
            count += 1
            yield _event("token", told)
        yield _event("done", {"tokens": count, "seconds": round(perf_counter() - begin, 3)})
    except InputError as error:
        yield _event("error", {"error": str(error)})


def _event(name: str, value: Mapping[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


# ------------------------------------------------------------------ inside


def _looked(
    models: LocalModels,
    asked: Mapping[str, Any],
    answer: Callable[[Loaded, list[int], Mapping[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    loaded = models.load(_text(asked, "model", 200))
    ids = loaded.tokenizer.encode(_text(asked, "text", LONGEST_PROMPT))
    if not 0 < len(ids) <= MOST_SHOWN:
        raise InputError(f"the text has {len(ids):,} tokens; from 1 to {MOST_SHOWN} are shown")
    tokens = [{"id": i, "text": loaded.tokenizer.decode([i])} for i in ids]
    return {"tokens": tokens, **answer(loaded, ids, asked)}


def _places(loaded: Loaded, ids: list[int], asked: Mapping[str, Any]) -> dict[str, Any]:
    from .attention_maps import heads, routers

    return {
        "attentions": [{"path": path, "heads": count} for path, count in heads(loaded.model).items()],
        "routers": [{"path": path, "experts": e, "active": k} for path, (e, k) in routers(loaded.model).items()],
    }


def _attention(loaded: Loaded, ids: list[int], asked: Mapping[str, Any]) -> dict[str, Any]:
    from .attention_maps import attention_weights

    path, head = _text(asked, "path", 200), _whole(asked, "head", 0, 65_536, 0)
    return {"weights": _rounded(attention_weights(loaded.model, ids, path, head))}


def _heads(loaded: Loaded, ids: list[int], asked: Mapping[str, Any]) -> dict[str, Any]:
    from .attention_maps import all_heads

    if len(ids) > MOST_IN_GRID:
        raise InputError(f"the text has {len(ids):,} tokens; all heads at once are shown of at most {MOST_IN_GRID}")
    weights = all_heads(loaded.model, ids, _text(asked, "path", 200))
    return {"heads": [[[round(w, 3) for w in row[: i + 1]] for i, row in enumerate(head)] for head in weights.tolist()]}


def _lens(loaded: Loaded, ids: list[int], asked: Mapping[str, Any]) -> dict[str, Any]:
    from .inside import logit_lens

    best, sure = logit_lens(loaded.model, ids)
    words = {i: loaded.tokenizer.decode([i]) for i in set(best.flatten().tolist())}
    return {
        "layers": [
            [{"text": words[i], "probability": round(p, 4)} for i, p in zip(row, probabilities, strict=True)]
            for row, probabilities in zip(best.tolist(), sure.tolist(), strict=True)
        ]
    }


def _without(loaded: Loaded, ids: list[int], asked: Mapping[str, Any]) -> dict[str, Any]:
    from .inside import without

    number = None if asked.get("number") is None else _whole(asked, "number", 0, 65_536, 0)
    before, after = without(loaded.model, ids, _text(asked, "path", 200), number)
    shown = list(
        dict.fromkeys([*before.topk(ALTERNATIVES).indices.tolist(), *after.topk(ALTERNATIVES).indices.tolist()])
    )
    return {
        "next": [
            {
                "id": i,
                "text": loaded.tokenizer.decode([i]),
                "before": round(float(before[i]), 6),
                "after": round(float(after[i]), 6),
            }
            for i in shown
        ]
    }


def _router(loaded: Loaded, ids: list[int], asked: Mapping[str, Any]) -> dict[str, Any]:
    from .attention_maps import router_choice

    experts, weights = router_choice(loaded.model, ids, _text(asked, "path", 200))
    return {"experts": experts.tolist(), "weights": _rounded(weights)}


def _rounded(values: Any) -> list[list[float]]:
    return [[round(value, 4) for value in row] for row in values.tolist()]


# ------------------------------------------------------------------ requests


async def _asked(request: Request) -> dict[str, Any]:
    """The request's JSON object, read no further than it may be long."""
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > LARGEST_REQUEST:
            raise HTTPException(413, f"a request may have at most {LARGEST_REQUEST:,} bytes")
    try:
        asked = json.loads(received)
    except (ValueError, RecursionError):
        raise InputError("the request is not valid JSON") from None
    if not isinstance(asked, dict):
        raise InputError("the request must be a JSON object")
    return asked


def _text(asked: Mapping[str, Any], key: str, longest: int) -> str:
    value = asked.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise InputError(f"{key} must be a text of 1 to {longest:,} characters")
    return value


def _whole(asked: Mapping[str, Any], key: str, least: int, most: int, default: int) -> int:
    value = asked.get(key, default)
    if type(value) is not int or not least <= value <= most:
        raise InputError(f"{key} must be a whole number from {least} to {most}")
    return value
