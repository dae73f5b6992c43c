"""Measures the router's data path on loopback: CPU of a streamed chunk and of a P/D request, and the time it adds.

Three processes: the router with its access log, the engines (canned answers), and the load (this one). CPU is what the
kernel has accounted to a process; the same load on the engines alone stands beside it. The lowest of three rounds is
shown, because other work on the machine only ever adds. Takes about fifteen seconds:

    .venv/bin/python bench/router/relay.py [--streams 150] [--seconds 1]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

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

ROUNDS = 3
START = 0.5  # seconds in which the streams begin
INTERVAL = 0.01  # seconds between two chunks of a stream
EVENT = (
    b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1700000000,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}\n\n'
)
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
LAST = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PREFILLED = {"id": "p", "kv_transfer_params": {"do_remote_prefill": True, "remote_block_ids": [[1, 2, 3]]}}
REQUEST_HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: r\r\ncontent-type: application/json\r\naccept: */*\r\n"
    b"authorization: Bearer none\r\nuser-agent: bench\r\ncontent-length: %d\r\n\r\n"
)


def answer(content: object) -> bytes:
    """Return an engine's whole answer."""
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
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer a whole request."""
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return
        self.buffer = b""
        if b'"do_remote_decode":true' in body:
            self.transport.write(answer(PREFILLED))
        elif b'"stream":true' in body:
            self.left = orjson.loads(body)["max_tokens"]
            self.transport.write(STREAM_HEAD)
            self.streaming.add(self)
        else:
            self.transport.write(answer({"id": "d", "choices": [{"message": {"content": "Hello"}}]}))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 # asyncio's signature
        """Stream no more."""
        self.streaming.discard(self)

    def step(self) -> None:
        """Send one chunk."""
        self.left -= 1
        self.transport.write(CHUNK if self.left else CHUNK + LAST)
        if not self.left:
            self.streaming.discard(self)


async def run_engines(ready: Connection) -> None:
    """Serve as prefill and as decode engine, for ever."""
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
    """Serve as the router of the two engines, for ever."""
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
    """Be a process of the measurement, its log written where nobody reads it."""
    with Path(os.devnull).open("w") as nowhere:
        configure("INFO", stream=nowhere)
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
    """Return a chat request with a prompt of 1 kB."""
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 1000}], **fields})
    return REQUEST_HEAD % len(body) + body


async def stream(port: int, tokens: int, *, after: float, received: list[int]) -> float:
    """Read one stream to its end, adding sizes to what was received, and return the seconds to its first event."""
    await asyncio.sleep(after)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.perf_counter()
    writer.write(request(stream=True, max_tokens=tokens))
    await reader.readuntil(b"data: ")
    first = time.perf_counter() - began
    while not (data := await reader.read(65536)).endswith(b"0\r\n\r\n"):
        if not data:
            raise RuntimeError("a stream was cut")
        received.append(len(data))
    writer.close()
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


async def measure_streams(port: int, pid: int, *, streams: int, seconds: float) -> dict[str, float]:
    """Start streams one after the other, and measure while all of them run."""
    tokens = int((seconds + 2 * START) / INTERVAL)
    received: list[int] = []
    running = [
        asyncio.ensure_future(stream(port, tokens, after=START * n / streams, received=received))
        for n in range(streams)
    ]
    await asyncio.sleep(1.3 * START)
    before, received[:] = cpu_seconds(pid), []
    await asyncio.sleep(seconds)
    spent, chunks = cpu_seconds(pid) - before, sum(received) / len(CHUNK)
    firsts = await asyncio.gather(*running)
    return {
        "CPU of a streamed chunk, µs": spent / chunks * 1e6,
        "streamed chunks a second": chunks / seconds,
        "first event of a stream, p50, ms": statistics.median(firsts) * 1e3,
    }


async def measure_requests(port: int, pid: int, *, connections: int, seconds: float) -> dict[str, float]:
    """Keep connections busy with requests that are not streamed."""
    before, until = cpu_seconds(pid), time.perf_counter() + seconds
    took = [each for times in await asyncio.gather(*(ask(port, until) for _ in range(connections))) for each in times]
    return {
        "CPU of a request, not streamed, µs": (cpu_seconds(pid) - before) / len(took) * 1e6,
        "time of a request, p50, ms": statistics.median(took) * 1e3,
    }


async def measure(port: int, pid: int, *, streams: int, seconds: float, connections: int) -> dict[str, float]:
    """Put both loads on a port, one after the other, and return what they cost the process behind it."""
    return {
        **await measure_streams(port, pid, streams=streams, seconds=seconds),
        **await measure_requests(port, pid, connections=connections, seconds=seconds),
    }


def lowest(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the lowest value of each measurement."""
    return {name: min(each[name] for each in rounds) for name in rounds[0]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the router's data path.")
    parser.add_argument("--streams", type=int, default=150, help="streams at once, 100 chunks a second each")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each measurement")
    parser.add_argument("--connections", type=int, default=32, help="connections of the requests that are not streamed")
    options = vars(parser.parse_args())
    engines, engine_ports = start(run_engines)
    router, router_ports = start(run_router, *engine_ports)
    try:
        through = lowest([uvloop.run(measure(router_ports[-1], router.pid, **options)) for _ in range(ROUNDS)])
        alone = lowest([uvloop.run(measure(engine_ports[-1], engines.pid, **options)) for _ in range(ROUNDS)])
    finally:
        for process in (router, engines):
            process.terminate()
            process.join()
    print(f"{'':36}{'router':>10}{'engines alone':>16}")
    for name, value in through.items():
        print(f"{name:36}{value:10.2f}{alone[name]:16.2f}")


if __name__ == "__main__":
    main()
