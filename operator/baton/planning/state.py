"""The pods of a ModelServing arranged as ServingGroups and role replicas, each judged against the target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from baton.api import labels
from baton.api.serving import Role
from baton.planning.model import PodView
from baton.planning.naming import slot_of
from baton.planning.ordinals import protected_ordinals
from baton.planning.target import Target, replica_size, role_partition

_Members = dict[int, PodView]


@dataclass(frozen=True, slots=True)
class RoleReplica:
    """The pods of one role replica by worker number; 0 is the entry pod. Protected is what a roll-out leaves alone.

    How many pods an outdated replica should have is not known: `complete` then only means that none of those before
    the last one is missing.
    """

    role: str
    ordinal: int
    members: Mapping[int, PodView]
    protected: bool
    outdated: bool
    complete: bool
    running: bool

    @property
    def pods(self) -> Iterable[PodView]:
        """Its pods, the entry first."""
        return self.members.values()

    @property
    def started(self) -> bool:
        """Whether any of its pods was started."""
        return any(pod.started for pod in self.pods)

    @property
    def leaving(self) -> bool:
        """Whether any of its pods is on its way out."""
        return any(pod.deleting for pod in self.pods)

    @property
    def cost(self) -> int:
        """Sum of its pods' deletion costs."""
        return sum(pod.deletion_cost for pod in self.pods)


@dataclass(frozen=True, slots=True)
class Group:
    """The role replicas of one ServingGroup by role name and ordinal.

    `expected` are the roles it should have: all, or without those newer than the group while it waits for its
    replacement.
    """

    ordinal: int
    roles: Mapping[str, Mapping[int, RoleReplica]]
    expected: tuple[Role, ...]
    protected: bool
    outdated: bool
    running: bool

    @property
    def replicas(self) -> Iterator[RoleReplica]:
        """All role replicas, by role name and ordinal."""
        return (replica for replicas in self.roles.values() for replica in replicas.values())

    @property
    def pods(self) -> Iterator[PodView]:
        """All pods."""
        return (pod for replica in self.replicas for pod in replica.pods)

    @property
    def started(self) -> bool:
        """Whether every role has a replica that was started; before that, the group cannot have served."""
        return all(any(replica.started for replica in replicas.values()) for replicas in self.roles.values())

    @property
    def leaving(self) -> bool:
        """Whether any of its pods is on its way out."""
        return any(pod.deleting for pod in self.pods)

    @property
    def cost(self) -> int:
        """Sum of its pods' deletion costs."""
        return sum(pod.deletion_cost for pod in self.pods)


Unit = TypeVar("Unit", Group, RoleReplica)
"""What is scaled and rolled out: ServingGroups, or the replicas of a role."""


def arrange(target: Target, pods: Iterable[PodView]) -> dict[int, Group]:
    """Arrange the pods that this ModelServing owns, by ordinal; others are left alone, whatever their labels say."""
    owner = target.serving.metadata.uid
    found: dict[int, dict[str, dict[int, _Members]]] = {}
    for pod in pods:
        slot = slot_of(target.name, pod.name) if pod.owner_uid == owner else None
        if slot is not None:
            role = found.setdefault(slot.group, {}).setdefault(slot.role, {})
            role.setdefault(slot.replica, {})[slot.worker] = pod
    protected = protected_ordinals(present=found, wanted=target.replicas, partition=target.partition)
    return {
        ordinal: _group(target, ordinal, roles, is_protected=ordinal in protected)
        for ordinal, roles in sorted(found.items())
    }


def _group(target: Target, ordinal: int, found: Mapping[str, Mapping[int, _Members]], *, is_protected: bool) -> Group:
    roles = {role: _replicas(target, role, replicas) for role, replicas in sorted(found.items())}
    expected = tuple(target.roles.values())
    if not (target.by_role or is_protected):
        expected = _without_newer(target, expected, roles)
    replicas = [replica for replicas in roles.values() for replica in replicas.values()]
    return Group(
        ordinal=ordinal,
        roles=roles,
        expected=expected,
        protected=is_protected,
        outdated=len(expected) < len(target.roles) or any(replica.outdated for replica in replicas),
        running=all(len(roles.get(role.name, ())) == role.replicas for role in expected)
        and all(replica.running for replica in replicas),
    )


def _without_newer(
    target: Target, expected: tuple[Role, ...], roles: Mapping[str, Mapping[int, RoleReplica]]
) -> tuple[Role, ...]:
    """Leave out the roles that a group with pods of another revision does not have; its replacement will."""
    present = tuple(role for role in expected if role.name in roles or not role.replicas)
    if len(present) == len(expected):
        return expected
    pods = (pod for replicas in roles.values() for replica in replicas.values() for pod in replica.pods)
    is_of_target = all(pod.labels.get(labels.REVISION) == target.revision for pod in pods)
    return expected if is_of_target else present


def _replicas(target: Target, name: str, found: Mapping[int, _Members]) -> dict[int, RoleReplica]:
    role = target.roles.get(name)
    protected: set[int] = set()
    if role is not None and target.by_role:
        protected = protected_ordinals(present=found, wanted=role.replicas, partition=role_partition(role))
    return {
        ordinal: _replica(target, name, ordinal, members, is_protected=ordinal in protected)
        for ordinal, members in sorted(found.items())
    }


def _replica(target: Target, name: str, ordinal: int, members: _Members, *, is_protected: bool) -> RoleReplica:
    role = target.roles.get(name)
    role_hash = target.hashes.get(name)
    outdated = role is None
    ready = True
    for pod in members.values():
        outdated = outdated or pod.labels.get(labels.ROLE_TEMPLATE_HASH) != role_hash
        ready = ready and pod.ready and not pod.deleting
    size = max(members) + 1 if role is None or outdated else replica_size(role)
    complete = len(members) == size
    return RoleReplica(
        role=name,
        ordinal=ordinal,
        members=dict(sorted(members.items())) if len(members) > 1 else members,
        protected=is_protected,
        outdated=outdated,
        complete=complete,
        running=complete and ready,
    )
