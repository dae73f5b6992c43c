"""A router between scripted engines and a raw client, all on loopback sockets, on the loop the router runs on."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvloop

from baton.api.endpoints import Phase
from baton.api.router_config import BackendConfig, RetryPolicy
from baton.api.traffic import KVConnectorType, Protocol
from baton.router.data_path_settings import DataPathSettings
from baton.router.server import RouterServer
from baton.routing.types import Choice, Endpoint, Match

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Coroutine, Sequence
    from collections.abc import Set as AbstractSet

    from baton.routing.types import RequestFacts

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
DONE = b"data: [DONE]\n\n"
TRANSFER = {
    "do_remote_prefill": True,
    "do_remote_decode": False,
    "remote_engine_id": "0-abc_dp3",
    "remote_block_ids": [[1, 2], []],
    "remote_host": "10.0.0.1",
    "remote_port": 30000,
    "beyond_64_bits": 2**70 + 1,
}
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


def _dumps(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 # what is waited for signals nothing
            await asyncio.sleep(0.002)


def sse(*contents: object) -> bytes:
    """Return events of a stream."""
    return b"".join(b"data: %b\n\n" % _dumps(content) for content in contents)


def said(text: str, **ending: Any) -> dict[str, Any]:
    """Return what an event of a chat says; `ending` with a finish_reason in the last."""
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None} | ending]}


def chat(**fields: Any) -> dict[str, Any]:
    """Return the body of a chat request."""
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}


@dataclass(frozen=True)
class Message:
    """A request or an answer as it came over the wire; `first` is its first line."""

    first: str
    headers: dict[str, str]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.first.split()[1])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def read_head(reader: asyncio.StreamReader) -> Message:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    pairs = [line.split(": ", 1) for line in lines]
    headers = {name.lower(): value for name, value in pairs}
    assert len(headers) == len(pairs), f"a header came twice: {pairs}"
    return Message(first, headers, b"")


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    size = int((await reader.readuntil(b"\r\n")).strip(), 16)
    data = await reader.readexactly(size + 2)
    assert data.endswith(b"\r\n")
    return data[:-2]


async def read_message(reader: asyncio.StreamReader) -> Message:
    """Read a whole message; one without framing ends with the connection, if it is an answer."""
    head = await read_head(reader)
    if head.headers.get("transfer-encoding") == "chunked":
        body = b""
        while chunk := await read_chunk(reader):
            body += chunk
    elif "content-length" in head.headers:
        body = await reader.readexactly(int(head.headers["content-length"]))
    else:
        is_final_answer = head.first.startswith("HTTP") and not head.first.startswith("HTTP/1.1 1")
        body = await reader.read() if is_final_answer else b""
    return Message(head.first, head.headers, body)


class Reply:
    """What a scripted engine answers with."""

    def __init__(self, engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.engine = engine
        self.reader = reader
        self.writer = writer

    async def raw(self, data: bytes) -> None:
        if self.writer.transport.is_closing():
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    async def json(self, content: Any, *, status: int = 200) -> None:
        body = content if isinstance(content, bytes) else _dumps(content)
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        await self.raw(head.encode() + body)

    async def begin_stream(self) -> None:
        await self.raw(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
        )

    async def chunk(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.raw(b"0\r\n\r\n")

    async def stream(self, *contents: object) -> None:
        await self.begin_stream()
        for content in contents:
            await self.chunk(sse(content))
        await self.chunk(DONE)
        await self.end_stream()

    def hang_up(self) -> None:
        self.writer.transport.abort()

    async def client_gone(self) -> None:
        """Wait until the router has left."""
        with contextlib.suppress(ConnectionError):
            assert await self.reader.read() == b""
        self.engine.abandoned += 1


Script = Callable[[Message, Reply], Awaitable[None]]


async def prefilled(request: Message, reply: Reply) -> None:
    """Answer as a prefill engine does."""
    await reply.json({"id": "p", "choices": [{"text": "thrown away"}], "kv_transfer_params": TRANSFER})


async def generated(request: Message, reply: Reply) -> None:
    """Answer as a decode or aggregated engine does."""
    if request.json.get("stream"):
        await reply.stream(said("Good"), said(" day", finish_reason="stop"))
    else:
        await reply.json({"choices": [{"message": {"content": "Hello"}}], "usage": {"prompt_tokens": 3}})


async def freed(request: Message, reply: Reply) -> None:
    """Answer as a decode engine that has pulled KV for nothing."""
    await reply.json({})


def is_release(request: Message) -> bool:
    """Tell whether a request is there only to free KV."""
    if b'"do_remote_prefill":true' not in request.body:
        return False
    content = request.json
    return content.get("max_tokens") == 1 and content.get("stream") is False


class Engine:
    """An engine that answers by its script, and keeps what it was asked.

    `abandoned` counts the answers during which it saw the router go. Calls that only free KV are in
    `releases` and have a script of their own.
    """

    def __init__(
        self, name: str, phase: Phase, script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.name = name
        self.phase = phase
        self.script = script
        self.host = host
        self.tls = tls
        self.requests: list[Message] = []
        self.releases: list[Message] = []
        self.release_script: Script = freed
        self.connections = 0
        self.abandoned = 0
        self.errors: list[Exception] = []
        self.endpoint: Endpoint
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, 0, ssl=self.tls)
        port = self._server.sockets[0].getsockname()[1]
        protocol = Protocol.HTTP if self.tls is None else Protocol.HTTPS
        self.endpoint = Endpoint(self.name, self.host, port, phase=self.phase, protocol=protocol)

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while True:
                request = await read_message(reader)
                if is_release(request):
                    self.releases.append(request)
                    await self.release_script(request, Reply(self, reader, writer))
                    continue
                self.requests.append(request)
                try:
                    await self.script(request, Reply(self, reader, writer))
                except ConnectionError:
                    self.abandoned += 1
                    raise
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        except Exception as error:  # noqa: BLE001 # the rig raises it where the test sees it
            self.errors.append(error)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


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

    def models(self) -> list[str]:
        return ["m"]

    def match(self, facts: RequestFacts) -> Match | None:
        self.facts.append(facts)
        return Match("default/route", "rule", self.backend, self.model) if facts.model == "m" else None

    def choose(self, match: Match, *, excluded: AbstractSet[str] = frozenset()) -> Choice | None:
        for choice in self.choices:
            names = {endpoint.name for endpoint in (choice.decode, choice.prefill) if endpoint is not None}
            if not names & excluded:
                return choice
        return None

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
    raw = body if isinstance(body, bytes) else _dumps(body)
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
            settings or DataPathSettings(), directory, request_ids=lambda: "made-id", engine_tls=engine_tls
        )
        rig = Rig(server, directory, prefills, decodes, await server.start("127.0.0.1", 0))
        stack.push_async_callback(server.close)
        stack.callback(rig.close_clients)
        yield rig
        rig.close_clients()
        await eventually(lambda: server.is_idle and directory.is_idle)
        assert [error for engine in prefills + decodes for error in engine.errors] == []
