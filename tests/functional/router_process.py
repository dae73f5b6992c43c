"""The router as its own process, and engines for it, on loopback sockets."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml
from click.testing import CliRunner

from baton.api.endpoints import Phase
from baton.cli.router import router
from functional.router_fixture import Engine, generated
from routing_builders import config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

DEADLINE = 60.0
"""Seconds after which a test gives up; on an idle machine what is waited for takes well under one."""


@dataclass
class Router:
    """A running router process."""

    process: asyncio.subprocess.Process
    session: aiohttp.ClientSession
    log: list[str] = field(default_factory=list)
    exit_code: int = 0
    """What it is expected to end with."""
    url: str = ""
    admin_url: str = ""

    async def status(self, path: str, *, of_admin: bool = False) -> int:
        async with self.session.get((self.admin_url if of_admin else self.url) + path) as response:
            return response.status

    async def models(self) -> list[str]:
        async with self.session.get(f"{self.url}/v1/models") as response:
            return [model["id"] for model in (await response.json())["data"]]

    async def ask(self, model: str = "m") -> tuple[int, str | None, str | None]:
        """Return the status, and which prefill and decode endpoints answered."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
        async with self.session.post(f"{self.url}/v1/chat/completions", json=body) as response:
            await response.read()
            headers = response.headers
            return response.status, headers.get("x-baton-prefill"), headers.get("x-baton-decode")

    async def administer(self, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and content of an answer of the admin port, to a POST if there is a body."""
        method = "GET" if body is None else "POST"
        async with self.session.request(method, self.admin_url + path, json=body) as response:
            return response.status, await response.json()

    async def metric(self, name: str) -> float:
        async with self.session.get(f"{self.admin_url}/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    async def read_log(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log.append(line.decode())

    def has_logged(self, text: str) -> bool:
        return any(text in line for line in self.log)


async def eventually(ask: Callable[[], Awaitable[Any]], expected: Any) -> None:
    """Ask until the answer is the expected one."""
    seen: Any = None
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                seen = await ask()
                if seen == expected:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"still {seen!r} instead of {expected!r}")


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[Router]:
    """Run the router until the end of the block, then stop it as Kubernetes does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "baton", "router", "--host", "127.0.0.1", "--port", "0"),
        *("--admin-host", "127.0.0.1", "--admin-port", "0", *arguments),
        stderr=asyncio.subprocess.PIPE,
    )
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        started = Router(process, session)
        group.create_task(started.read_log())
        try:
            await eventually(lambda: is_true(started.has_logged("router started") or process.returncode), True)
            (line,) = [line for line in started.log if "router started" in line]
            places = dict(part.split("=", 1) for part in line.split() if "=" in part)
            started.url, started.admin_url = f"http://{places['clients']}", f"http://{places['admin']}"
            yield started
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(DEADLINE):
                assert await process.wait() == started.exit_code
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def is_true(value: object) -> bool:
    return bool(value)


@asynccontextmanager
async def engines(*wanted: Engine) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for engine in wanted:
            await engine.start()
            stack.push_async_callback(engine.stop)
        yield


def aggregated(name: str) -> Engine:
    return Engine(name, Phase.AGGREGATED, generated)


def document(model: str, *wanted: Engine) -> str:
    static = [{"address": "127.0.0.1", "port": engine.endpoint.port, "phase": engine.phase.value} for engine in wanted]
    return yaml.safe_dump(config(model, backend={"endpoints": static, "connector": "mooncake"}).document())


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def name_of(engine: Engine) -> str:
    return f"127.0.0.1:{engine.endpoint.port}"


def fail_to_start(*arguments: str, **environment: str) -> str:
    """Return the message of a router that cannot start."""
    result = CliRunner().invoke(
        router, ["--host", "127.0.0.1", "--admin-host", "127.0.0.1", *arguments], env=environment
    )
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result.output
