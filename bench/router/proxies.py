"""The routers that are measured: how each is started, and what its processes cost. Sends no requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "baton" / "bench"
ENVOY_FILTERS = "type.googleapis.com/envoy.extensions.filters"
START = 30.0
"""Seconds a router may take to answer its first request."""


@dataclass(frozen=True, slots=True)
class Engines:
    """The ports of the engines on 127.0.0.1."""

    prefill: tuple[int, ...]
    decode: tuple[int, ...]


@dataclass(slots=True)
class Proxy:
    """A running router: its process, where it listens, and whether it hands over from prefill to decode."""

    name: str
    process: subprocess.Popen[bytes]
    url: str
    hands_over: bool = True

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its processes and threads so far, as the kernel counts it."""
        return sum(_cpu_seconds(pid) for pid in _family(self.process.pid))

    def memory_bytes(self) -> int:
        """Return the resident memory of all its processes."""
        return sum(_memory_bytes(pid) for pid in _family(self.process.pid))

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def start_baton(engines: Engines, port: int, folder: Path) -> Proxy:
    """Start this checkout's router with its default settings, access log included."""
    endpoints = [
        {"address": "127.0.0.1", "port": number, "phase": phase}
        for phase, ports in (("prefill", engines.prefill), ("decode", engines.decode))
        for number in ports
    ]
    backend = {"name": "b", "connector": "nixl", "endpoints": endpoints}
    route = {"name": "r", "modelName": "m", "rules": [{"targets": [{"backend": "b"}]}]}
    config = folder / "router.yaml"
    config.write_text(json.dumps({"version": "v1", "routes": [route], "backends": [backend]}))
    command = [str(Path(sys.executable).with_name("baton")), "router", f"--config={config}", "--host=127.0.0.1"]
    return _start("Baton", [*command, f"--port={port}", "--admin-host=127.0.0.1", "--admin-port=0"], port, folder)


def start_vllm_router(engines: Engines, port: int, folder: Path) -> Proxy:
    """Start vllm-router in its prefill and decode mode, with its default settings."""
    command = [str(_peers() / "vllm-router"), "--vllm-pd-disaggregation", "--kv-connector=nixl", "--host=127.0.0.1"]
    for phase, ports in (("--prefill", engines.prefill), ("--decode", engines.decode)):
        for number in ports:
            command += [phase, f"http://127.0.0.1:{number}"]
    return _start("vllm-router", [*command, f"--port={port}", f"--prometheus-port={port + 1}"], port, folder)


def start_envoy(engines: Engines, port: int, folder: Path) -> Proxy:
    """Start Envoy with one worker; it passes requests on to the decode engines."""
    endpoints = [{"endpoint": {"address": _socket(number)}} for number in engines.decode]
    cluster = {
        "name": "decode",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "decode", "endpoints": [{"lb_endpoints": endpoints}]},
        "circuit_breakers": {"thresholds": [{"max_connections": 10000, "max_requests": 10000}]},
    }
    proxying = {
        "@type": f"{ENVOY_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "decode", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{ENVOY_FILTERS}.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": proxying}]}
    listener = {"address": _socket(port), "filter_chains": [chain]}
    config = folder / "envoy.json"
    config.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    command = [str(_peers() / "envoy"), "--config-path", str(config), "--concurrency", "1", "--disable-hot-restart"]
    proxy = _start("Envoy", [*command, "--log-level", "error"], port, folder)
    proxy.hands_over = False
    return proxy


def start_engine(traffic: Path, port: int) -> subprocess.Popen[bytes]:
    """Start an engine of the benchmark and wait until it answers."""
    process = subprocess.Popen([str(traffic), "engine", f"--listen=127.0.0.1:{port}"])
    _wait(process, port, "engine")
    return process


def build_traffic() -> Path:
    """Return the program that plays engines and clients, built when its source is newer."""
    source, program = HERE / "traffic", CACHE / "traffic"
    newest = max(path.stat().st_mtime for path in source.iterdir())
    if not program.exists() or program.stat().st_mtime < newest:
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["go", "build", "-o", str(program), "."], cwd=source, check=True)
    return program


def versions() -> str:
    """Return the peers' names and versions."""
    lines = (HERE / "peers.in").read_text().splitlines()
    return ", ".join(line.replace("==", " ") for line in lines if "==" in line)


def _peers() -> Path:
    """Return the folder of the peers' programs, installed when the lock file is newer."""
    environment, lock = CACHE / "peers", HERE / "peers.lock"
    mark = environment / ".installed"
    if not mark.exists() or mark.stat().st_mtime < lock.stat().st_mtime:
        print("Installing the peers …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "-r",
            str(lock),
        ]
        subprocess.run([str(environment / "bin" / "python"), *install], check=True)
        mark.touch()
    return environment / "bin"


def _start(name: str, command: Sequence[str], port: int, folder: Path) -> Proxy:
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{name}-", suffix=".log", delete=False) as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        _wait(process, port, f"{name}, see {log.name},")
    except RuntimeError:
        process.kill()
        raise
    return Proxy(name, process, f"http://127.0.0.1:{port}")


def _wait(process: subprocess.Popen[bytes], port: int, name: str) -> None:
    """Wait until a chat request is answered with 200."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", data=body, headers=headers)
    deadline = time.monotonic() + START
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} does not answer: {error}") from error
        time.sleep(0.1)


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _family(int(child)))]


def _cpu_seconds(pid: int) -> float:
    clocks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(clock.read_text().split()[0]) for clock in clocks) / 1e9


def _memory_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _socket(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
