from __future__ import annotations

import json
import tempfile
import time
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from baton.dev.binaries import ensure_binaries
from baton.dev.kubectl import Kubectl
from baton.dev.local import LocalControlPlane
from baton.dev.pins import find_module, read_pins
from baton.dev.processes import is_running, stop_process
from baton.dev.provider import ControlPlaneError
from baton.dev.record import read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from baton.dev.processes import Process

pytestmark = pytest.mark.controlplane

OWNER = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "owners.test.baton"},
    "spec": {
        "group": "test.baton",
        "scope": "Namespaced",
        "names": {"kind": "Owner", "plural": "owners", "singular": "owner"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}


@pytest.fixture(scope="module")
def crds() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "owners.yaml").write_text(json.dumps(OWNER))
        yield Path(directory)


@pytest.fixture(scope="module")
def control_plane(crds: Path) -> Iterator[LocalControlPlane]:
    """A control plane of this module alone, in a state directory that goes with it."""
    try:
        ensure_binaries(read_pins(find_module()))
    except ControlPlaneError as error:
        pytest.skip(str(error))
    with (
        tempfile.TemporaryDirectory() as state,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("XDG_STATE_HOME", state)
        with LocalControlPlane(name="test", nodes=3, crds=crds) as control_plane:
            yield control_plane


@pytest.fixture(scope="module")
def kubectl(control_plane: LocalControlPlane) -> Kubectl:
    return Kubectl(control_plane.kubectl, control_plane.kubeconfig, control_plane.directory / "cache")


def make_pod(name: str, **spec: object) -> dict[str, Any]:
    container = {"name": "engine", "image": "engine", "ports": [{"containerPort": 8000}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container], **spec}}


def create(kubectl: Kubectl, *documents: dict[str, Any]) -> None:
    document = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    kubectl.run("create", "--filename=-", standard_input=json.dumps(document))


def get(kubectl: Kubectl, kind: str, *arguments: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(kubectl.run("get", kind, "--output=json", *arguments))["items"]
    return items


def eventually(is_true: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextmanager
def running_pods(kubectl: Kubectl, *pods: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Create pods, wait until they run, give them as the API server has them, and delete them."""
    names = [pod["metadata"]["name"] for pod in pods]
    create(kubectl, *pods)
    kubectl.run("wait", "--for=condition=Ready", "--timeout=20s", "pod", *names)
    yield [pod for pod in get(kubectl, "pods") if pod["metadata"]["name"] in names]
    kubectl.run("delete", "pod", *names)


def processes(control_plane: LocalControlPlane) -> list[Process]:
    record = read_record(control_plane.directory)
    assert record is not None
    return list(record.processes.values())


def test_every_pod_has_a_loopback_address_of_its_own(control_plane: LocalControlPlane, kubectl: Kubectl) -> None:
    pods = [make_pod("plain-0"), make_pod("plain-1")]
    pods += [make_pod("host-0", hostNetwork=True), make_pod("host-1", hostNetwork=True)]
    with running_pods(kubectl, *pods) as running:
        addresses = {IPv4Address(pod["status"]["podIP"]) for pod in running}
        # The same host port twice: the scheduler has to use two nodes, whose addresses tell the pods apart.
        nodes = {pod["spec"]["nodeName"] for pod in running if "hostNetwork" in pod["spec"]}
    assert len(addresses) == 4
    assert len(nodes) == 2
    assert control_plane.pod_address_range is not None
    assert all(address in control_plane.pod_address_range for address in addresses)


def test_a_pod_of_the_scheduler_volcano_gets_npus(kubectl: Kubectl) -> None:
    pod = make_pod("npus", schedulerName="volcano")
    pod["spec"]["containers"][0]["resources"] = {"limits": {"huawei.com/Ascend910": "16"}}
    pod["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    with running_pods(kubectl, pod) as (running,):
        assert running["status"]["phase"] == "Running"


def test_a_pod_that_asks_for_more_npus_than_a_node_has_stays_pending(kubectl: Kubectl) -> None:
    pod = make_pod("greedy")
    pod["spec"]["containers"][0]["resources"] = {"limits": {"huawei.com/Ascend910": "17"}}
    create(kubectl, pod)
    kubectl.run("wait", "--for=jsonpath={.status.conditions[0].reason}=Unschedulable", "pod/greedy", "--timeout=20s")
    kubectl.run("delete", "pod", "greedy")


def test_init_containers_and_probes_do_not_keep_a_pod_from_being_ready(kubectl: Kubectl) -> None:
    probe = {"httpGet": {"path": "/health", "port": 8000}}
    pod = make_pod("probed", initContainers=[{"name": "load", "image": "load"}])
    pod["spec"]["containers"][0] |= {"startupProbe": probe, "readinessProbe": probe}
    with running_pods(kubectl, pod) as (running,):
        assert running["status"]["containerStatuses"][0]["ready"]
        assert running["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


def test_a_successor_of_the_same_name_survives_its_predecessors_end(kubectl: Kubectl) -> None:
    for _ in range(3):
        with running_pods(kubectl, make_pod("phoenix")):
            pass
    with running_pods(kubectl, make_pod("phoenix")) as (first,):
        (again,) = get(kubectl, "pods")
        assert again["metadata"]["uid"] == first["metadata"]["uid"]
        assert again["status"]["podIP"] == first["status"]["podIP"]


def test_a_pod_can_be_told_to_start_and_stop_slowly(kubectl: Kubectl) -> None:
    pod = make_pod("slow")
    pod["metadata"]["annotations"] = {"dev.baton/start-delay": "1h", "dev.baton/stop-delay": "1h"}
    create(kubectl, pod)
    kubectl.run("wait", "--for=condition=PodScheduled", "pod/slow", "--timeout=20s")
    assert get(kubectl, "pods")[0]["status"]["phase"] == "Pending"
    kubectl.run("delete", "pod", "slow", "--wait=false")
    assert "deletionTimestamp" in get(kubectl, "pods")[0]["metadata"]
    kubectl.run("delete", "pod", "slow", "--grace-period=0", "--force")


def test_what_a_deleted_object_owns_goes_with_it(kubectl: Kubectl) -> None:
    create(kubectl, {"apiVersion": "test.baton/v1", "kind": "Owner", "metadata": {"name": "parent"}})
    (parent,) = get(kubectl, "owners")
    reference = {"apiVersion": "test.baton/v1", "kind": "Owner", "name": "parent", "uid": parent["metadata"]["uid"]}
    child = make_pod("child")
    child["metadata"]["ownerReferences"] = [reference]
    create(kubectl, child)
    kubectl.run("wait", "--for=condition=Ready", "--timeout=20s", "pod/child")
    kubectl.run("delete", "owner", "parent")
    eventually(lambda: not get(kubectl, "pods"))


def test_an_ordinary_service_account_may_do_what_it_was_given(
    control_plane: LocalControlPlane, kubectl: Kubectl
) -> None:
    kubectl.run("create", "serviceaccount", "reader")
    kubectl.run("create", "clusterrolebinding", "reader", "--clusterrole=view", "--serviceaccount=default:reader")
    token = kubectl.run("create", "token", "reader")
    kubeconfig = json.loads(control_plane.kubeconfig.read_text())
    kubeconfig["users"][0]["user"] = {"token": token}
    path = control_plane.directory / "reader"
    path.write_text(json.dumps(kubeconfig))
    reader = Kubectl(control_plane.kubectl, path)
    reader.run("get", "pods")
    with pytest.raises(ControlPlaneError, match="forbidden"):
        create(reader, make_pod("forbidden"))


def test_it_is_up_with_all_programs_and_nodes(control_plane: LocalControlPlane) -> None:
    status = control_plane.status()
    assert status.is_up
    assert [component.name for component in status.components] == [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kwok",
    ]
    assert [node.is_ready for node in status.nodes] == [True] * 3


def test_starting_it_again_changes_nothing(control_plane: LocalControlPlane) -> None:
    before = processes(control_plane)
    LocalControlPlane(name="test").up()
    assert processes(control_plane) == before


def test_its_secrets_are_for_its_owner_only(control_plane: LocalControlPlane) -> None:
    assert control_plane.directory.stat().st_mode & 0o077 == 0
    assert control_plane.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_a_second_one_runs_beside_it_and_leaves_nothing_when_interrupted(control_plane: LocalControlPlane) -> None:
    second = LocalControlPlane(name="second", nodes=1)
    started: list[Process] = []

    def use_and_interrupt() -> None:
        with second:
            started.extend(processes(second))
            assert second.pod_address_range != control_plane.pod_address_range
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use_and_interrupt()
    assert len(started) == 5
    assert not any(map(is_running, started))
    assert {path.name for path in second.directory.iterdir()} == {".lock", "logs"}
    second.down()
    assert control_plane.status().is_up


def test_an_interrupted_start_leaves_nothing(control_plane: LocalControlPlane) -> None:
    started: list[Process] = []

    def report(line: str, *, passing: bool = False) -> None:
        if line.startswith("the API server answers"):
            started.extend(processes(broken))
            raise KeyboardInterrupt

    broken = LocalControlPlane(name="broken", nodes=1, report=report)
    with pytest.raises(KeyboardInterrupt):
        broken.up()
    assert len(started) == 2
    assert not any(map(is_running, started))
    assert not broken.status().components


def test_a_program_that_fails_is_named_with_the_end_of_its_log(
    control_plane: LocalControlPlane,
) -> None:
    def report(line: str, *, passing: bool = False) -> None:
        record = read_record(broken.directory)
        if record is not None and "etcd" in record.processes:
            stop_process(record.processes["etcd"])

    broken = LocalControlPlane(name="broken", nodes=1, report=report)
    with pytest.raises(ControlPlaneError, match=r"etcd ended by itself\. The end of .*etcd\.log"):
        broken.up()
    assert not broken.status().components
