"""What the measurements of the operator stand on: pods to make, a process to watch, the machine's name.

Measures nothing itself: scale.py does.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import platform
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baton.api.serving import ModelServing
from baton.controllers.desire import desired_of
from baton.dev.system import HOST, free_ports
from baton.kube.clock import SystemClock
from baton.kube.errors import NotFound
from baton.kube.resources import MODEL_SERVINGS, PODS
from baton.planning.model import ChildKind, Create, Observed
from baton.planning.plan import plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator

    from baton.kube.client import Client

Document = dict[str, Any]

NAMESPACE = "default"
PODS_OF_A_GROUP = 5  # two prefill, three decode
_WRITERS = 64
_WRITES = frozenset({"create", "patch", "apply", "delete"})
_TICKS = os.sysconf("SC_CLK_TCK")


def serving(name: str, *, groups: int) -> Document:
    """Return a ModelServing of groups with two prefill and three decode pods, single-pod roles."""
    template = {"spec": {"containers": [{"name": "engine", "image": "engine"}]}}
    roles = [
        {"name": role, "replicas": count, "entryTemplate": template, "workerReplicas": 0}
        for role, count in (("prefill", 2), ("decode", 3))
    ]
    spec = {"replicas": groups, "schedulerName": "default-scheduler", "template": {"roles": roles}}
    return {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def pods_of(document: Document) -> list[Document]:
    """Return the very pods that the operator makes of a ModelServing, owned by nobody."""
    metadata = {**document["metadata"], "uid": "none"}
    read = ModelServing.read(
        {"apiVersion": MODEL_SERVINGS.api_version, "kind": MODEL_SERVINGS.kind, **document, "metadata": metadata}
    )
    desired, problems = desired_of(read)
    if desired is None:
        raise ValueError(problems)
    made = plan(desired, Observed(now=SystemClock().now()))
    pods = [
        action.object
        for stage in made.stages
        for action in stage
        if isinstance(action, Create) and action.kind is ChildKind.POD
    ]
    for pod in pods:
        del pod["metadata"]["ownerReferences"]
    return pods


async def in_parallel(call: Callable[[Any], Awaitable[object]], items: Iterable[Any]) -> None:
    """Call for every item, as many at a time as the operator does."""
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            await call(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(_WRITERS):
            group.create_task(work())


class PodWatch:
    """Follows all pods; knows by name their uid, whether they are ready, and when each uid was first seen."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._changed = asyncio.Event()
        self.uids: dict[str, str] = {}
        self.ready: set[str] = set()
        self.seen: dict[str, float] = {}

    async def run(self) -> None:
        """Follow until cancelled."""
        version = ""
        async for page in self._client.list_pages(PODS, NAMESPACE):
            version = page["metadata"]["resourceVersion"]
            for pod in page["items"]:
                self._take("ADDED", pod)
        while True:
            async for line in self._client.watch(PODS, NAMESPACE, resource_version=version, server_timeout=3600):
                version = line["object"]["metadata"]["resourceVersion"]
                if line["type"] != "BOOKMARK":
                    self._take(line["type"], line["object"])

    async def until(self, is_true: Callable[[], bool], *, patience: float = 600.0) -> None:
        """Wait; raises TimeoutError."""
        async with asyncio.timeout(patience):
            while not is_true():
                self._changed.clear()
                await self._changed.wait()

    def _take(self, kind: str, pod: Document) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        self._changed.set()
        if kind == "DELETED":
            if self.uids.get(name) == uid:
                del self.uids[name]
            self.ready.discard(name)
            return
        self.seen.setdefault(uid, time.perf_counter())
        self.uids[name] = uid
        conditions = pod.get("status", {}).get("conditions", [])
        is_ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
        (self.ready.add if is_ready else self.ready.discard)(name)


@asynccontextmanager
async def watching(client: Client) -> AsyncIterator[PodWatch]:
    """Follow the pods inside the block."""
    watch = PodWatch(client)
    task = asyncio.ensure_future(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until_available(client: Client, name: str, *, generation: int = 1) -> None:
    """Wait for the condition Available, as `kubectl wait` does."""
    version = "0"
    while True:
        async for line in client.watch(MODEL_SERVINGS, NAMESPACE, resource_version=version, server_timeout=3600):
            found = line["object"]
            version = found["metadata"]["resourceVersion"]
            status = found.get("status") or {}
            if found["metadata"].get("name") == name and status.get("observedGeneration", 0) >= generation:
                conditions = {entry["type"]: entry["status"] for entry in status.get("conditions", [])}
                if conditions.get("Available") == "True":
                    return


async def remove_pod(client: Client, name: str, uid: str | None = None) -> None:
    """Kill a pod at once."""
    try:
        await client.delete(PODS, NAMESPACE, name, uid=uid, grace_period_seconds=0)
    except NotFound:
        return


@dataclass(frozen=True)
class Operator:
    """A running `baton operator`."""

    pid: int
    port: int
    started: float

    @property
    def cpu(self) -> float:
        """Return the CPU seconds so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self, field: str = "VmRSS") -> float:
        """Return the resident memory in MB; VmHWM: its peak."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise ValueError(field)

    def writes(self) -> int:
        """Return how many writes it has sent."""
        total = 0.0
        for line in self._get("/metrics")[1].splitlines():
            if line.startswith("rest_client_requests_total{"):
                verb = line.partition('verb="')[2].partition('"')[0]
                total += float(line.rpartition(" ")[2]) if verb in _WRITES else 0
        return int(total)

    def is_ready(self) -> bool:
        """Ask /readyz."""
        return self._get("/readyz")[0] == 200

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()


@contextmanager
def operating(kubeconfig: Path, log: Path) -> Iterator[Operator]:
    """Run an operator inside the block; it is killed at the end."""
    (port,) = free_ports(1)
    options = ["--kubeconfig", str(kubeconfig), "--probe-host", HOST, "--probe-port", str(port)]
    started = time.perf_counter()
    with (
        log.open("ab") as stream,
        subprocess.Popen([sys.executable, "-m", "baton", "operator", *options], stderr=stream) as process,
    ):
        try:
            yield Operator(process.pid, port, started)
        finally:
            process.kill()


async def until_ready(operator: Operator) -> None:
    """Wait for /readyz."""
    async with asyncio.timeout(120):
        while not await asyncio.to_thread(operator.is_ready):  # noqa: ASYNC110 # it is asked over the network
            await asyncio.sleep(0.05)


def describe() -> str:
    """Name the machine, the time, and how busy the machine is with other work."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    today = SystemClock().now().date().isoformat()
    return f"{today}, {os.cpu_count()} x {model}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
