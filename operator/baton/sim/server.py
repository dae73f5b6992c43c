"""The process: HTTP on all ports, each connection led to the engine of its local address and port.

Turns requests into calls of an engine and back. Generates, holds and counts nothing itself.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self

import aiohttp
import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST
from yarl import URL

from baton import __version__
from baton.sim.engine import Engine, EngineIdentity
from baton.sim.kv import KVError, KVErrorReason
from baton.sim.requests import Endpoint, RequestError, read_request
from baton.sim.responses import AnswerHead, EventStream, write_answer, write_error, write_models
from baton.sim.transfer import PULL_PATH, format_refusal, pull, read_demand

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from baton.sim.generation import Generation
    from baton.sim.settings import SimSettings
    from baton.sim.transfer import KVSource

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LARGEST_BODY: Final = 64 * 1024 * 1024
_BACKLOG: Final = 1024
# Running requests are cut, not finished; this is only the time their handlers get to notice.
_STOP_SECONDS: Final = 0.1


class PortUnavailableError(Exception):
    """A port that cannot be listened on."""


class SimServer:
    """All engines of one process. Use it with `async with`; leaving cuts every request and closes the ports.

    With port 0 the system chooses; `port` and `url` tell which. An engine exists from its first use on, by a request or
    by `engine`.
    """

    def __init__(self, settings: SimSettings) -> None:
        self.settings = settings
        self.ports: tuple[int, ...] = ()
        self.engines: dict[EngineIdentity, Engine] = {}
        self._started_at = _unix_seconds()
        self._resources = AsyncExitStack()
        self._session: aiohttp.ClientSession

    @property
    def port(self) -> int:
        """The first port listened on."""
        return self.ports[0]

    def url(self, address: str, port: int | None = None) -> str:
        """Return the base URL of an engine, without a slash at the end."""
        return str(URL.build(scheme="http", host=address, port=port or self.port)).rstrip("/")

    def engine(self, address: str, port: int | None = None) -> Engine:
        """Return the engine at an address and port (default: the first port)."""
        identity = EngineIdentity(address, port or self.port)
        if identity not in self.engines:
            self.engines[identity] = Engine(identity, self.settings, pull=self._pull)
        return self.engines[identity]

    async def __aenter__(self) -> Self:
        """Start listening.

        Raises:
            PortUnavailableError: a port is taken or not allowed; none stays open then.
        """
        async with AsyncExitStack() as resources:
            self._session = await resources.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
            )
            runner = web.AppRunner(
                self._build_application(), handler_cancellation=True, access_log=None, shutdown_timeout=_STOP_SECONDS
            )
            await runner.setup()
            resources.push_async_callback(runner.cleanup)
            resources.push_async_callback(self._close_engines)
            for port in self.settings.ports:
                await self._listen(runner, port)
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    async def _listen(self, runner: web.AppRunner, port: int) -> None:
        site = web.TCPSite(runner, self.settings.host, port, backlog=_BACKLOG)
        try:
            await site.start()
        except OSError as error:
            reason = "another program has it" if error.errno == errno.EADDRINUSE else error.strerror
            raise PortUnavailableError(
                f"cannot listen on {self.settings.host} port {port}: {reason}; choose other ports or another host"
            ) from error
        self.ports = (*self.ports, runner.addresses[-1][1])

    async def _close_engines(self) -> None:
        for engine in self.engines.values():
            await engine.close()

    async def _pull(self, source: KVSource, fingerprint: str) -> None:
        await pull(self._session, source, fingerprint)

    def _build_application(self) -> web.Application:
        application = web.Application(client_max_size=_LARGEST_BODY, middlewares=[_answer_errors])
        application.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/completions", self._complete),
                web.get("/v1/models", self._list_models),
                web.get("/health", self._health),
                web.get("/version", self._version),
                web.get("/metrics", self._metrics),
                web.post(PULL_PATH, self._hand_over),
                web.get("/sim/state", self._state),
            ]
        )
        return application

    def _engine_of(self, request: web.Request) -> Engine:
        if request.transport is None:
            raise ConnectionResetError("the client has left")
        address, port = request.transport.get_extra_info("sockname")[:2]
        return self.engine(address, port)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, Endpoint.CHAT)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, Endpoint.COMPLETION)

    async def _generate(self, request: web.Request, endpoint: Endpoint) -> web.StreamResponse:
        engine = self._engine_of(request)
        demand = read_request(endpoint, await request.read())
        if not self.settings.has_model(demand.model):
            raise RequestError(f"The model `{demand.model}` does not exist.", field="model", status=404)
        answer_id = engine.name_answer(endpoint, request.headers.get("X-Request-Id"))
        head = AnswerHead(answer_id, _unix_seconds(), demand.model)
        with engine.admit(demand, answer_id) as generation:
            await engine.start(generation)
            if demand.stream:
                return await _stream(request, engine, generation, EventStream(head, demand))
            while generation.finish_reason is None:
                await engine.step(generation)
            return _json(write_answer(head, generation))

    async def _hand_over(self, request: web.Request) -> web.Response:
        engine = self._engine_of(request)
        try:
            engine.hand_over(*read_demand(await request.read()))
        except KVError as error:
            status, body = format_refusal(error)
            return _json(body, status=status)
        return _json(b"{}")

    async def _list_models(self, _request: web.Request) -> web.Response:
        return _json(
            write_models(
                self.settings.listed_models, created=self._started_at, max_model_len=self.settings.max_model_len
            )
        )

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, _request: web.Request) -> web.Response:
        return _json(orjson.dumps({"version": __version__}))

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._engine_of(request).measure().format(), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _state(self, _request: web.Request) -> web.Response:
        engines = [self.engines[identity].describe() for identity in sorted(self.engines)]
        return _json(orjson.dumps({"engines": engines}, option=orjson.OPT_NON_STR_KEYS))


async def serve(settings: SimSettings, *, on_ready: Callable[[SimServer], None]) -> None:
    """Run until SIGTERM or SIGINT. Raises PortUnavailableError."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with SimServer(settings) as server:
        on_ready(server)
        await stopped.wait()


async def _stream(
    request: web.Request, engine: Engine, generation: Generation, events: EventStream
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    token = await engine.step(generation)
    if opening := events.open():
        await response.write(opening)
    await response.write(events.write_token(token, generation))
    while generation.finish_reason is None:
        token = await engine.step(generation)
        await response.write(events.write_token(token, generation))
    await response.write(events.close(generation))
    await response.write_eof()
    return response


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RequestError as error:
        return _json(write_error(str(error), status=error.status, field=error.field), status=error.status)
    except KVError as error:
        status = 400 if error.reason is KVErrorReason.INVALID else 500
        return _json(write_error(str(error), status=status, field="kv_transfer_params"), status=status)
    except web.HTTPException as error:
        return _json(write_error(error.text or error.reason, status=error.status), status=error.status)


def _json(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _unix_seconds() -> int:
    return time.time_ns() // 1_000_000_000
