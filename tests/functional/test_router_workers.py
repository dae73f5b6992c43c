"""Several router processes on one port: what is shared, what one of them can break, how they stop together."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from baton.api.endpoints import Phase
from functional.router_fixture import DONE, Engine, Message, Reply, generated, prefilled, said, sse
from functional.router_process import (
    Router,
    aggregated,
    document,
    engines,
    eventually,
    fail_to_start,
    is_true,
    name_of,
    running,
    write,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WORKERS = ("--workers", "2")
FIRST, SECOND = sse(said("Good")), sse(said(" day", finish_reason="stop")) + DONE
WHOLE = FIRST + SECOND
STREAMS = 16
"""So many connections that the kernel as good as never gives all to one of two workers."""


def worker_pids(app: Router) -> list[int]:
    pid = app.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class HeldStreams:
    """An engine whose streams begin at once and end when they are released."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.engine = Engine("held", Phase.AGGREGATED, self._answer)

    async def _answer(self, request: Message, reply: Reply) -> None:
        if not request.json.get("stream"):
            await generated(request, reply)
            return
        await reply.begin_stream()
        await reply.chunk(FIRST)
        await self.release.wait()
        await reply.chunk(SECOND)
        await reply.end_stream()


async def stream(app: Router) -> bytes:
    """Return a streamed answer; what has come of it, if it breaks off. Each is on a connection of its own."""
    body = {"model": "m", "messages": [], "stream": True}
    read = b""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.post(f"{app.url}/v1/chat/completions", json=body) as response:
                async for chunk in response.content.iter_any():
                    read += chunk
        except aiohttp.ClientError:
            pass
    return read


@asynccontextmanager
async def streaming(folder: Path) -> AsyncIterator[tuple[Router, HeldStreams, list[asyncio.Task[bytes]]]]:
    """Run a router with workers, and streams through them."""
    held = HeldStreams()
    async with (
        engines(held.engine),
        running("--config", write(folder / "router.yaml", document("m", held.engine)), *WORKERS) as app,
        asyncio.TaskGroup() as group,
    ):
        streams = [group.create_task(stream(app)) for _ in range(STREAMS)]
        await eventually(lambda: is_true(len(held.engine.requests) == STREAMS), True)
        yield app, held, streams


async def ask_alone(app: Router) -> int:
    """Return the status of a request on a connection of its own; 0 when that breaks off."""
    async with aiohttp.ClientSession() as session:
        body = {"model": "m", "messages": []}
        try:
            async with session.post(f"{app.url}/v1/chat/completions", json=body) as response:
                return response.status
        except aiohttp.ClientError:
            return 0


async def test_workers_share_a_port_and_are_told_of_as_one(tmp_path: Path) -> None:
    engine = aggregated("a")
    file = tmp_path / "router.yaml"
    async with engines(engine), running("--config", write(file, document("m", engine)), *WORKERS) as app:
        assert len(worker_pids(app)) == 2
        assert await app.status("/readyz", of_admin=True) == 200
        assert [await ask_alone(app) for _ in range(20)] == [200] * 20

        assert await app.metric("baton_router_requests_total") == 20
        assert await app.metric("baton_router_endpoints{") == 1
        assert await app.metric("baton_router_requests_in_flight") == 0
        assert await app.administer("/loads") == (200, {})
        assert await app.status("/metrics") == 404


async def test_a_crashed_worker_hurts_its_own_streams_only_and_is_replaced(tmp_path: Path) -> None:
    async with streaming(tmp_path) as (app, held, streams):
        assert sum((await app.administer("/loads"))[1].values()) == STREAMS
        victim, survivor = worker_pids(app)
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: is_true(victim in worker_pids(app)), False)
        await eventually(lambda: is_true(len(worker_pids(app)) == 2), True)
        assert survivor in worker_pids(app)
        await eventually(partial(app.status, "/readyz", of_admin=True), 200)
        assert [await ask_alone(app) for _ in range(20)] == [200] * 20
        assert await app.metric("baton_router_worker_deaths_total") == 1

        held.release.set()
        answers = [await task for task in streams]
        assert {*answers} == {WHOLE, FIRST}
        assert answers.count(FIRST) == held.engine.abandoned


async def test_what_runs_at_the_stop_signal_is_finished_by_every_worker(tmp_path: Path) -> None:
    async with streaming(tmp_path) as (app, held, streams):
        app.process.send_signal(signal.SIGTERM)
        await eventually(partial(app.status, "/readyz", of_admin=True), 503)
        await eventually(partial(ask_alone, app), 0)
        held.release.set()
        assert {await task for task in streams} == {WHOLE}


@pytest.mark.parametrize("how", ["deadline", "second signal"])
async def test_what_does_not_end_in_time_is_cut_with_an_error(tmp_path: Path, how: str) -> None:
    held = HeldStreams()
    file = tmp_path / "router.yaml"
    limit = ("--drain-timeout", "0.2" if how == "deadline" else "60")
    async with (
        engines(held.engine),
        running("--config", write(file, document("m", held.engine)), *WORKERS, *limit) as app,
        asyncio.TaskGroup() as group,
    ):
        task = group.create_task(stream(app))
        await eventually(lambda: is_true(held.engine.requests), True)
        app.process.send_signal(signal.SIGTERM)
        if how == "second signal":
            await eventually(partial(app.status, "/readyz", of_admin=True), 503)
            app.process.send_signal(signal.SIGTERM)
        assert b"router_stopping" in await task


async def test_a_new_file_is_taken_up_by_every_worker_without_losing_a_stream(tmp_path: Path) -> None:
    async with streaming(tmp_path) as (app, held, streams):
        write(tmp_path / "router.yaml", document("n", held.engine))
        app.process.send_signal(signal.SIGHUP)
        for _ in range(STREAMS):
            await eventually(partial(ask_alone, app), 404)
        held.release.set()
        assert {await task for task in streams} == {WHOLE}


async def test_a_worker_that_cannot_be_replaced_yet_leaves_the_others_alone(tmp_path: Path) -> None:
    engine = aggregated("a")
    file = tmp_path / "router.yaml"
    async with engines(engine), running("--config", write(file, document("m", engine)), *WORKERS) as app:
        write(file, "no document")
        os.kill(worker_pids(app)[0], signal.SIGKILL)
        await eventually(lambda: is_true(app.has_logged("cannot start")), True)
        await eventually(partial(app.status, "/readyz", of_admin=True), 200)
        assert await ask_alone(app) == 200

        write(file, document("m", engine))
        await eventually(lambda: is_true(len(worker_pids(app)) == 2), True)


def test_what_cannot_start_is_told_once(tmp_path: Path) -> None:
    output = fail_to_start("--config", write(tmp_path / "router.yaml", "version: v9"), *WORKERS)
    assert output.count("router.yaml: version: ") == 1
    assert "Traceback" not in output


async def test_engines_of_the_command_line_come_and_go_in_every_worker() -> None:
    first, second, later = (
        Engine("p", Phase.PREFILL, listed(prefilled)),
        Engine("d", Phase.DECODE, listed(generated)),
        Engine("e", Phase.DECODE, listed(generated)),
    )
    async with (
        engines(first, second, later),
        running("--prefill", name_of(first), "--decode", name_of(second), *WORKERS) as app,
    ):
        assert [await ask_alone(app) for _ in range(10)] == [200] * 10
        await app.administer("/instances/add", {"type": "decode", "instances": name_of(later)})
        await eventually(lambda: serving(app), 3)
        await app.administer("/instances/remove", {"type": "decode", "instances": name_of(second)})
        await eventually(lambda: serving(app), 2)
        await eventually(partial(asked_for, app, later), True)


def listed(script: Any) -> Any:
    async def answer(request: Message, reply: Reply) -> None:
        if request.body:
            await script(request, reply)
        else:
            await reply.json({"data": [{"id": "m"}]})

    return answer


async def serving(app: Router) -> int:
    _, content = await app.administer("/instances")
    return sum(engine["state"] == "serving" for engine in content["instances"])


async def asked_for(app: Router, engine: Engine) -> bool:
    """Return whether one request after the other went to an engine, whichever worker took it."""
    before = len(engine.requests)
    for _ in range(10):
        await ask_alone(app)
    return len(engine.requests) == before + 10


async def test_workers_end_with_their_supervisor_however_it_ends(tmp_path: Path) -> None:
    engine = aggregated("a")
    file = tmp_path / "router.yaml"
    async with engines(engine), running("--config", write(file, document("m", engine)), *WORKERS) as app:
        pids = worker_pids(app)
        app.exit_code = -signal.SIGKILL
        app.process.kill()
        await app.process.wait()
        await eventually(lambda: is_true(any(Path(f"/proc/{pid}").exists() for pid in pids)), False)
