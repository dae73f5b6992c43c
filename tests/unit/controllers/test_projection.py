from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from baton.api.admission import check_server
from baton.api.labels import DRAINING, POD_DELETION_COST
from baton.api.problems import Severity
from baton.api.server import ModelServer
from baton.api.serving import ModelServing
from baton.controllers.projection import (
    PodGroupRecord,
    child_record,
    document_record,
    kind_projection,
    pod_group_record,
    pod_record,
)
from baton.planning.model import PodGroupView
from builders import serving

if TYPE_CHECKING:
    from baton.kube.types import JsonObject

SCHEDULED = {"type": "PodScheduled", "status": "True"}


def pod(**status: Any) -> JsonObject:
    return {
        "metadata": {
            "name": "demo-0-decode-0-0",
            "namespace": "ns",
            "uid": "uid-1",
            "labels": {"app": "x"},
            "ownerReferences": [
                {"kind": "Node", "name": "n", "uid": "uid-n"},
                {"kind": "ModelServing", "name": "demo", "uid": "uid-demo", "controller": True},
            ],
        },
        "spec": {},
        "status": status,
    }


def ready(value: str, since: str | None = "2026-01-01T00:00:00Z") -> JsonObject:
    return {"type": "Ready", "status": value, "lastTransitionTime": since}


def container(restarts: int = 0, last: JsonObject | None = None, **state: Any) -> JsonObject:
    return {"restartCount": restarts, "state": state, "lastState": last or {}}


def test_a_pod_belongs_to_its_controller() -> None:
    record = pod_record(pod())
    assert record.owner == ("ns", "demo")
    assert record.view.owner_uid == "uid-demo"
    assert record.facts.name == "demo-0-decode-0-0"


def test_an_owner_that_is_no_controller_owns_nothing() -> None:
    found = pod()
    del found["metadata"]["ownerReferences"][1]
    assert (pod_record(found).owner, pod_record(found).view.owner_uid) == (None, "")


@pytest.mark.parametrize(
    ("phase", "value", "is_ready"),
    [("Running", "True", True), ("Running", "False", False), ("Failed", "True", False), ("Running", "Unknown", False)],
)
def test_a_pod_is_ready_while_it_runs_and_says_so(phase: str, value: str, is_ready: bool) -> None:
    assert pod_record(pod(phase=phase, conditions=[SCHEDULED, ready(value)])).view.ready is is_ready


def test_a_ready_pod_is_not_unready_since_any_time() -> None:
    view = pod_record(
        pod(
            phase="Running",
            conditions=[ready("True")],
            containerStatuses=[container(2, {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:01:00Z"}})],
        )
    ).view
    assert (view.unready_since, view.problem, view.restarted) == (None, "", True)


@pytest.mark.parametrize(
    ("ends", "since"),
    [
        ((), datetime(2026, 1, 1, tzinfo=UTC)),
        (("2026-01-01T00:05:00Z", "2026-01-01T00:07:00Z"), datetime(2026, 1, 1, 0, 7, tzinfo=UTC)),
        (("2025-12-31T23:00:00Z",), datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_the_grace_period_counts_from_the_last_thing_that_went_wrong(ends: tuple[str, ...], since: datetime) -> None:
    statuses = [container(1, {"terminated": {"exitCode": 1, "finishedAt": end}}) for end in ends]
    found = pod(phase="Running", conditions=[ready("False")], containerStatuses=statuses)
    assert pod_record(found).view.unready_since == since


@pytest.mark.parametrize("text", [None, "", "yesterday", 7, "2026-01-01T00:00:00"])
def test_a_time_that_cannot_be_compared_is_no_time(text: Any) -> None:
    assert pod_record(pod(conditions=[ready("False", text)])).view.unready_since is None


def test_a_restart_of_any_container_counts() -> None:
    assert pod_record(pod(initContainerStatuses=[container(1)], containerStatuses=[container()])).view.restarted
    assert not pod_record(pod(containerStatuses=[container()])).view.restarted


@pytest.mark.parametrize(("text", "cost"), [("7", 7), ("-3", -3), ("", 0), ("dear", 0)])
def test_a_deletion_cost_that_is_no_number_is_zero(text: str, cost: int) -> None:
    found = pod()
    found["metadata"]["annotations"] = {POD_DELETION_COST: text}
    assert pod_record(found).view.deletion_cost == cost


@pytest.mark.parametrize(("mark", "is_ours"), [("2026-01-01T00:00:00+00:00", True), ("true", False), ("", False)])
def test_a_pod_drains_for_us_only_by_a_mark_with_a_time(mark: str, *, is_ours: bool) -> None:
    found = pod()
    found["metadata"]["annotations"] = {DRAINING: mark}
    assert (pod_record(found).view.draining_since is not None) is is_ours


def test_only_mounted_config_maps_are_noted() -> None:
    found = pod()
    found["spec"]["volumes"] = [{"configMap": {"name": "launch"}}, {"emptyDir": {}}, {"configMap": {"name": ""}}]
    assert pod_record(found).view.config_maps == ("launch",)


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        ({"phase": "Pending"}, ""),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "full"}]},
            "Unschedulable: full",
        ),
        ({"conditions": [{"type": "PodScheduled", "status": "False"}]}, "Unschedulable"),
        ({"containerStatuses": [container(waiting={"reason": "ContainerCreating"})]}, ""),
        (
            {"containerStatuses": [container(), container(waiting={"reason": "ErrImagePull", "message": "no such"})]},
            "ErrImagePull: no such",
        ),
        (
            {
                "containerStatuses": [
                    container(3, {"terminated": {"exitCode": 137}}, waiting={"reason": "CrashLoopBackOff"})
                ]
            },
            "CrashLoopBackOff, last exit code 137 (Error)",
        ),
        (
            {"phase": "Failed", "containerStatuses": [container(terminated={"exitCode": 2, "reason": "Error"})]},
            "exit code 2 (Error)",
        ),
        (
            {
                "containerStatuses": [
                    container(
                        3,
                        {"terminated": {"exitCode": 1, "reason": "OOMKilled", "message": "rank 3 died\nno memory\n"}},
                        waiting={"reason": "CrashLoopBackOff", "message": "back-off 5m0s pod=demo-0-decode-0-0"},
                    )
                ]
            },
            "CrashLoopBackOff, last exit code 1 (OOMKilled): rank 3 died no memory",
        ),
        (
            {"phase": "Running", "containerStatuses": [{**container(running={}), "name": "engine", "ready": False}]},
            "engine runs and is not ready",
        ),
        ({"phase": "Running", "containerStatuses": [{**container(running={}), "ready": True}]}, ""),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "x" * 500}]},
            f"Unschedulable: …{'x' * 300}",
        ),
        ({"containerStatuses": [container(terminated={"exitCode": 0, "reason": "Completed"})]}, ""),
        ({"phase": "Failed", "reason": "Evicted", "message": "disk pressure"}, "Evicted: disk pressure"),
        ({"phase": "Failed"}, "Failed"),
    ],
)
def test_the_problem_is_in_the_words_of_who_reports_it(status: JsonObject, problem: str) -> None:
    assert pod_record(pod(**status)).view.problem == problem


def test_a_pod_without_status_is_pending() -> None:
    found = pod()
    del found["status"], found["spec"]
    view = pod_record(found).view
    assert (view.phase, view.ready, view.deleting) == ("Pending", False, False)


def test_a_leaving_child_is_seen_as_such() -> None:
    found = pod()
    found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert pod_record(found).view.deleting
    assert child_record(found).view.deleting


def test_a_document_is_its_content_and_its_owner() -> None:
    record = document_record({**pod(), "data": {"router.yaml": "x", "notes.txt": "y"}})
    assert (record.text, record.owner, record.owner_uid) == ("x", ("ns", "demo"), "uid-demo")
    assert document_record(pod()).text is None


def test_the_bookkeeping_of_field_managers_is_not_kept() -> None:
    found = serving().role("decode").with_metadata(managedFields=[{"manager": "kubectl"}]).document()
    record = kind_projection(ModelServing)(found)
    assert record.raw == serving().role("decode").document()
    assert record.value is not None
    assert record.value.metadata.name == "demo"
    assert found["metadata"]["managedFields"], "the object of the API server is left as it is"


def test_an_object_that_cannot_be_read_says_which_field_it_is() -> None:
    found = serving(replicas="many").role("decode", workers="none").document()  # type: ignore[arg-type] # that is the fault
    record = kind_projection(ModelServing)(found)
    assert record.value is None
    assert [problem.path for problem in record.problems] == ["spec.replicas", "spec.template.roles[0].workerReplicas"]
    assert record.raw == found


@pytest.mark.parametrize(("label", "is_usable"), [("m", True), ("no label", False)])
def test_an_object_with_an_error_has_no_value_and_one_with_a_warning_has(label: str, is_usable: bool) -> None:
    group = {"groupKey": "g", "prefillLabels": {"r": "p"}, "decodeLabels": {"r": "d"}}
    spec = {
        "inferenceEngine": "vLLM",
        "workloadSelector": {"matchLabels": {"app": label}, "pdGroup": group},
        "workloadPort": {"port": 8000},
    }
    record = kind_projection(ModelServer, check_server)({"metadata": {"name": "s", "namespace": "ns"}, "spec": spec})
    assert (record.value is not None) is is_usable
    assert Severity.WARNING in {problem.severity for problem in record.problems}


def test_an_object_on_its_way_out_says_so() -> None:
    project = kind_projection(ModelServing)
    builder = serving().role("decode")
    assert not project(builder.document()).is_deleting
    assert project(builder.with_metadata(deletionTimestamp="2026-01-01T00:00:00Z").document()).is_deleting


def test_a_pod_group_is_what_it_asks_for_and_what_was_written_last() -> None:
    reference = {"kind": "ModelServing", "name": "demo", "uid": "u", "controller": True}
    metadata = {"namespace": "ns", "name": "demo-0", "uid": "x", "ownerReferences": [reference]}
    annotations = {"baton.serving.volcano.sh/applied": "hash"}
    spec = {"minMember": 3}
    record = pod_group_record({"metadata": {**metadata, "annotations": annotations}, "spec": spec, "status": {}})
    assert record == PodGroupRecord(PodGroupView("ns", "demo-0", "x", "u", spec, "hash"), ("ns", "demo"))
    bare = pod_group_record({"metadata": {"name": "demo-0", "uid": "x", "deletionTimestamp": "now"}})
    assert bare.view == PodGroupView("", "demo-0", "x", "", {}, deleting=True)


def test_a_pod_says_whether_it_is_in_a_pod_group() -> None:
    metadata = {"name": "demo-0-decode-0-0", "uid": "x"}
    assert not pod_record({"metadata": metadata}).view.in_pod_group
    grouped = {**metadata, "annotations": {"scheduling.k8s.io/group-name": "demo-0"}}
    assert pod_record({"metadata": grouped}).view.in_pod_group
