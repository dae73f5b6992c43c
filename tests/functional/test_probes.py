from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest

from baton.manager.probes import Probes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = "127.0.0.1"


class Probed:
    """Probes whose checks say what the test says."""

    def __init__(self) -> None:
        self.silence = self.unsynced = ""
        self.probes = Probes(
            live={"watch": lambda: self.silence, "kopf": lambda: ""},
            ready={"caches": lambda: self.unsynced, "kopf": lambda: ""},
        )
        self.port = 0

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://{HOST}:{self.port}{path}") as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def probed() -> AsyncIterator[Probed]:
    made = Probed()
    made.port = await made.probes.start(HOST, 0)
    yield made
    await made.probes.close()


async def test_all_is_well(probed: Probed) -> None:
    assert await probed.get("/healthz") == (200, "ok\n")
    assert await probed.get("/readyz") == (200, "ok\n")


async def test_what_is_wrong_is_named(probed: Probed) -> None:
    probed.silence, probed.unsynced = "pods heard nothing for 301 s", "not listed yet: pods"
    assert await probed.get("/healthz") == (503, "watch: pods heard nothing for 301 s\n")
    assert await probed.get("/readyz") == (503, "caches: not listed yet: pods\n")


async def test_metrics_are_served(probed: Probed) -> None:
    status, text = await probed.get("/metrics")
    assert status == 200
    assert "# TYPE python_info gauge" in text


async def test_a_taken_port_is_an_error() -> None:
    with socket.create_server((HOST, 0)) as taken:
        probes = Probed().probes
        with pytest.raises(OSError) as raised:
            await probes.start(HOST, taken.getsockname()[1])
        await probes.close()
    assert raised.value.errno == errno.EADDRINUSE
