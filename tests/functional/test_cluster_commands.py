"""`baton plan` and `baton status` against an API server, which runs in a thread: a command has a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner

from baton.cli.main import main
from baton.planning.model import ChildKind, Create, Observed
from baton.planning.plan import plan
from builders import serving
from fake_api_server import FakeApiServer
from functional.reconciler_fixture import Clock, route

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from baton.kube.types import JsonObject

SERVINGS = "/apis/workload.serving.volcano.sh/v1alpha1/modelservings"
ROUTES = "/apis/networking.serving.volcano.sh/v1alpha1/modelroutes"
PAIR = serving(namespace="ns").role("prefill").role("decode", workers=1)
COLLECTIONS = {ChildKind.POD: "/api/v1/pods", ChildKind.SERVICE: "/api/v1/services"}


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

    def serve(self, status: JsonObject | None = None, **pod_status: Any) -> None:
        """Store a ModelServing and the children that it needs."""
        self.put(SERVINGS, {**PAIR.document(), "status": status or {}})
        for action in plan(PAIR.desired(), Observed(now=Clock().now())).actions:
            assert isinstance(action, Create)
            self.put(COLLECTIONS[action.kind], {**action.object, "status": pod_status})


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


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with serving_in_thread() as server:
        document = {
            "clusters": [{"name": "c", "cluster": {"server": server.url}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(document))
        yield Cluster(server, kubeconfig)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "serving.yaml"


def test_a_plan_for_an_empty_cluster_creates_everything(cluster: Cluster, file: Path) -> None:
    file.write_text(yaml.safe_dump(PAIR.document()))
    assert cluster.run("plan", str(file)) == (
        0,
        [
            "ModelServing ns/demo",
            "  create Service demo-0-decode-0-0",
            "  create Pod demo-0-prefill-0-0",
            "  create Pod demo-0-decode-0-0",
            "  create Pod demo-0-decode-0-1",
        ],
    )
    assert {seen.verb for seen in cluster.server.requests} <= {"get", "list"}


def test_a_plan_for_what_is_there_already_is_empty(cluster: Cluster, file: Path) -> None:
    cluster.serve()
    file.write_text(yaml.safe_dump(PAIR.document()))
    assert cluster.run("plan", str(file)) == (0, ["ModelServing ns/demo", "  nothing to do"])


def test_a_plan_says_what_goes_and_why(cluster: Cluster, file: Path) -> None:
    cluster.serve()
    file.write_text(yaml.safe_dump(PAIR.replicas(0).document()))
    code, lines = cluster.run("plan", str(file))
    assert code == 0
    assert "  delete Pod demo-0-prefill-0-0: demo-0 is surplus" in lines


def test_a_plan_looks_into_the_namespace_that_is_meant(cluster: Cluster, file: Path) -> None:
    document = PAIR.document()
    document["metadata"] = {"name": "demo"}
    file.write_text(yaml.safe_dump(document))
    assert cluster.run("plan", str(file))[1][0] == "ModelServing default/demo"
    assert cluster.run("plan", str(file), "-n", "team")[1][0] == "ModelServing team/demo"


def test_a_plan_for_a_spec_that_is_refused_fails_with_the_reason(cluster: Cluster, file: Path) -> None:
    file.write_text(yaml.safe_dump(PAIR.role("decode", workerReplicas=1).document()))
    code, lines = cluster.run("plan", str(file))
    assert code == 1
    assert lines[1].startswith("  error: spec.template.roles[1].workerTemplate: is required")


def test_a_plan_does_not_mind_that_the_present_spec_cannot_be_read(cluster: Cluster, file: Path) -> None:
    cluster.serve()
    cluster.put(SERVINGS, {**PAIR.document(), "spec": {"replicas": "many"}})
    file.write_text(yaml.safe_dump(PAIR.document()))
    assert cluster.run("plan", str(file)) == (0, ["ModelServing ns/demo", "  nothing to do"])


def test_a_plan_for_an_object_on_its_way_out_says_so(cluster: Cluster, file: Path) -> None:
    going = PAIR.with_metadata(deletionTimestamp="2026-01-01T00:00:00Z")
    cluster.put(SERVINGS, going.document())
    file.write_text(yaml.safe_dump(PAIR.document()))
    assert cluster.run("plan", str(file))[1][1] == "  is being deleted; apply it again once it is gone"


def test_the_status_of_nothing(cluster: Cluster) -> None:
    assert cluster.run("status", "-n", "ns") == (0, ["no ModelServing or ModelRoute in ns"])
    assert cluster.run("status", "-A") == (0, ["no ModelServing or ModelRoute in any namespace"])


def test_the_status_tells_of_groups_roles_routes_and_what_is_wrong(cluster: Cluster) -> None:
    conditions = [
        {"type": "Available", "status": "False", "reason": "GroupProgressing", "message": "[0]; p: Unschedulable"},
        {"type": "Progressing", "status": "True", "reason": "GroupProgressing", "message": "[0]"},
        {"type": "UpdateInProgress", "status": "False", "reason": "GroupProgressing", "message": "[0]"},
    ]
    cluster.serve({"availableReplicas": 0, "conditions": conditions}, phase="Pending")
    cluster.put(ROUTES, route(loraAdapters=["a", "b"], modelName=""))
    assert cluster.run("status", "-n", "ns") == (
        0,
        [
            "ModelServing ns/demo: 0 of 1 groups available",
            "  Available=False GroupProgressing: [0]; p: Unschedulable",
            "  Progressing=True GroupProgressing: [0]",
            "  role decode: 0 of 2 pods ready",
            "  role prefill: 0 of 1 pods ready",
            "ModelRoute ns/demo: model a, b",
        ],
    )


def test_the_status_of_each_pod_on_demand(cluster: Cluster) -> None:
    cluster.serve(phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    found = cluster.server._objects["/api/v1/pods"]["ns", "demo-0-decode-0-1"]
    cluster.put("/api/v1/pods", {**found, "status": {"phase": "Pending", "conditions": [unscheduled]}})
    found = cluster.server._objects["/api/v1/pods"]["ns", "demo-0-prefill-0-0"]
    cluster.put("/api/v1/pods", {**found, "metadata": {**found["metadata"], "deletionTimestamp": "now"}})
    assert cluster.run("status", "-n", "ns", "--pods")[1][-3:] == [
        "    demo-0-decode-0-0  Ready",
        "    demo-0-decode-0-1  Pending Unschedulable: 0/3 nodes",
        "    demo-0-prefill-0-0  Terminating",
    ]


@pytest.mark.parametrize(
    ("status", "message"), [(404, "install the CRDs: baton crds | kubectl apply -f -"), (403, "as told (403 Fault)")]
)
def test_a_server_that_refuses_is_one_line(cluster: Cluster, status: int, message: str) -> None:
    cluster.server.fail("list", status)
    code, (line,) = cluster.run("status")
    assert code == 1
    assert line.startswith("Error: ")
    assert message in line
