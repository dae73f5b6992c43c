"""Measures the operator on the local control plane: the time it adds to pods, its CPU, memory, and how fast it heals.

Every figure comes from one run; the first row sets it beside posting the same pods by hand. About ten minutes:

    .venv/bin/python bench/operator/scale.py [--pods 1000] [--factor 5] [--rounds 2] [--kills 50]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import machine
import uvloop

from baton.dev.local import LocalControlPlane
from baton.dev.pins import find_module, read_pins
from baton.dev.progress import ConsoleReport
from baton.kube.client import Client
from baton.kube.resources import MODEL_SERVINGS, PODS

PODS_OF_A_NODE = 80  # of the 110 that a kubelet takes
STEADY = 20.0  # seconds
QUIET = 5.0  # seconds in which nothing more may be written


def row(what: str, figure: str, target: str) -> None:
    """Print one line of the table."""
    print(f"{what:<76}  {figure:<34}  target <= {target}", flush=True)


@dataclass(frozen=True)
class Start:
    """One ModelServing from apply to Available: seconds, and the operator's CPU seconds and peak memory in MB."""

    took: float
    cpu: float
    memory: float


class Bench:
    """One control plane and its measurements."""

    def __init__(self, control_plane: LocalControlPlane, client: Client, log: Path) -> None:
        self._control_plane = control_plane
        self._client = client
        self._log = log

    async def post(self, pods: int) -> float:
        """Return the seconds that bare pods take until all are Ready."""
        documents = machine.pods_of(machine.serving("bare", groups=pods // machine.PODS_OF_A_GROUP))
        async with machine.watching(self._client) as watch:
            await asyncio.sleep(1)
            started = time.perf_counter()
            await machine.in_parallel(lambda pod: self._client.create(PODS, pod), documents)
            await watch.until(lambda: len(watch.ready) == pods)
            took = time.perf_counter() - started
            names = [pod["metadata"]["name"] for pod in documents]
            await machine.in_parallel(lambda name: machine.remove_pod(self._client, name), names)
            await watch.until(lambda: not watch.uids)
        return took

    async def start(self, pods: int, *, keep: bool = False) -> Start:
        """Have a fresh operator make these pods of one ModelServing; remove them again, or not."""
        document = machine.serving("bench", groups=pods // machine.PODS_OF_A_GROUP)
        with machine.operating(self._control_plane.kubeconfig, self._log) as operator:
            await machine.until_ready(operator)
            await asyncio.sleep(1)
            async with machine.watching(self._client) as watch:
                await asyncio.sleep(1)
                cpu, started = operator.cpu, time.perf_counter()
                await self._client.create(MODEL_SERVINGS, document)
                await machine.until_available(self._client, "bench")
                took = time.perf_counter() - started
                result = Start(took, operator.cpu - cpu, operator.memory("VmHWM"))
                if not keep:
                    await self._client.delete(MODEL_SERVINGS, machine.NAMESPACE, "bench")
                    names = [pod["metadata"]["name"] for pod in machine.pods_of(document)]
                    await asyncio.sleep(1)
                    await machine.in_parallel(lambda name: machine.remove_pod(self._client, name), names)
                    await watch.until(lambda: not watch.uids)
        return result

    async def heal(self, pods: int, *, kills: int) -> None:
        """Kill pods of a ModelServing that runs, watch the operator rest, and restart it."""
        names = [pod["metadata"]["name"] for pod in machine.pods_of(machine.serving("bench", groups=pods // 5))]
        async with machine.watching(self._client) as watch:
            with machine.operating(self._control_plane.kubeconfig, self._log) as operator:
                await machine.until_ready(operator)
                await asyncio.sleep(QUIET)
                restart_writes = operator.writes()
                delays = [await self._kill(watch, name) for name in names[:: -(-pods // kills)]]
                await asyncio.sleep(QUIET)
                cpu = operator.cpu
                await asyncio.sleep(STEADY)
                share = (operator.cpu - cpu) / STEADY
                memory = operator.memory()
            uid = watch.uids[names[0]]
            await machine.remove_pod(self._client, names[0], uid)
            with machine.operating(self._control_plane.kubeconfig, self._log) as operator:
                await watch.until(lambda: watch.uids.get(names[0], uid) != uid)
                restart, restart_cpu = watch.seen[watch.uids[names[0]]] - operator.started, operator.cpu
        rank = statistics.quantiles(delays, n=100, method="inclusive")
        row(
            f"one pod killed among {pods:,} until its replacement is created, p99 of {len(delays)}",
            f"{rank[98] * 1000:.0f} ms (median {rank[49] * 1000:.0f})",
            "200 ms",
        )
        row(f"steady state at {pods:,} pods", f"{share:.3f} core, {memory:.0f} MB", "0.05 core")
        figure = f"{restart:.1f} s ({restart_cpu:.1f} s of CPU)"
        row(f"restart at {pods:,} pods until the first correct action", figure, "10 s")
        row(f"writes of a restart at {pods:,} pods where nothing has changed", f"{restart_writes}", "0")

    async def _kill(self, watch: machine.PodWatch, name: str) -> float:
        await watch.until(lambda: name in watch.ready)
        uid = watch.uids[name]
        started = time.perf_counter()
        await machine.remove_pod(self._client, name, uid)
        await watch.until(lambda: watch.uids.get(name, uid) != uid)
        await watch.until(lambda: name in watch.ready)
        await asyncio.sleep(1.5)  # each death comes by itself: see docs/decisions/0006-a-key-rests.md
        return watch.seen[watch.uids[name]] - started


async def measure(control_plane: LocalControlPlane, log: Path, options: argparse.Namespace) -> None:
    """Measure everything and print the table."""
    pods, many = options.pods, options.pods * options.factor
    async with await Client.from_kubeconfig(str(control_plane.kubeconfig)) as client:
        bench = Bench(control_plane, client, log)
        bare, starts = [], []
        for _ in range(options.rounds):
            bare.append(await bench.post(pods))
            starts.append(await bench.start(pods))
        few = min(starts, key=lambda start: start.took)
        row(
            f"{pods:,} pods of one ModelServing, apply to Available, beside bare pods' {min(bare):.1f} s",
            f"{few.took / min(bare):.2f} x ({few.took:.1f} s)",
            "1.10 x",
        )
        cpu = min(start.cpu for start in starts)
        row("the operator's CPU for that", f"{cpu:.1f} s", "2.9 s")
        row("the operator's peak memory", f"{max(start.memory for start in starts):.0f} MB", "150 MB")
        large = await bench.start(many, keep=True)
        time_ratio, cpu_ratio = large.took / few.took / options.factor, large.cpu / cpu / options.factor
        row(f"time a pod at {many:,} pods, beside {pods:,}", f"{time_ratio:.2f} x ({large.took:.1f} s)", "1.15 x")
        row(f"CPU a pod at {many:,} pods, beside {pods:,}", f"{cpu_ratio:.2f} x ({large.cpu:.1f} s)", "1.15 x")
        row(f"the operator's peak memory at {many:,} pods", f"{large.memory:.0f} MB", "none")
        await bench.heal(many, kills=options.kills)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=1000, help="pods of the first measurements (multiples of 5)")
    parser.add_argument("--factor", type=int, default=5, help="how many times as many the others have")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of the first measurements; the fastest counts")
    parser.add_argument("--kills", type=int, default=50, help="how many pods are killed, one after the other")
    options = parser.parse_args()
    pods = options.pods * options.factor
    with tempfile.TemporaryDirectory() as directory:
        os.environ["XDG_STATE_HOME"] = directory
        nodes = -(-pods // PODS_OF_A_NODE)
        with LocalControlPlane(name="bench", nodes=nodes, report=ConsoleReport()) as control_plane:
            print(f"{machine.describe()}, Kubernetes {read_pins(find_module()).kubernetes_version}, {nodes} nodes")
            uvloop.run(measure(control_plane, Path(directory) / "operator.log", options))


if __name__ == "__main__":
    main()
