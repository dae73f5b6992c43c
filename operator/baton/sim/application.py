"""The HTTP API of simulated engines: routes, handlers and errors. Opens no port and decides on no engine's work."""

from __future__ import annotations

import asyncio
import time
from functools import wraps
from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import web

from baton import __version__
from baton.sim.faults import RECOMPUTED, FaultError, FaultKind, read_faults
from baton.sim.generation import FinishReason
from baton.sim.kv import KVError, KVErrorReason
from baton.sim.layerwise import PUSH_PATH, read_push
from baton.sim.requests import Endpoint, RequestError, read_request
from baton.sim.responses import AnswerHead, EventStream, write_answer, write_error, write_models
from baton.sim.rooms import BOOTSTRAP_PATH, read_knock
from baton.sim.transfer import PULL_PATH, format_refusal, read_demand

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from baton.sim.engine import Engine
    from baton.sim.generation import Generation
    from baton.sim.settings import SimSettings

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LARGEST_BODY: Final = 64 * 1024 * 1024


def _refuse_engines(
    handler: Callable[[Application, web.Request], Awaitable[web.Response]],
) -> Callable[[Application, web.Request], Awaitable[web.Response]]:
    """Answer another engine as it expects when its hand-over fails."""

    @wraps(handler)
    async def handle(application: Application, request: web.Request) -> web.Response:
        try:
            return await handler(application, request)
        except KVError as error:
            status, body = format_refusal(error)
            return _json(body, status=status)

    return handle


class Application:
    """The handlers, over whatever engines a process has.

    find_engine tells which engine a request is for; list_engines returns all in a stable order.
    """

    def __init__(
        self,
        settings: SimSettings,
        *,
        find_engine: Callable[[web.Request], Engine],
        list_engines: Callable[[], Iterable[Engine]],
    ) -> None:
        self._settings = settings
        self._find_engine = find_engine
        self._list_engines = list_engines
        self._started_at = _unix_seconds()

    def build_api(self) -> web.Application:
        """Return what clients, probes and scrapes talk to."""
        application = web.Application(client_max_size=_LARGEST_BODY, middlewares=[_answer_errors])
        application.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/completions", self._complete),
                web.get("/v1/models", self._list_models),
                web.get("/health", self._health),
                web.get("/version", self._version),
                web.get("/metrics", self._metrics),
                *self._side_channel_routes(),
                web.get("/sim/state", self._state),
                web.post("/sim/faults", self._fail),
            ]
        )
        return application

    def build_side_channel(self) -> web.Application:
        """Return what other engines hand over by."""
        application = web.Application(client_max_size=_LARGEST_BODY)
        application.add_routes(self._side_channel_routes())
        return application

    def _side_channel_routes(self) -> list[web.RouteDef]:
        return [
            web.post(PULL_PATH, self._hand_over),
            web.post(PUSH_PATH, self._arrive),
            web.post(BOOTSTRAP_PATH, self._meet),
        ]

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, Endpoint.CHAT)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, Endpoint.COMPLETION)

    async def _generate(self, request: web.Request, endpoint: Endpoint) -> web.StreamResponse:
        engine = self._find_engine(request)
        demand = read_request(endpoint, await request.read())
        if not self._settings.has_model(demand.model):
            raise RequestError(f"The model `{demand.model}` does not exist.", field="model", status=404)
        answer_id = engine.name_answer(endpoint, request.headers.get("X-Request-Id"))
        head = AnswerHead(answer_id, _unix_seconds(), demand.model)
        with engine.admit(demand, answer_id) as generation:
            await engine.start(generation)
            if demand.stream:
                return await _stream(request, engine, generation, EventStream(head, demand))
            await _generate_whole(request, engine, generation)
            return _json(write_answer(head, generation))

    @_refuse_engines
    async def _hand_over(self, request: web.Request) -> web.Response:
        self._find_engine(request).hand_over(read_demand(await request.read()))
        return _json(b"{}")

    @_refuse_engines
    async def _arrive(self, request: web.Request) -> web.Response:
        self._find_engine(request).transfers.arrivals.take(read_push(await request.read()))
        return _json(b"{}")

    @_refuse_engines
    async def _meet(self, request: web.Request) -> web.Response:
        room, fingerprint = read_knock(await request.read())
        await self._find_engine(request).transfers.rooms.knock(room, fingerprint=fingerprint)
        return _json(b"{}")

    async def _list_models(self, _request: web.Request) -> web.Response:
        return _json(
            write_models(
                self._settings.listed_models, created=self._started_at, max_model_len=self._settings.max_model_len
            )
        )

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, _request: web.Request) -> web.Response:
        return _json(orjson.dumps({"version": __version__}))

    async def _metrics(self, request: web.Request) -> web.Response:
        from baton.sim import metrics  # noqa: PLC0415 # a tenth of what a rank takes to start, and few are scraped

        body = metrics.format_metrics(self._find_engine(request))
        return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _fail(self, request: web.Request) -> web.Response:
        self._find_engine(request).faults = read_faults(await request.read())
        return _json(b"{}")

    async def _state(self, _request: web.Request) -> web.Response:
        engines = [engine.describe() for engine in self._list_engines()]
        return _json(orjson.dumps({"engines": engines}, option=orjson.OPT_NON_STR_KEYS))


async def _stream(
    request: web.Request, engine: Engine, generation: Generation, events: EventStream
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    opening = events.open()
    try:
        while generation.finish_reason is None:
            token = await engine.step(generation)
            if opening:
                await response.write(opening)
                opening = b""
            await response.write(events.write_token(token, generation))
    except FaultError as fault:
        await _suffer(request, generation, fault.kind)
        if fault.kind is FaultKind.ERROR:
            await response.write(b"data: " + write_error(str(fault), status=500) + b"\n\n")
        elif generation.finish_reason is not None and (ending := events.give_up(generation)):
            await response.write(ending)
    await response.write(events.close(generation))
    await response.write_eof()
    return response


async def _generate_whole(request: web.Request, engine: Engine, generation: Generation) -> None:
    try:
        while generation.finish_reason is None:
            await engine.step(generation)
    except FaultError as fault:
        if fault.kind in {FaultKind.ERROR, FaultKind.END}:
            raise
        await _suffer(request, generation, fault.kind)


async def _suffer(request: web.Request, generation: Generation, kind: FaultKind) -> None:
    """Do what a fault does to an answer, streamed or not."""
    match kind:
        case FaultKind.RECOMPUTE:
            generation.give_up(FinishReason.STOP, RECOMPUTED)
        case FaultKind.ABORT:
            generation.give_up(FinishReason.ABORT, None)
        case FaultKind.CUT | FaultKind.STALL:
            if request.transport is not None and kind is FaultKind.CUT:
                request.transport.abort()
            await asyncio.Event().wait()  # until the client is gone
        case _:
            pass


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RequestError as error:
        return _json(write_error(str(error), status=error.status, field=error.field), status=error.status)
    except KVError as error:
        status = 400 if error.reason is KVErrorReason.INVALID else 500
        return _json(write_error(str(error), status=status, field="kv_transfer_params"), status=status)
    except FaultError as fault:
        status = 503 if fault.kind is FaultKind.REFUSE else 500
        return _json(write_error(str(fault), status=status), status=status)
    except web.HTTPException as error:
        return _json(write_error(error.text or error.reason, status=error.status), status=error.status)


def _json(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _unix_seconds() -> int:
    return time.time_ns() // 1_000_000_000
