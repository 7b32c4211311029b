"""`POST /v1/embeddings`: texts as vectors, where the model is one that embeds."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response

from ...checkpoints.pooling import Pooling
from ...errors import InputError
from ...inference.embedding import CHUNK, Embedder
from .answering import Answering
from .completions import IDS, MOST_PROMPTS
from .errors import RefusedError
from .fields import Either, Field, ListOf, Object, Only, String, Whole, accepted, required
from .models import LiveModel
from .options import MODEL, RUNNING, WITHOUT_EFFECT

BODY = Object(
    {
        "model": MODEL,
        "input": required(
            Either(
                String(1),
                IDS,
                ListOf(String(1), least=1, most=MOST_PROMPTS),
                ListOf(IDS, least=1, most=MOST_PROMPTS),
            ),
            "a text or ids, or several of either",
        ),
        "encoding_format": Field(Only("float", "base64"), "base64: float32, the lowest byte first"),
        "dimensions": Field(Whole(1), "only the first so many, with the length 1 again"),
        "timeout": RUNNING["timeout"],
        **{name: WITHOUT_EFFECT[name] for name in ("user", "metadata")},
        "truncate_prompt_tokens": accepted(Only(-1)),
    }
)


def texts(live: LiveModel, asked: Mapping[str, Any]) -> list[list[int]]:
    """The inputs as ids. Raises RefusedError for one that the model cannot read."""
    given = asked["input"]
    several = isinstance(given, list) and not isinstance(given[0], int)
    found, spec = [], live.resident.runner.spec
    for i, text in enumerate(given if several else [given]):
        ids = live.tokenizer.encode(text, True) if isinstance(text, str) else text
        at = f"input[{i}]" if several else "input"
        if not ids:
            raise RefusedError(400, f"{at} has no tokens", at)
        if len(ids) > spec.context:
            code, most = "context_length_exceeded", f"the context is {spec.context:,}: shorten it"
            raise RefusedError(400, f"{at} has {len(ids):,} tokens, and {most}", at, code)
        if max(ids) >= spec.embedding.vocab:
            raise RefusedError(400, f"{at} holds the id {max(ids)}; ids end at {spec.embedding.vocab - 1}", at)
        found.append(ids)
    return found


async def answer(call: Answering, request: Asked) -> Response:
    """Answers a call. The thread that runs models does a chunk at a time, with steps of others in between."""
    live = await call.model()
    runner, name = live.resident.runner, live.offer.name
    if runner.spec.head is not None or runner.spec.encoder:
        raise RefusedError(400, f"{name} is no embedder: ask it for completions, or serve one that embeds", "model")
    most = call.asked.get("dimensions", runner.spec.width)
    if most > runner.spec.width:
        raise RefusedError(400, f"dimensions may be at most {runner.spec.width:,}, got {most:,}", "dimensions")
    rows = await asyncio.to_thread(texts, live, call.asked)
    async with asyncio.timeout_at(call.until):
        vectors = await embedded(call, live, rows)
    cut = Pooling().normalized(vectors[:, :most]) if most < runner.spec.width else vectors
    read = sum(map(len, rows))
    told = [{"object": "embedding", "index": i, "embedding": shown(row, call.asked)} for i, row in enumerate(cut)]
    usage = {"prompt_tokens": read, "total_tokens": read}
    return JSONResponse({"object": "list", "data": told, "model": name, "usage": usage})


async def embedded(call: Answering, live: LiveModel, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """The vectors (N, W) of texts, as many of them side by side as fill a chunk. Raises RefusedError where there is no
    memory for them now."""
    worker, found, at = call.models.worker, [], 0
    pooling = live.offer.pooling
    while at < len(rows):
        count, tokens = 1, len(rows[at])
        while at + count < len(rows) and tokens + len(rows[at + count]) <= CHUNK:
            tokens += len(rows[at + count])
            count += 1
        made = Embedder(live.resident.runner, rows[at : at + count], pooling)
        try:
            await worker.call(partial(worker.lend, made.bytes))
        except InputError as error:
            raise RefusedError(503, str(error), retry=1) from None
        try:
            while not await worker.call(made.step):
                pass
        finally:
            worker.post(partial(worker.give_back, made.bytes))
        found.append(made.vectors)
        at += count
    return np.concatenate(found)


def shown(row: NDArray[np.float32], asked: Mapping[str, Any]) -> list[float] | str:
    """A vector as a client wants it."""
    if asked.get("encoding_format") == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    return [float(value) for value in row]
