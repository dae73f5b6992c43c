from __future__ import annotations

from typing import Any

import pytest

from baton.planning.capacity import NodeView, Shortage, find_shortages, read_needs, read_nodes

NPU = "huawei.com/Ascend910"


def _node(name: str, devices: int = 16, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"zone": name}},
        "spec": spec,
        "status": {"allocatable": {NPU: str(devices), "cpu": "192", "memory": "1800Gi", "hugepages-2Mi": "0"}},
    }


def _pod(
    name: str = "p", devices: int = 16, *, ports: tuple[int, ...] = (), node: str = "", phase: str = "", **spec: Any
) -> dict[str, Any]:
    container = {
        "name": "engine",
        "resources": {"requests": {"cpu": "1", NPU: str(devices)}, "limits": {NPU: str(devices)}},
        "ports": [{"containerPort": port} for port in ports],
    }
    place = {"nodeName": node} if node else {}
    return {
        "metadata": {"name": name},
        "spec": {"containers": [container], **place, **spec},
        "status": {"phase": phase or "Running"},
    }


def _left_over(pods: list[dict[str, Any]], nodes: list[dict[str, Any]], *bound: dict[str, Any]) -> list[Shortage]:
    return list(find_shortages(map(read_needs, pods), read_nodes(nodes, bound)))


def test_what_runs_on_a_node_is_not_free() -> None:
    (view,) = read_nodes([_node("a")], [_pod(devices=4, node="a"), _pod("old", node="a", phase="Succeeded")])

    assert view == NodeView("a", {"zone": "a"}, (), {NPU: 12})


def test_many_devices_are_counted_as_the_api_server_writes_them() -> None:
    (view,) = read_nodes([{"metadata": {"name": "a"}, "status": {"allocatable": {"devices.example/kvm": "1k"}}}], [])

    assert view.free == {"devices.example/kvm": 1000}


def test_devices_of_two_kinds_must_be_free_on_one_node() -> None:
    pod = _pod(devices=1)
    pod["spec"]["containers"][0]["resources"]["limits"]["example.com/nic"] = "1"
    other = _node("b", 0)
    other["status"]["allocatable"]["example.com/nic"] = "1"

    assert _left_over([pod], [_node("a"), other]) == [
        Shortage("p", f"no node has all of example.com/nic, {NPU} free at once")
    ]


def test_pods_that_fit_have_no_shortage() -> None:
    assert _left_over([_pod("p0"), _pod("p1", 8), _pod("p2", 8)], [_node("a"), _node("b")]) == []


def test_a_pod_too_many_is_named_with_what_it_lacks() -> None:
    assert _left_over([_pod("p0"), _pod("p1")], [_node("a"), _node("b", 8)]) == [
        Shortage("p1", f"needs 16 {NPU}, and the most that a node has free is 8 (b)")
    ]


def test_large_pods_are_placed_before_small_ones_break_up_the_nodes() -> None:
    assert _left_over([_pod("a-small", 8), _pod("b-large", 16)], [_node("a"), _node("b", 8)]) == []


def test_pods_with_equal_host_ports_need_nodes_of_their_own() -> None:
    pods = [_pod(f"p{number}", 4, ports=(7100,), hostNetwork=True) for number in range(3)]

    assert _left_over(pods, [_node("a"), _node("b")]) == [
        Shortage("p2", "its host ports are taken on the nodes with enough devices: a, b")
    ]
    assert _left_over(pods[:1], [_node("a")], _pod("x", 4, node="a", ports=(7100,))) == []


@pytest.mark.parametrize(
    ("tolerations", "fits"),
    [
        ([], False),
        ([{"operator": "Exists"}], True),
        ([{"key": "npu", "operator": "Exists", "effect": "NoSchedule"}], True),
        ([{"key": "npu", "value": "yes"}], True),
        ([{"key": "npu", "value": "no"}], False),
        ([{"key": "npu", "operator": "Exists", "effect": "NoExecute"}], False),
    ],
    ids=str,
)
def test_taints_keep_pods_away_that_do_not_tolerate_them(tolerations: list[dict[str, str]], *, fits: bool) -> None:
    node = _node("a", taints=[{"key": "npu", "value": "yes", "effect": "NoSchedule"}])

    assert (_left_over([_pod(tolerations=tolerations)], [node]) == []) is fits


def test_nodes_that_are_closed_or_not_selected_take_nothing() -> None:
    nodes = [_node("a", unschedulable=True), _node("b")]

    assert _left_over([_pod(nodeSelector={"zone": "b"})], nodes) == []
    assert _left_over([_pod(nodeSelector={"zone": "a"})], nodes) == [
        Shortage("p", "none of 1 nodes has its labels and only taints that it tolerates")
    ]
