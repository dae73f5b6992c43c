"""Engines that answer by a script, on loopback sockets, and how their messages are read and written."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from baton.api.traffic import Protocol
from baton.routing.types import Endpoint

if TYPE_CHECKING:
    import ssl

    from baton.api.endpoints import Phase

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


def dumps(content: object) -> bytes:
    """Return JSON as engines write it."""
    return json.dumps(content, separators=(",", ":")).encode()


def sse(*contents: object) -> bytes:
    """Return events of a stream."""
    return b"".join(b"data: %b\n\n" % dumps(content) for content in contents)


def said(text: str, **ending: Any) -> dict[str, Any]:
    """Return what an event of a chat says; `ending` with a finish_reason in the last."""
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None} | ending]}


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
        body = content if isinstance(content, bytes) else dumps(content)
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
