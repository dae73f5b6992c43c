"""Measures the router beside vllm-router and Envoy, in one run: CPU, time to the first token, and memory.

Engines and clients are a Go program (traffic/), so that they are not what is measured. CPU is what the kernel has
accounted to all processes of a router. Every round measures each router once; the lowest value of the rounds is shown,
because other work on the machine only ever adds. Envoy passes requests on to one engine, so its requests are half of
what the others do. The first run installs the peers (see peers.in).

    .venv/bin/python bench/router/compare.py [--rounds 3] [--seconds 3] [--streams 150]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxies import Engines, Proxy, build_traffic, start_baton, start_engine, start_envoy, start_vllm_router, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LONG = 1_000_000
"""Tokens of streams that do not end while they are measured."""
SHORT = 100
"""Tokens of streams that end and are begun again, so that there are first tokens to measure under load."""
PROMPTS = {"1 kB": 1_000, "100 kB": 100_000, "1 MB": 1_000_000}
CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: what is measured, and the most Baton may have of a peer's value, or in all."""

    name: str
    unit: str
    limits: Mapping[str, float]
    most: float | None = None


ROWS = (
    Row("CPU of a streamed chunk", "µs", {"Envoy": 1.0, "vllm-router": 0.8}),
    Row("time to first token, p50, added", "ms", {}, most=2),
    Row("time to first token, p99, added", "ms", {}, most=15),
    Row("CPU of a request, prompt of 1 kB", "µs", {"vllm-router": 0.6}),
    Row("CPU of a request, prompt of 100 kB", "µs", {"vllm-router": 0.7}),
    Row("CPU of a request, prompt of 1 MB", "µs", {"vllm-router": 0.7}),
    Row("memory before any request", "MB", {}, most=60),
    Row("memory of a stream", "kB", {}, most=20),
)


class Bench:
    """Puts loads on routers and reads their clocks."""

    def __init__(self, traffic: Path, engines: Engines, *, seconds: float, streams: int) -> None:
        """Measure for so many seconds a load, with so many streams at a time."""
        self._traffic = traffic
        self._engines = engines
        self._seconds = seconds
        self._streams = streams

    def measure(self, proxy: Proxy) -> dict[str, float]:
        """Return a router's value of each row that it has one of."""
        values = {"memory before any request": proxy.memory_bytes() / 1e6}
        end, cpu, memory = self._load(proxy, "streams", f"--streams={self._streams}", f"--tokens={LONG}")
        values["CPU of a streamed chunk"] = cpu / end["chunks"] * 1e6
        values["memory of a stream"] = (memory / 1e6 - values["memory before any request"]) / self._streams * 1e3
        for name, size in PROMPTS.items():
            end, cpu, _ = self._load(proxy, "requests", f"--connections={CONNECTIONS}", f"--prompt-bytes={size}")
            values[f"CPU of a request, prompt of {name}"] = cpu / end["count"] * 1e6
        return values | self.first_tokens(proxy)

    def first_tokens(self, proxy: Proxy | None) -> dict[str, float]:
        """Return the times to the first token, in ms, of a router, or of the engines asked without one."""
        if proxy is not None and not proxy.hands_over:
            return {}
        end, _, _ = self._load(proxy, "streams", f"--streams={self._streams}", f"--tokens={SHORT}")
        return {f"time to first token, {name}, added": end[f"{name}_ms"] for name in ("p50", "p99")}

    def _load(self, proxy: Proxy | None, kind: str, *options: str) -> tuple[dict[str, Any], float, int]:
        """Put one load on a router; return the load's report, the CPU seconds of its window, and the memory then."""
        prefill, decode = self._engines.prefill[0], self._engines.decode[0]
        where = [f"--url=http://127.0.0.1:{decode}", f"--prefill=http://127.0.0.1:{prefill}"]
        command = [str(self._traffic), kind, *(where if proxy is None else [f"--url={proxy.url}"])]
        command += [f"--window={self._seconds}s", *options]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as load:
            if load.stdin is None or load.stdout is None:
                raise RuntimeError("a load has no pipes")
            load.stdout.readline()
            before = 0.0 if proxy is None else proxy.cpu_seconds()
            end = json.loads(load.stdout.readline())
            after, memory = (0.0, 0) if proxy is None else (proxy.cpu_seconds(), proxy.memory_bytes())
            load.stdin.close()
        if end["failed"]:
            name = "the engines" if proxy is None else proxy.name
            raise RuntimeError(f"{end['failed']} of {name}'s requests failed: {end['failure']}")
        return end, after - before, memory


def best(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the lowest value of each measurement."""
    return {name: min(each[name] for each in rounds) for name in rounds[0]}


def report(results: Mapping[str, Mapping[str, float]], alone: Mapping[str, float]) -> None:
    """Print the table with Baton's value over each target, 1.00 or less where it is met."""
    own = results["Baton"]
    print(f"{'':36}" + "".join(f"{name:>13}" for name in results) + "   Baton over its target")
    for row in ROWS:
        base = alone.get(row.name, 0.0)
        cells = [
            f"{values[row.name] - base:10.1f} {row.unit}" if row.name in values else f"{'-':>13}"
            for values in results.values()
        ]
        targets = [f"{own[row.name] - base:.3g} of {row.most:g} {row.unit}"] if row.most is not None else []
        targets += [
            f"{own[row.name] / results[peer][row.name]:.2f} x {peer} (at most {limit:g})"
            for peer, limit in row.limits.items()
            if peer in results
        ]
        print(f"{row.name:36}" + "".join(cells) + "   " + ", ".join(targets))


def free_port() -> int:
    """Return a port nobody listens on at the moment, with a free one after it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the router beside vllm-router and Envoy.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    parser.add_argument("--streams", type=int, default=150, help="streams at once, 100 chunks a second each")
    parser.add_argument("--without-peers", action="store_true", help="measure Baton alone")
    options = parser.parse_args()
    starts: list[Callable[[Engines, int, Path], Proxy]] = [start_baton]
    if not options.without_peers:
        starts += [start_vllm_router, start_envoy]
    traffic = build_traffic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="baton-bench-")))
        ports = [free_port() for _ in range(4)]
        for port in ports:
            stack.callback(start_engine(traffic, port).kill)
        engines = Engines(prefill=(ports[0], ports[1]), decode=(ports[2], ports[3]))
        bench = Bench(traffic, engines, seconds=options.seconds, streams=options.streams)
        rounds: dict[str, list[dict[str, float]]] = {}
        alone = []
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds} …", file=sys.stderr)
            for start in starts:
                proxy = start(engines, free_port(), folder)
                try:
                    rounds.setdefault(proxy.name, []).append(bench.measure(proxy))
                finally:
                    proxy.stop()
            alone.append(bench.first_tokens(None))
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, ", end="")
    print(f"Python {platform.python_version()}, Baton {version('baton-serving')}, {versions()}")
    report({name: best(values) for name, values in rounds.items()}, best(alone))


if __name__ == "__main__":
    main()
