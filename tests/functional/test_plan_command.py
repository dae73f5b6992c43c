"""`baton plan` against an API server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from baton.controllers.desire import desired_of
from baton.planning.revision import revision_of
from functional.command_fixture import PAIR, SERVINGS, Cluster, cluster_in_thread
from rendering_builders import pair

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from baton.api.serving import ModelServing
    from baton.kube.types import JsonObject

ENOUGH = "Capacity: every pod finds a node (devices, host ports, labels and taints)"
RUNNING: dict[str, Any] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with cluster_in_thread(tmp_path) as cluster:
        cluster.add_node("large", Ascend910=64)
        yield cluster


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "serving.yaml"


def typed(name: str = "demo", replicas: int = 1, **engine: Any) -> ModelServing:
    """Return a typed ModelServing in the namespace `ns`, each of its pods with four devices."""
    written = pair(**engine)
    metadata = written.metadata.model_copy(update={"name": name, "namespace": "ns", "uid": f"uid-of-{name}"})
    return written.model_copy(
        update={"metadata": metadata, "spec": written.spec.model_copy(update={"replicas": replicas})}
    )


def serve(cluster: Cluster, serving: ModelServing, **state: Any) -> None:
    desired, problems = desired_of(serving)
    assert desired is not None, problems
    cluster.serve(desired, **state)


def write(file: Path, *documents: JsonObject | ModelServing) -> str:
    """Write a file as users do: without what the server adds."""
    written = [item if isinstance(item, dict) else item.document() for item in documents]
    names = ("name", "namespace", "labels")
    placed = [
        {**document, "metadata": {name: document["metadata"][name] for name in names if name in document["metadata"]}}
        for document in written
    ]
    file.write_text(yaml.safe_dump_all(placed))
    return str(file)


def test_a_plan_for_an_empty_cluster_creates_everything(cluster: Cluster, file: Path) -> None:
    assert cluster.run("plan", write(file, PAIR.document())) == (
        0,
        [
            "ModelServing ns/demo",
            "  pods: 0 restart, 0 stop, 3 start, 0 stay",
            f"    create ControllerRevision demo-{revision_of(PAIR.desired())}",
            "    create Service demo-0-decode-0-0",
            "    create Pod demo-0-prefill-0-0",
            "    create Pod demo-0-decode-0-0",
            "    create Pod demo-0-decode-0-1",
            ENOUGH,
        ],
    )
    assert {seen.verb for seen in cluster.server.requests} <= {"get", "list"}


def test_a_plan_for_what_is_there_already_is_empty(cluster: Cluster, file: Path) -> None:
    cluster.serve(PAIR.desired())
    assert cluster.run("plan", write(file, PAIR.document())) == (
        0,
        ["ModelServing ns/demo", "  nothing to do", ENOUGH],
    )


def test_a_plan_says_what_goes_and_why(cluster: Cluster, file: Path) -> None:
    cluster.serve(PAIR.desired())
    code, lines = cluster.run("plan", write(file, PAIR.replicas(0).document()))
    assert code == 0
    assert lines[1] == "  pods: 0 restart, 3 stop, 0 start, 0 stay; at most 3 are stopped at once"
    assert "    delete Pod demo-0-prefill-0-0: demo-0 is surplus" in lines


def test_a_plan_of_a_roll_out_says_what_changed_which_pods_restart_and_what_comes_first(
    cluster: Cluster, file: Path
) -> None:
    serve(cluster, typed(replicas=2, decode={"maxNumSeqs": 16, "resources": {"cpu": "4"}}), **RUNNING)
    path = write(file, typed(replicas=3, decode={"maxNumSeqs": 30, "resources": {"cpu": "8"}}))

    code, lines = cluster.run("plan", path)

    assert code == 0
    assert lines[:16] == [
        "ModelServing ns/demo",
        "  role decode: its template changed",
        "    launch.sh",
        "      - --max-num-seqs 16 \\",
        "      + --max-num-seqs 30 \\",
        "    pod",
        "      - spec.containers[engine].resources.requests.cpu: 4",
        "      + spec.containers[engine].resources.requests.cpu: 8",
        "  pods: 4 restart, 0 stop, 2 start, 0 stay; at most 2 are stopped at once",
        "    restart demo-1-decode-0-0: demo-1 has an outdated template",
        "    restart demo-1-prefill-0-0: demo-1 has an outdated template",
        "    restart demo-0-decode-0-0: demo-0 has an outdated template",
        "    restart demo-0-prefill-0-0: demo-0 has an outdated template",
        "    start demo-2-prefill-0-0",
        "    start demo-2-decode-0-0",
        "  of this at once:",
    ]
    assert lines[-1] == ENOUGH


def test_pods_that_a_partition_keeps_are_counted(cluster: Cluster, file: Path) -> None:
    cluster.serve(PAIR.replicas(3).desired(), **RUNNING)
    changed = PAIR.replicas(3).rollout(partition=1).role("prefill", image="engine:2")
    code, lines = cluster.run("plan", write(file, changed.document()))
    assert (code, lines[1:6]) == (
        0,
        [
            "  role prefill: its template changed; pods that keep the old one: 1",
            "    pod",
            "      - spec.containers[engine].image: engine:1",
            "      + spec.containers[engine].image: engine:2",
            "  pods: 6 restart, 0 stop, 0 start, 3 stay; at most 3 are stopped at once",
        ],
    )


def test_a_plan_for_machines_has_every_step(cluster: Cluster, file: Path) -> None:
    serve(cluster, typed(decode={"maxNumSeqs": 16}), **RUNNING)
    code, lines = cluster.run("plan", write(file, typed(decode={"maxNumSeqs": 30})), "--output", "json")

    answer = json.loads("\n".join(lines))
    (found,) = answer["servings"]
    assert (code, found["namespace"], found["name"], found["refused"]) == (0, "ns", "demo", False)
    assert found["roles"] == [
        {
            "name": "decode",
            "outdated": True,
            "left": 0,
            "differences": {"launch.sh": ["- --max-num-seqs 16 \\", "+ --max-num-seqs 30 \\"]},
        }
    ]
    assert [pod["name"] for pod in found["pods"]["restart"]] == ["demo-0-decode-0-0", "demo-0-prefill-0-0"]
    done = [[f"{action['do']} {action['kind']}" for stage in step for action in stage] for step in found["steps"]]
    assert done == [
        ["create ControllerRevision", "create ConfigMap", "delete Pod", "delete Pod"],
        ["create Pod", "create Pod", "delete ConfigMap"],
    ]
    assert answer["capacity"] == {"checked": True, "problem": "", "shortages": []}


def test_pods_that_find_no_node_are_told_for_all_of_a_file_together(cluster: Cluster, file: Path) -> None:
    cluster.server.remove("/api/v1/nodes", "large", namespace="")
    cluster.add_node("small", Ascend910=4)
    cluster.add_node("medium", Ascend910=8)
    serve(cluster, typed("old"), node="medium", **RUNNING)
    path = write(file, typed("one"), typed("old", replicas=0), typed("other"))

    code, lines = cluster.run("plan", path)

    assert code == 3
    assert lines[-2:] == [
        "Capacity: these pods find no node",
        "  other-0-prefill-0-0: needs 4 huawei.com/Ascend910, and the most that a node has free is 0 (small)",
    ]


def test_who_may_not_list_nodes_gets_the_plan_without_the_check(cluster: Cluster, file: Path) -> None:
    forbidden = b'{"kind": "Status", "code": 403, "message": "nodes is forbidden"}'
    cluster.server.fail("list", 403, skip=4, body=forbidden)
    code, lines = cluster.run("plan", write(file, PAIR.document()))
    assert code == 0
    assert lines[1] == "  pods: 0 restart, 0 stop, 3 start, 0 stay"
    assert lines[-1].startswith("Capacity was not checked, which needs to list nodes and all pods: nodes is forbidden")


def test_templates_come_from_the_file_before_the_cluster(cluster: Cluster, file: Path) -> None:
    labels = {"labels": {"baton.serving.volcano.sh/templates": "true"}}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "namespace": "ns", **labels}}
    served = typed(templates={"configMap": "mine"})
    code, lines = cluster.run("plan", write(file, served))
    assert (code, "there is no ConfigMap ns/mine" in lines[1]) == (1, True)

    cluster.server.put("/api/v1/configmaps", "mine", metadata=labels, data={"ready.sh.j2": "exit 0\n"})
    desired, _ = desired_of(served, {"mine": {"ready.sh.j2": "exit 0\n"}})
    assert desired is not None
    cluster.serve(desired, **RUNNING)
    assert cluster.run("plan", write(file, served))[1] == ["ModelServing ns/demo", "  nothing to do", ENOUGH]

    path = write(file, served, {**config_map, "data": {"ready.sh.j2": "exit 1\n"}})
    assert cluster.run("plan", path)[1][1:4] == [
        "  role prefill: nothing restarts for this, but pods that start later differ",
        "    ready.sh",
        "      - exit 0",
    ]


def test_a_plan_looks_into_the_namespace_that_is_meant(cluster: Cluster, file: Path) -> None:
    document = PAIR.document()
    document["metadata"] = {"name": "demo"}
    file.write_text(yaml.safe_dump(document))
    assert cluster.run("plan", str(file))[1][0] == "ModelServing mine/demo"
    assert cluster.run("plan", str(file), "-n", "team")[1][0] == "ModelServing team/demo"


def test_a_plan_for_a_spec_that_is_refused_fails_with_the_reason(cluster: Cluster, file: Path) -> None:
    file.write_text(yaml.safe_dump(PAIR.role("decode", workerReplicas=1).document()))
    code, lines = cluster.run("plan", str(file))
    assert code == 1
    assert lines[1].startswith("  error: spec.template.roles[1].workerTemplate: is required")


def test_a_plan_does_not_mind_that_the_present_spec_cannot_be_read(cluster: Cluster, file: Path) -> None:
    cluster.serve(PAIR.desired())
    cluster.put(SERVINGS, {**PAIR.document(), "spec": {"replicas": "many"}})
    file.write_text(yaml.safe_dump(PAIR.document()))
    assert cluster.run("plan", str(file)) == (0, ["ModelServing ns/demo", "  nothing to do", ENOUGH])


def test_a_plan_for_an_object_on_its_way_out_says_so(cluster: Cluster, file: Path) -> None:
    going = PAIR.with_metadata(deletionTimestamp="2026-01-01T00:00:00Z")
    cluster.put(SERVINGS, going.document())
    file.write_text(yaml.safe_dump(PAIR.document()))
    assert cluster.run("plan", str(file))[1][1] == "  is being deleted; apply it again once it is gone"
