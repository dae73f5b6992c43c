"""What must hold of a ModelServing and its children, as pure functions of the documents that an API server holds.

Simulation, control plane tests and soak look at them with these. Knows no time and no client.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from baton.api import labels
from baton.planning.naming import Slot, slot_of
from baton.planning.target import replica_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from baton.api.serving import ModelServing, Role

JsonObject = dict[str, Any]
Pods = dict[str, JsonObject]
"""Pods by name."""

_IDENTITY = (labels.ENVIRONMENT_GROUP_NAME, labels.ENVIRONMENT_ROLE_ID, labels.ENVIRONMENT_WORKER_INDEX)


@dataclass(frozen=True)
class Children:
    """What belongs to one ModelServing; objects of others are left out. Services and PodGroups by name only.

    `pod_groups` is None where the cluster has no such kind.
    """

    pods: Pods
    services: frozenset[str]
    pod_groups: frozenset[str] | None


@dataclass
class Availability:
    """Holds what is down at any moment against the most that may be: ServingGroups, or replicas of a role in a group.

    Begins once everything has served. Serving and roles must keep their sizes.
    """

    most_groups: int | None = None
    most_replicas: int | None = None
    has_served: bool = field(default=False, init=False)

    def breaches(self, serving: ModelServing, pods: Pods) -> list[str]:
        """Return what is down beyond the limits."""
        groups, replicas = _down(serving, pods)
        self.has_served = self.has_served or not groups
        if not self.has_served:
            return []
        found = []
        if self.most_groups is not None and len(groups) > self.most_groups:
            found.append(f"groups {sorted(groups)} are down at once")
        if self.most_replicas is not None:
            excess = {where for where, count in replicas.items() if count > self.most_replicas}
            found += [
                f"{replicas[where]} replicas of {where[1]} are down at once in group {where[0]}" for where in excess
            ]
        return found


def is_ready(pod: JsonObject) -> bool:
    """Whether a pod serves."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    states = {condition["type"]: condition["status"] for condition in conditions}
    return states.get("Ready") == "True" and not is_leaving(pod)


def is_leaving(pod: JsonObject) -> bool:
    """Whether a pod was deleted and has not ended yet."""
    return "deletionTimestamp" in pod["metadata"]


def owner_of(found: JsonObject) -> str:
    """Return the uid of the owner, or nothing."""
    owners = found["metadata"].get("ownerReferences") or [{"uid": ""}]
    return str(owners[0]["uid"])


def doubles(pods: Iterable[JsonObject]) -> list[str]:
    """Return the slots that two pods take to be theirs, by what their engines are told."""
    identities = Counter(identity for pod in pods if (identity := _identity(pod)) is not None)
    return [f"{count} pods are {' '.join(identity)}" for identity, count in identities.items() if count > 1]


def untouched(pods: Pods, name: str, *, owner: str) -> list[str]:
    """Return what happened to a pod of somebody else, whose uid is given, that must stay as it is."""
    pod = pods.get(name)
    if pod is None or is_leaving(pod) or owner_of(pod) != owner:
        return [f"{name} is not the operator's to touch"]
    return []


def partition_of(serving: ModelServing) -> int:
    """Return how many ordinals keep their template. Percentages count as none."""
    strategy = serving.spec.rollout_strategy
    limits = strategy and strategy.rolling_update_configuration
    partition = limits.partition if limits else 0
    return partition if isinstance(partition, int) else 0


def counts_wrong(serving: JsonObject) -> list[str]:
    """Return which counters of a ModelServing are not those of one that is as wanted."""
    status, wanted = serving.get("status") or {}, serving["spec"].get("replicas", 1)
    expected = {
        "replicas": wanted,
        "availableReplicas": wanted,
        "observedGeneration": serving["metadata"]["generation"],
    }
    return [
        f"status.{name} is {status.get(name)}, not {value}"
        for name, value in expected.items()
        if status.get(name) != value
    ]


def differences(wanted: ModelServing, children: Children) -> list[str]:
    """Return what is too much, too little, not ready, or of an old template. Which ordinals stay is not fixed."""
    name, pods = wanted.metadata.name, children.pods
    found = [f"{pod} is not ready" for pod, document in pods.items() if not is_ready(document)]
    slots = [slot for pod in pods if (slot := slot_of(name, pod))]
    replicas = {(slot.group, slot.role, slot.replica) for slot in slots}
    groups = {group for group, _, _ in replicas}
    if len(groups) != wanted.spec.replicas:
        found.append(f"there are groups {sorted(groups)}, not {wanted.spec.replicas} groups")
    expected = Counter({(group, role.name): role.replicas for group in groups for role in wanted.spec.template.roles})
    if Counter((group, role) for group, role, _ in replicas) != expected:
        found.append(f"there are role replicas {sorted(replicas)}")
    found += _wrong_members(wanted, replicas, children)
    if children.pod_groups is None:
        return found
    return found + _unequal("PodGroup", {f"{name}-{group}" for group in groups}, children.pod_groups)


def _wrong_members(wanted: ModelServing, replicas: set[tuple[int, str, int]], children: Children) -> list[str]:
    roles = {role.name: role for role in wanted.spec.template.roles}
    found: list[str] = []
    names, services = set(), set()
    for group, name, replica in replicas:
        if (role := roles.get(name)) is None:
            continue
        members = [f"{wanted.metadata.name}-{group}-{name}-{replica}-{worker}" for worker in range(replica_size(role))]
        names |= set(members)
        services |= {members[0]} if role.worker_template else set()
        if group >= partition_of(wanted) and any(
            _image(children.pods[pod]) != _image_of(role) for pod in members if pod in children.pods
        ):
            found.append(f"{name}-{replica} of group {group} has an old image")
    return [*found, *_unequal("Pod", names, children.pods), *_unequal("Service", services, children.services)]


def _down(serving: ModelServing, pods: Pods) -> tuple[set[int], Mapping[tuple[int, str], int]]:
    """Return which groups do not serve in full, and how many replicas of each role in each."""
    ready = {slot for name, pod in pods.items() if is_ready(pod) and (slot := slot_of(serving.metadata.name, name))}
    replicas = {
        (group, role.name): _replicas_down(role, group, ready)
        for group in range(serving.spec.replicas)
        for role in serving.spec.template.roles
    }
    return {group for (group, _), count in replicas.items() if count}, replicas


def _replicas_down(role: Role, group: int, ready: set[Slot]) -> int:
    return sum(
        any(Slot(group, role.name, replica, worker) not in ready for worker in range(replica_size(role)))
        for replica in range(role.replicas)
    )


def _identity(pod: JsonObject) -> tuple[str, ...] | None:
    containers = pod["spec"].get("containers") or [{}]
    told = {entry["name"]: entry.get("value", "") for entry in containers[0].get("env") or []}
    if not told.keys() >= set(_IDENTITY):
        return None
    return (owner_of(pod), *(told[name] for name in _IDENTITY))


def _image(pod: JsonObject) -> Any:
    return pod["spec"]["containers"][0]["image"]


def _image_of(role: Role) -> Any:
    if role.engine is not None:
        return role.engine.image
    assert role.entry_template is not None
    return role.entry_template.spec["containers"][0]["image"]


def _unequal(kind: str, wanted: set[str], present: Iterable[str]) -> list[str]:
    return [f"{kind} {name} is not as wanted" for name in sorted(wanted ^ set(present))]
