"""`baton plan` and `baton status` as their users call them; the API server runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml
from click.testing import CliRunner

from baton.cli.main import main
from baton.planning.model import ChildKind, Create, Desired, Observed
from baton.planning.plan import plan
from builders import serving
from fake_api_server import FakeApiServer
from functional.reconciler_fixture import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from baton.kube.types import JsonObject

SERVINGS = "/apis/workload.serving.volcano.sh/v1alpha1/modelservings"
PAIR = serving(namespace="ns").role("prefill").role("decode", workers=1)
COLLECTIONS = {
    ChildKind.POD: "/api/v1/pods",
    ChildKind.SERVICE: "/api/v1/services",
    ChildKind.REVISION: "/apis/apps/v1/controllerrevisions",
    ChildKind.CONFIG_MAP: "/api/v1/configmaps",
}


class Cluster:
    """The server, and the command line of a user of it."""

    def __init__(self, server: FakeApiServer, kubeconfig: Path) -> None:
        self.server = server
        self.kubeconfig = kubeconfig

    def run(self, *arguments: str) -> tuple[int, list[str]]:
        result = CliRunner().invoke(main, [*arguments, "--kubeconfig", str(self.kubeconfig)])
        return result.exit_code, result.output.splitlines()

    def put(self, collection: str, document: JsonObject) -> None:
        metadata = {**document["metadata"], "namespace": "ns"}
        rest = {key: value for key, value in document.items() if key != "metadata"}
        self.server.put(collection, metadata["name"], metadata=metadata, **rest)

    def serve(self, desired: Desired, *, status: JsonObject | None = None, node: str = "", **pod_status: Any) -> None:
        """Store a ModelServing and the children that it needs, its pods on this node."""
        self.put(SERVINGS, {**desired.serving.document(), "status": status or {}})
        for action in plan(desired, Observed(now=Clock().now())).actions:
            assert isinstance(action, Create)
            spec = {"spec": action.object["spec"] | {"nodeName": node}} if action.kind is ChildKind.POD else {}
            self.put(COLLECTIONS[action.kind], {**action.object, **spec, "status": pod_status})

    def add_node(self, name: str, **devices: int) -> None:
        """Add a node that has this many devices of huawei.com/NAME."""
        allocatable = {f"huawei.com/{device}": str(amount) for device, amount in devices.items()}
        self.server.put("/api/v1/nodes", name, namespace="", status={"allocatable": allocatable})


@contextmanager
def serving_in_thread() -> Iterator[FakeApiServer]:
    loop = asyncio.new_event_loop()
    server, is_up, stop = FakeApiServer(), threading.Event(), asyncio.Event()

    async def live() -> None:
        async with server:
            is_up.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(live(),))
    thread.start()
    is_up.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@contextmanager
def cluster_in_thread(directory: Path) -> Iterator[Cluster]:
    """Serve an API, and write a kubeconfig for it whose context has the namespace `mine`."""
    with serving_in_thread() as server:
        document = {
            "clusters": [{"name": "c", "cluster": {"server": server.url}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "mine"}}],
            "current-context": "c",
        }
        kubeconfig = directory / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(document))
        yield Cluster(server, kubeconfig)
