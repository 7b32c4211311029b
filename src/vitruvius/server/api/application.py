"""The server: its endpoints, and how it begins and ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ...errors import InputError
from . import chat, completions, embeddings, messages, openapi, page, responses, tokenizing
from .answering import Answering, EventStream, Form, refusal
from .body import json_of
from .door import Door
from .errors import RefusedError
from .fields import Object
from .metrics import CONTENT_TYPE, Metrics
from .models import LiveModel, Models
from .ticket import StoppedError

log = logging.getLogger(__name__)
Tell = Callable[[LiveModel, Mapping[str, Any]], dict[str, Any]]
Handle = Callable[[Answering, Asked], Awaitable["Response | EventStream"]]


class Service:
    """The application of one server.

    Args:
        models: what is served.
        ready: those of them that are loaded already.
        host: the address that it listens on.
        keys, origins: see `Door`.
    """

    def __init__(
        self,
        models: Models,
        ready: Sequence[LiveModel] = (),
        host: str = "127.0.0.1",
        keys: Collection[str] = (),
        origins: Collection[str] = (),
    ) -> None:
        self.models, self.metrics = models, Metrics()
        self._ready, self._document = ready, openapi.document(bool(keys))
        known = (RefusedError, InputError, StoppedError, TimeoutError, HTTPException)
        handlers: Mapping[Any, Any] = dict.fromkeys((*known, Exception), self._refused)
        self._starlette = Starlette(routes=self._routes(), exception_handlers=handlers, lifespan=self._lifespan)
        self.app = Door(self._starlette, host, keys, origins)

    def _routes(self) -> list[Route]:
        return [
            *page.routes(),
            Route("/health", self._health, methods=["GET"]),
            Route("/openapi.json", self._described, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
            Route("/v1/models", self._listed, methods=["GET"]),
            Route("/v1/models/{name:path}", self._one, methods=["GET"]),
            self._called("/v1/completions", completions.BODY, completions.answer),
            self._called("/v1/chat/completions", chat.BODY, chat.answer),
            self._called("/v1/responses", responses.BODY, responses.answer, "responses"),
            self._called("/v1/messages", messages.BODY, messages.answer, "anthropic"),
            self._called("/v1/messages/count_tokens", messages.COUNT, messages.count, "anthropic"),
            self._called("/v1/embeddings", embeddings.BODY, embeddings.answer),
            self._asked("/tokenize", tokenizing.TOKENIZE, tokenizing.tokenized),
            self._asked("/detokenize", tokenizing.DETOKENIZE, tokenizing.detokenized),
            Route("/tokenizer_info", self._tokenizer, methods=["GET"]),
        ]

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await self.models.start(self._ready)
        unloading = asyncio.create_task(self.models.unload_idle()) if self.models.limits.idle is not None else None
        try:
            yield
        finally:
            if unloading:
                unloading.cancel()
            await asyncio.to_thread(self.models.stop)

    def _called(self, path: str, body: Object, handle: Handle, form: Form = "openai") -> Route:
        """An endpoint that runs a model."""

        async def endpoint(request: Asked) -> Response | EventStream:
            asked = body.read(await json_of(request), "")
            call = Answering(self.models, self.metrics, asked, form)
            response: Response | EventStream | None = None
            try:
                response = await handle(call, request)
                return response
            finally:
                if not isinstance(response, EventStream):
                    await call.close()

        return Route(path, endpoint, methods=["POST"])

    def _asked(
        self, path: str, body: Object, answer: Callable[[LiveModel, Mapping[str, Any]], dict[str, Any]]
    ) -> Route:
        """An endpoint that asks a loaded model something that its thread is not needed for."""

        async def endpoint(request: Asked) -> Response:
            asked = body.read(await json_of(request), "")
            async with self.models.using(asked.get("model")) as live:
                return JSONResponse(await asyncio.to_thread(answer, live, asked))

        return Route(path, endpoint, methods=["POST"])

    async def _tokenizer(self, request: Asked) -> Response:
        async with self.models.using(request.query_params.get("model")) as live:
            return JSONResponse(tokenizing.described(live.tokenizer, live.spec.context))

    async def _described(self, request: Asked) -> Response:
        return JSONResponse(self._document)

    async def _health(self, request: Asked) -> Response:
        if not self.models.worker.alive:
            raise RefusedError(503, "the thread that runs models has ended: start the server again")
        return Response(status_code=200)

    async def _metrics(self, request: Asked) -> Response:
        return Response(self.metrics.text(self.models), headers={"content-type": CONTENT_TYPE})

    async def _listed(self, request: Asked) -> Response:
        found = [described(self.models, name) for name in self.models.offers]
        ends = {"first_id": found[0]["id"], "last_id": found[-1]["id"], "has_more": False}
        return JSONResponse({"object": "list", "data": found, **ends})

    async def _one(self, request: Asked) -> Response:
        return JSONResponse(described(self.models, self.models.offer(request.path_params["name"]).name))

    async def _refused(self, request: Asked, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            found = RefusedError(error.status_code, error.detail)
            if error.status_code == 404:
                found = RefusedError(404, f"there is no {request.url.path[:80]!r}", code="unknown_url")
            elif error.status_code == 405:
                found = RefusedError(405, f"{request.method} is not for {request.url.path[:80]!r}")
            headers = {**(error.headers or {}), **found.headers}
        else:
            found = refusal(error)
            headers = dict(found.headers)
        told = found.anthropic() if request.url.path.startswith("/v1/messages") else found.openai()
        return JSONResponse(told, found.status, headers)


def described(models: Models, name: str) -> dict[str, Any]:
    """A model, in a form that OpenAI's clients read, and Anthropic's."""
    from datetime import UTC, datetime

    offer = models.offers[name]
    return {
        "id": name,
        "object": "model",
        "created": offer.created,
        "owned_by": "vitruvius",
        "max_model_len": offer.spec.context,
        "type": "model",
        "display_name": name,
        "created_at": datetime.fromtimestamp(offer.created, UTC).isoformat().replace("+00:00", "Z"),
    }
