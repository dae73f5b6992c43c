"""Measures the router's data path on loopback: CPU of a streamed chunk and of a P/D request, and the time it adds.

Three processes: the router, the engines (canned answers), and the load (this one). CPU is what the kernel has accounted
to the router's process; the same load goes to the engines without the router for comparison. Takes about ten seconds:

    .venv/bin/python bench/router/relay.py [--streams 150] [--seconds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import os
import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import uvloop

from baton.api.router_config import RouterConfig
from baton.router.data_path_settings import DataPathSettings
from baton.router.live_directory import LiveDirectory
from baton.router.server import RouterServer
from baton.telemetry.logs import configure

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

INTERVAL = 0.01  # seconds between two chunks of a stream
EVENT = (
    b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1700000000,"model":"m",'
    + (b'"choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}\n\n')
)
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
LAST = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
PREFILLED = {
    "id": "p",
    "choices": [],
    "kv_transfer_params": {"do_remote_prefill": True, "remote_block_ids": [[1, 2, 3]]},
}


def answer(content: object) -> bytes:
    body = orjson.dumps(content)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class EngineProtocol(asyncio.Protocol):
    """Answers whatever is asked with canned bytes; streams in step with the others of its process."""

    streaming: set[EngineProtocol]
    transport: asyncio.Transport

    def __init__(self, streaming: set[EngineProtocol]) -> None:
        self.streaming = streaming
        self.buffer = b""
        self.left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] # as asyncio's protocols do

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return
        self.buffer = b""
        if b'"do_remote_decode":true' in body:
            self.transport.write(answer(PREFILLED))
        elif b'"stream":true' in body:
            self.left = orjson.loads(body)["max_tokens"]
            self.transport.write(HEAD)
            self.streaming.add(self)
        else:
            self.transport.write(answer({"id": "d", "choices": [{"message": {"content": "Hello"}}]}))

    def connection_lost(self, exc: Exception | None) -> None:
        self.streaming.discard(self)

    def step(self) -> None:
        self.left -= 1
        self.transport.write(CHUNK if self.left else CHUNK + LAST)
        if not self.left:
            self.streaming.discard(self)


async def run_engines(ready: Connection) -> None:
    loop = asyncio.get_running_loop()
    streaming: set[EngineProtocol] = set()
    servers = [await loop.create_server(lambda: EngineProtocol(streaming), "127.0.0.1", 0) for _ in range(2)]
    ready.send([server.sockets[0].getsockname()[1] for server in servers])
    due = loop.time()
    while True:
        due += INTERVAL
        await asyncio.sleep(max(0.0, due - loop.time()))
        for stream in list(streaming):
            stream.step()


async def run_router(ready: Connection, prefill: int, decode: int) -> None:
    configure("INFO", stream=Path(os.devnull).open("w"))
    directory = LiveDirectory(random.random)
    ports = {"prefill": prefill, "decode": decode}
    endpoints = [{"address": "127.0.0.1", "port": port, "phase": phase} for phase, port in ports.items()]
    backend = {"name": "b", "connector": "mooncake", "endpoints": endpoints}
    route = {"name": "r", "modelName": "m", "rules": [{"targets": [{"backend": "b"}]}]}
    directory.publish([RouterConfig.model_validate({"routes": [route], "backends": [backend]})])
    directory.set_ready()
    server = RouterServer(DataPathSettings(), directory)
    ready.send([await server.start("127.0.0.1", 0)])
    await asyncio.Event().wait()


def serve(work: Callable[..., Any], *arguments: object) -> None:
    logging.raiseExceptions = False
    uvloop.run(work(*arguments))


def start(work: Callable[..., Any], *arguments: object) -> tuple[Any, list[int]]:
    """Start a process that serves; return it and its ports."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(work, theirs, *arguments), daemon=True)
    process.start()
    return process, ours.recv()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process' main thread, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def request(**fields: object) -> bytes:
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 1000}], **fields})
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: r\r\ncontent-type: application/json\r\nauthorization: Bearer none\r\n"
    return head + b"user-agent: bench\r\naccept: */*\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def stream(port: int, tokens: int) -> float:
    """Read one stream to its end and return the seconds to its first event."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.perf_counter()
    writer.write(request(stream=True, max_tokens=tokens))
    await reader.readuntil(b"data: ")
    first = time.perf_counter() - began
    size = 0
    while data := await reader.read(65536):
        size += len(data)
        if data.endswith(b"0\r\n\r\n"):
            break
    writer.close()
    if size < tokens * len(EVENT) - 10:
        raise RuntimeError(f"a stream of {tokens} tokens came short: {size} bytes")
    return first


async def ask(port: int, until: float) -> list[float]:
    """Send requests, one after the other, and return the seconds that each took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    payload, took = request(max_tokens=5), []
    while (began := time.perf_counter()) < until:
        writer.write(payload)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(head.decode())
        took.append(time.perf_counter() - began)
    writer.close()
    return took


async def measure(port: int, pid: int, *, streams: int, seconds: float, connections: int) -> dict[str, float]:
    """Put both loads on a port, and return what they cost the process behind it."""
    tokens = int(seconds / INTERVAL)
    await asyncio.gather(*(stream(port, 5) for _ in range(streams)), ask(port, time.perf_counter() + 0.3))
    before = cpu_seconds(pid)
    firsts = await asyncio.gather(*(stream(port, tokens) for _ in range(streams)))
    chunk = (cpu_seconds(pid) - before) / (streams * tokens)
    before, until = cpu_seconds(pid), time.perf_counter() + seconds
    took = [time for times in await asyncio.gather(*(ask(port, until) for _ in range(connections))) for time in times]
    each = (cpu_seconds(pid) - before) / len(took)
    return {
        "CPU a streamed chunk, µs": chunk * 1e6,
        "CPU a request, not streamed, µs": each * 1e6,
        "first event of a stream, p50, ms": statistics.median(firsts) * 1e3,
        "requests a second": len(took) / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the router's data path.")
    parser.add_argument("--streams", type=int, default=150, help="streams at once, 100 chunks a second each")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    parser.add_argument("--connections", type=int, default=32, help="connections of the requests that are not streamed")
    options = parser.parse_args()
    engines, engine_ports = start(run_engines)
    router, router_ports = start(run_router, *engine_ports)
    try:
        through, bare = (
            uvloop.run(measure(port, process.pid, **vars(options)))
            for process, port in ((router, router_ports[-1]), (engines, engine_ports[-1]))
        )
    finally:
        for process in (router, engines):
            process.terminate()
            process.join()
    print(f"{'':36}{'router':>10}{'engines alone':>16}")
    for name, value in through.items():
        print(f"{name:36}{value:10.1f}{bare[name]:16.1f}")


if __name__ == "__main__":
    main()
