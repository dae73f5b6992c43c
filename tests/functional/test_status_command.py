"""`baton status` against an API server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functional.command_fixture import PAIR, Cluster, cluster_in_thread
from functional.reconciler_fixture import route

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUTES = "/apis/networking.serving.volcano.sh/v1alpha1/modelroutes"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with cluster_in_thread(tmp_path) as cluster:
        yield cluster


def test_the_status_of_nothing(cluster: Cluster) -> None:
    assert cluster.run("status", "-n", "ns") == (0, ["no ModelServing or ModelRoute in ns"])
    assert cluster.run("status") == (0, ["no ModelServing or ModelRoute in mine"])
    assert cluster.run("status", "-A") == (0, ["no ModelServing or ModelRoute in any namespace"])


def test_the_status_tells_of_groups_roles_routes_and_what_is_wrong(cluster: Cluster) -> None:
    conditions = [
        {"type": "Available", "status": "False", "reason": "GroupProgressing", "message": "[0]; p: Unschedulable"},
        {"type": "Progressing", "status": "True", "reason": "GroupProgressing", "message": "[0]"},
        {"type": "UpdateInProgress", "status": "False", "reason": "GroupProgressing", "message": "[0]"},
    ]
    cluster.serve(PAIR.desired(), status={"availableReplicas": 0, "conditions": conditions}, phase="Pending")
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
    cluster.serve(PAIR.desired(), phase="Running", conditions=[{"type": "Ready", "status": "True"}])
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
