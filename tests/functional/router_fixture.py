"""A router between scripted engines and a raw client, all on loopback sockets, on the loop the router runs on."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvloop

from baton.api.endpoints import Phase
from baton.api.router_config import BackendConfig, RetryPolicy
from baton.api.traffic import KVConnectorType
from baton.router.data_path_settings import DataPathSettings
from baton.router.server import RouterServer
from baton.routing.types import Choice, Endpoint, Match
from functional.engine_fixture import (
    DONE,
    TRANSFER,
    Engine,
    Message,
    Reply,
    Script,
    dumps,
    generated,
    prefilled,
    read_chunk,
    read_head,
    read_message,
    said,
    sse,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from collections.abc import Set as AbstractSet

    from baton.routing.types import RequestFacts

__all__ = [  # with the engines', so that tests need one import
    "CHAT",
    "COMPLETIONS",
    "DEADLINE",
    "DONE",
    "TRANSFER",
    "Client",
    "Engine",
    "Message",
    "Reply",
    "Rig",
    "Script",
    "StaticDirectory",
    "chat",
    "eventually",
    "generated",
    "has_ipv6",
    "on_uvloop",
    "prefilled",
    "read_chunk",
    "read_head",
    "read_message",
    "request",
    "router",
    "said",
    "sse",
]

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
DEADLINE = 10.0
"""Seconds after which a test gives up waiting for anything."""


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on the event loop that the router runs on in production."""

    @functools.wraps(test)
    def run(*arguments: object, **named: object) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(asyncio.wait_for(test(*arguments, **named), 6 * DEADLINE))

    return run


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe, contextlib.suppress(OSError):
        probe.bind(("::1", 0))
        return True
    return False


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 # what is waited for signals nothing
            await asyncio.sleep(0.002)


def chat(**fields: Any) -> dict[str, Any]:
    """Return the body of a chat request."""
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}


class StaticDirectory:
    """The pairs of one model, in order of preference, and what is in flight at each."""

    def __init__(self, backend: BackendConfig, choices: Sequence[Choice], *, model: str | None = None) -> None:
        self.ready = True
        self.backend = backend
        self.choices = list(choices)
        self.model = model
        self.in_flight: Counter[str] = Counter()
        self.body_bytes: Counter[str] = Counter()
        self.facts: list[RequestFacts] = []
        self.outcomes: list[tuple[str, bool]] = []
        self.full = False

    def models(self) -> list[str]:
        return ["m"]

    def loads(self) -> dict[str, int]:
        return dict(self.in_flight)

    def match(self, facts: RequestFacts) -> Match | None:
        self.facts.append(facts)
        return Match("default/route", "rule", self.backend, self.model) if facts.model == "m" else None

    def choose(self, match: Match, *, excluded: AbstractSet[str] = frozenset()) -> Choice | None:
        for choice in self.choices:
            names = {endpoint.name for endpoint in (choice.decode, choice.prefill) if endpoint is not None}
            if not names & excluded:
                return choice
        return None

    def is_full(self, match: Match) -> bool:
        return self.full

    def failed(self, endpoint: Endpoint) -> None:
        self.outcomes.append((endpoint.name, False))

    def answered(self, endpoint: Endpoint) -> None:
        self.outcomes.append((endpoint.name, True))

    def started(self, endpoint: Endpoint, body_bytes: int) -> None:
        self.in_flight[endpoint.name] += 1
        self.body_bytes[endpoint.name] += body_bytes

    def finished(self, endpoint: Endpoint, body_bytes: int) -> None:
        self.in_flight[endpoint.name] -= 1
        self.body_bytes[endpoint.name] -= body_bytes
        assert self.in_flight[endpoint.name] >= 0

    @property
    def is_idle(self) -> bool:
        return not any(self.in_flight.values()) and not any(self.body_bytes.values())


class Client:
    """One connection to the router, with nothing hidden."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read(self) -> Message:
        async with asyncio.timeout(DEADLINE):
            return await read_message(self.reader)

    async def read_all(self) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read()

    async def ask(self, body: Any, path: str = CHAT, *, headers: str = "") -> Message:
        await self.send(request(body, path, headers=headers))
        return await self.read()

    async def get(self, path: str, *, method: str = "GET") -> Message:
        await self.send(f"{method} {path} HTTP/1.1\r\nHost: r\r\n\r\n".encode())
        return await self.read()

    def close(self) -> None:
        self.writer.transport.abort()


def request(body: Any, path: str = CHAT, *, headers: str = "") -> bytes:
    """Return the bytes of a POST."""
    raw = body if isinstance(body, bytes) else dumps(body)
    framing = f"Host: router\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{framing}{headers}\r\n".encode() + raw


@dataclass
class Rig:
    """A running router with its engines."""

    server: RouterServer
    directory: StaticDirectory
    prefill: list[Engine]
    decode: list[Engine]
    port: int
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    def close_clients(self) -> None:
        for client in self.clients:
            client.close()

    async def ask(self, body: Any, path: str = CHAT, *, headers: str = "") -> Message:
        return await (await self.connect()).ask(body, path, headers=headers)

    async def send(self, data: bytes) -> Client:
        client = await self.connect()
        await client.send(data)
        return client


@contextlib.asynccontextmanager
async def router(
    prefill: Sequence[Script] = (prefilled,),
    decode: Sequence[Script] = (generated,),
    *,
    connector: KVConnectorType = KVConnectorType.MOONCAKE,
    settings: DataPathSettings | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 # the backend's, not this function's
    attempts: int = 2,
    interval: float = 0.001,
    model: str | None = None,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
    engine_tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Rig]:
    """Run a router over engines with these scripts; no prefill scripts make an aggregated backend.

    `tls` is the engines', `engine_tls` the router's for them.

    At the end nothing may be left: no connection, no load.
    """
    prefills = [Engine(f"ns/p{i}:8000", Phase.PREFILL, script, host=host, tls=tls) for i, script in enumerate(prefill)]
    phase = Phase.DECODE if prefill else Phase.AGGREGATED
    decodes = [Engine(f"ns/d{i}:8000", phase, script, host=host, tls=tls) for i, script in enumerate(decode)]
    async with contextlib.AsyncExitStack() as stack:
        for engine in prefills + decodes:
            await engine.start()
            stack.push_async_callback(engine.stop)
        backend = BackendConfig(
            name="ns/b",
            connector=connector,
            timeout=timeout,
            retry=RetryPolicy(attempts=attempts, interval=interval),
        )
        firsts: list[Endpoint | None] = [engine.endpoint for engine in prefills]
        choices = [Choice(second.endpoint, first) for first, second in itertools.product(firsts or [None], decodes)]
        directory = StaticDirectory(backend, choices, model=model)
        server = RouterServer(
            settings or DataPathSettings(),
            directory,
            request_ids=lambda: "made-id",
            engine_tls=engine_tls,
            metaserver_host="127.0.0.1",
        )
        rig = Rig(server, directory, prefills, decodes, await server.start("127.0.0.1", 0))
        stack.push_async_callback(server.close)
        stack.callback(rig.close_clients)
        yield rig
        rig.close_clients()
        await eventually(lambda: server.is_idle and directory.is_idle)
        assert [error for engine in prefills + decodes for error in engine.errors] == []
