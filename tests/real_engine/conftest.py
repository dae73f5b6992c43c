"""Two prefill and two decode servers of real vLLM, started once, and Baton's router in front of them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from real_engine.engines import MODEL, Server, find_python, make_model, start_server, wait_until_healthy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@dataclass(slots=True)
class System:
    """The servers and the router."""

    prefill: list[Server]
    decode: list[Server]
    router_url: str
    admin_url: str


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Start everything; skip where vLLM is not installed."""
    python = find_python()
    if python is None:
        pytest.skip(
            "vLLM is not installed: `make real-engine` installs it (6 GB), or set VLLM_PYTHON to a Python with it"
        )
    folder = tmp_path_factory.mktemp("engines")
    make_model(python, folder / "model")
    ports = free_ports(10)
    servers = []
    router = None
    try:
        for number, name in enumerate(("prefill-0", "prefill-1", "decode-0", "decode-1")):
            port, side_port = ports[number], ports[4 + number]
            servers.append(
                start_server(python, name=name, model=folder / "model", port=port, side_port=side_port, folder=folder)
            )
        wait_until_healthy(servers)
        router = start_router(servers, port=ports[8], admin_port=ports[9], folder=folder)
        yield System(servers[:2], servers[2:], f"http://127.0.0.1:{ports[8]}", f"http://127.0.0.1:{ports[9]}")
    finally:
        if router is not None:
            router.kill()
            router.wait()
        for server in servers:
            server.kill()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Return a client without limits of its own on the time of an answer."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
        yield session


def start_router(servers: list[Server], *, port: int, admin_port: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start the router's process and wait until it is ready."""
    endpoints = [
        {"address": "127.0.0.1", "port": server.port, "phase": server.name.partition("-")[0]} for server in servers
    ]
    backend = {"name": "b", "connector": "nixl", "endpoints": endpoints}
    route = {"name": "r", "modelName": MODEL, "rules": [{"targets": [{"backend": "b"}]}]}
    config = folder / "router.yaml"
    config.write_text(json.dumps({"version": "v1", "routes": [route], "backends": [backend]}))
    command = [str(Path(sys.executable).with_name("baton")), "router", f"--config={config}", "--host=127.0.0.1"]
    command += [f"--port={port}", "--admin-host=127.0.0.1", f"--admin-port={admin_port}"]
    with (folder / "router.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/readyz", timeout=5):
                return process
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError((folder / "router.log").read_text()[-3000:]) from None
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on at the moment."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
