"""Whether pods that are to be created find nodes with enough free devices and host ports. Places nothing itself.

Looks at extended resources, host ports, node selectors and taints; leaves CPU, memory and affinities to the scheduler.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from baton.api.meta import JsonObject

_OVER = {"Succeeded", "Failed"}
_THOUSANDS = {"k": 10**3, "M": 10**6, "G": 10**9}
_KEEPING_AWAY = {"NoSchedule", "NoExecute"}


@dataclass(frozen=True, slots=True)
class NodeView:
    """What a node has left: devices by resource name, and the host ports that are taken."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[JsonObject, ...]
    free: Mapping[str, int]
    taken_ports: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class PodNeeds:
    """What a pod asks of its node."""

    name: str
    devices: Mapping[str, int]
    ports: frozenset[int]
    node_selector: Mapping[str, str]
    tolerations: tuple[JsonObject, ...]


@dataclass(frozen=True, slots=True)
class Shortage:
    """A pod that finds no node, and why, for people."""

    pod: str
    reason: str


def read_nodes(nodes: Iterable[JsonObject], pods: Iterable[JsonObject]) -> tuple[NodeView, ...]:
    """Return what the nodes that take pods have left beside the pods that run or are bound there."""
    bound: dict[str, list[PodNeeds]] = {}
    for pod in pods:
        name = (pod.get("spec") or {}).get("nodeName")
        if name and (pod.get("status") or {}).get("phase") not in _OVER:
            bound.setdefault(name, []).append(read_needs(pod))
    return tuple(
        _view(node, bound.get(node["metadata"]["name"], []))
        for node in nodes
        if not (node.get("spec") or {}).get("unschedulable")
    )


def read_needs(pod: JsonObject) -> PodNeeds:
    """Return what a pod asks of its node, for a pod of the API server as for one that is to be created."""
    spec = pod.get("spec") or {}
    containers = spec.get("containers") or []
    return PodNeeds(
        name=pod["metadata"]["name"],
        devices=_devices(containers),
        ports=_host_ports(containers, is_host_network=bool(spec.get("hostNetwork"))),
        node_selector=spec.get("nodeSelector") or {},
        tolerations=tuple(spec.get("tolerations") or ()),
    )


def find_shortages(pods: Iterable[PodNeeds], nodes: Sequence[NodeView]) -> tuple[Shortage, ...]:
    """Put each pod on the fullest node that has room, the largest pods first, and say which ones are left over.

    The scheduler may do better in rare cases of pods that differ in size, never for pods that fill their nodes.
    """
    left = {node.name: node for node in nodes}
    shortages = []
    for pod in sorted(pods, key=lambda pod: (-sum(pod.devices.values()), pod.name)):
        fitting = [node for node in left.values() if _may_run(pod, node) and _has_room(pod, node)]
        if not fitting:
            shortages.append(Shortage(pod.name, _reason(pod, tuple(left.values()))))
            continue
        chosen = min(fitting, key=lambda node: (sum(node.free.values()), node.name))
        left[chosen.name] = _without(chosen, pod)
    return tuple(shortages)


def _view(node: JsonObject, bound: Iterable[PodNeeds]) -> NodeView:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    view = NodeView(
        name=node["metadata"]["name"],
        labels=node["metadata"].get("labels") or {},
        taints=tuple((node.get("spec") or {}).get("taints") or ()),
        free={name: _count(amount) for name, amount in allocatable.items() if _is_device(name)},
    )
    for pod in bound:
        view = _without(view, pod)
    return view


def _without(node: NodeView, pod: PodNeeds) -> NodeView:
    free = {name: amount - pod.devices.get(name, 0) for name, amount in node.free.items()}
    return NodeView(node.name, node.labels, node.taints, free, node.taken_ports | pod.ports)


def _is_device(resource: str) -> bool:
    """Whether a resource is counted in whole devices; those without a domain and of Kubernetes itself are not."""
    return "/" in resource and not resource.startswith(("kubernetes.io/", "attachable-volumes-"))


def _count(amount: str | int) -> int:
    """Return a number of devices; the API server writes 1000 as 1k."""
    text = str(amount)
    return int(text[:-1]) * _THOUSANDS[text[-1]] if text[-1:] in _THOUSANDS else int(text)


def _devices(containers: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    devices: dict[str, int] = {}
    for container in containers:
        resources = container.get("resources") or {}
        for name, amount in ((resources.get("requests") or {}) | (resources.get("limits") or {})).items():
            if _is_device(name):
                devices[name] = devices.get(name, 0) + _count(amount)
    return devices


def _host_ports(containers: Iterable[Mapping[str, Any]], *, is_host_network: bool) -> frozenset[int]:
    declared = [port for container in containers for port in container.get("ports") or []]
    ports = [port.get("hostPort") or (port.get("containerPort") if is_host_network else None) for port in declared]
    return frozenset(port for port in ports if port)


def _may_run(pod: PodNeeds, node: NodeView) -> bool:
    is_selected = pod.node_selector.items() <= node.labels.items()
    taints = [taint for taint in node.taints if taint.get("effect") in _KEEPING_AWAY]
    return is_selected and all(any(_tolerates(item, taint) for item in pod.tolerations) for taint in taints)


def _tolerates(toleration: JsonObject, taint: JsonObject) -> bool:
    if toleration.get("effect") not in {None, "", taint.get("effect")}:
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in {None, "", taint.get("key")}
    return toleration.get("key") == taint.get("key") and (toleration.get("value") or "") == (taint.get("value") or "")


def _has_room(pod: PodNeeds, node: NodeView) -> bool:
    return _has_devices(pod, node) and not pod.ports & node.taken_ports


def _has_devices(pod: PodNeeds, node: NodeView) -> bool:
    return all(node.free.get(name, 0) >= amount for name, amount in pod.devices.items())


def _reason(pod: PodNeeds, nodes: Sequence[NodeView]) -> str:
    allowed = [node for node in nodes if _may_run(pod, node)]
    if not allowed:
        return f"none of {len(nodes)} nodes has its labels and only taints that it tolerates"
    for name, amount in pod.devices.items():
        most = max(allowed, key=lambda node: node.free.get(name, 0))
        if most.free.get(name, 0) < amount:
            return f"needs {amount} {name}, and the most that a node has free is {most.free.get(name, 0)} ({most.name})"
    roomy = [node.name for node in allowed if _has_devices(pod, node)]
    if not roomy:
        return f"no node has all of {', '.join(sorted(pod.devices))} free at once"
    return f"its host ports are taken on the nodes with enough devices: {', '.join(sorted(roomy))}"
