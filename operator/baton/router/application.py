"""Gives each request of a listener to what answers it, and answers the small ones: probes, model list, metrics."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson
from prometheus_client import CONTENT_TYPE_LATEST

from baton.router.errors import JSON, ApiError, render_error
from baton.router.paths import Action, resolve
from baton.router.record import RequestRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from baton.router.administration import Administration
    from baton.router.directory import Directory
    from baton.router.handler import Handler
    from baton.router.insight import Insight
    from baton.router.wire.client_response import ClientResponse
    from baton.router.wire.messages import Refusal, Request


class AdminApplication:
    """What a listener serves that takes no requests for models: the paths of its table."""

    def __init__(
        self, insight: Insight, *, paths: Mapping[str, Action], administration: Administration | None = None
    ) -> None:
        self._insight = insight
        self._paths = paths
        self._administration = administration

    async def serve(self, request: Request, response: ClientResponse) -> None:
        """Answer a request."""
        action = resolve(request.method, request.path, paths=self._paths)
        if isinstance(action, ApiError):
            self._answer_error(action, response, method=request.method, path=request.path)
        else:
            await self._perform(action, request, response)

    def refuse(self, refusal: Refusal, response: ClientResponse) -> None:
        """Answer a client whose request could not be read."""
        code = HTTPStatus(refusal.status).phrase.lower().replace(" ", "_")
        self._answer_error(ApiError(refusal.status, code, refusal.message), response, method="-", path="-")

    async def _perform(self, action: Action, request: Request, response: ClientResponse) -> None:
        match action:
            case Action.HEALTH:
                response.send(200, [JSON], b'{"message":"ok"}')
            case Action.READY:
                await self._answer_readiness(response)
            case Action.METRICS:
                metrics = await self._insight.metrics()
                response.send(200, [(b"content-type", CONTENT_TYPE_LATEST.encode())], metrics)
            case Action.LOADS:
                response.send(200, [JSON], orjson.dumps(await self._insight.loads()))
            case _:
                await self._administer(action, request, response)

    async def _administer(self, action: Action, request: Request, response: ClientResponse) -> None:
        if self._administration is None:
            raise ValueError(f"the paths have {action}, but there is nobody to do it")
        result = await self._administration.act(action, request.body)
        if isinstance(result, ApiError):
            self._answer_error(result, response, method=request.method, path=request.path)
        else:
            response.send(result.status, [JSON], orjson.dumps(result.content))

    def _answer_error(self, error: ApiError, response: ClientResponse, *, method: str, path: str) -> None:
        now = asyncio.get_running_loop().time()
        response.send(error.status, [JSON, *error.headers], render_error(error))
        record = RequestRecord(method, path, now, status=error.status, reason=error.code, error=error.message)
        record.sent = response.sent
        record.close(now)

    async def _answer_readiness(self, response: ClientResponse) -> None:
        if await self._insight.is_ready():
            response.send(200, [JSON], b'{"message":"router is ready"}')
        else:
            response.send(503, [JSON], b'{"message":"router is not ready"}')


class RouterApplication(AdminApplication):
    """What the clients' listener serves: requests for models too."""

    def __init__(
        self,
        handler: Handler,
        directory: Directory,
        insight: Insight,
        *,
        paths: Mapping[str, Action],
        administration: Administration | None = None,
    ) -> None:
        super().__init__(insight, paths=paths, administration=administration)
        self._handler = handler
        self._directory = directory

    async def _perform(self, action: Action, request: Request, response: ClientResponse) -> None:
        match action:
            case Action.GENERATE | Action.FORWARD:
                await self._handler.handle(request, response, is_generation=action is Action.GENERATE)
            case Action.MODELS:
                response.send(200, [JSON], _model_list(self._directory.models()))
            case _:
                await super()._perform(action, request, response)


def _model_list(names: list[str]) -> bytes:
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "baton"} for name in names]
    return orjson.dumps({"object": "list", "data": models})
