"""The pods of a ModelServing arranged as ServingGroups and role replicas, each judged against the target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from baton.api import labels
from baton.planning.model import PodView, RoleTemplate
from baton.planning.naming import slot_of
from baton.planning.ordinals import protected_ordinals
from baton.planning.target import Target, replica_size, role_partition

_Members = dict[int, PodView]


@dataclass(frozen=True, slots=True)
class RoleReplica:
    """The pods of one role replica by worker number; 0 is the entry pod. Protected is what a roll-out leaves alone.

    `template` is what its pods were made from. Where that is not known, None, `complete` only means that none of the
    pods before the last one is missing.
    """

    role: str
    ordinal: int
    members: Mapping[int, PodView]
    template: RoleTemplate | None
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
    def departure(self) -> int:
        """How far from going: 0 if all of it drains or is being deleted, 1 if all of it drains, 2 if a part, else 3."""
        return _departure(self.pods)

    @property
    def cost(self) -> int:
        """Sum of its pods' deletion costs."""
        return sum(pod.deletion_cost for pod in self.pods)


@dataclass(frozen=True, slots=True)
class Group:
    """The role replicas of one ServingGroup by role name and ordinal.

    `expected` are the roles it should have. While a group waits for its replacement they are those of its own
    template. One that stands in is not among the replicas asked for.
    """

    ordinal: int
    roles: Mapping[str, Mapping[int, RoleReplica]]
    expected: tuple[RoleTemplate, ...]
    protected: bool
    stands_in: bool
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
        roles = {*self.roles, *(entry.role.name for entry in self.expected if entry.role.replicas)}
        return all(any(replica.started for replica in self.roles.get(role, {}).values()) for role in roles)

    @property
    def departure(self) -> int:
        """How far from going: 0 if all of it drains or is being deleted, 1 if all of it drains, 2 if a part, else 3."""
        return _departure(self.pods)

    @property
    def cost(self) -> int:
        """Sum of its pods' deletion costs."""
        return sum(pod.deletion_cost for pod in self.pods)


def _departure(pods: Iterable[PodView]) -> int:
    going = [(pod.deleting, pod.deleting or pod.draining_since is not None) for pod in pods]
    if all(goes for _, goes in going):
        return 0 if any(deleting for deleting, _ in going) else 1
    return 2 if any(goes for _, goes in going) else 3


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
    stand_ins = {ordinal for ordinal in found if ordinal >= target.replicas and _is_surge(found[ordinal])}
    regular = found.keys() - stand_ins
    protected = protected_ordinals(present=regular, wanted=target.replicas, partition=target.partition)
    return {
        ordinal: _group(target, ordinal, roles, is_protected=ordinal in protected, is_stand_in=ordinal in stand_ins)
        for ordinal, roles in sorted(found.items())
    }


def _is_surge(roles: Mapping[str, Mapping[int, _Members]]) -> bool:
    return any(
        labels.SURGE in pod.labels
        for replicas in roles.values()
        for members in replicas.values()
        for pod in members.values()
    )


def _group(
    target: Target,
    ordinal: int,
    found: Mapping[str, Mapping[int, _Members]],
    *,
    is_protected: bool,
    is_stand_in: bool,
) -> Group:
    roles = {role: _replicas(target, role, replicas) for role, replicas in sorted(found.items())}
    expected = _expected(target, roles, is_protected=is_protected)
    replicas = [replica for replicas in roles.values() for replica in replicas.values()]
    return Group(
        ordinal=ordinal,
        roles=roles,
        expected=expected,
        protected=is_protected,
        stands_in=is_stand_in,
        outdated=any(replica.outdated for replica in replicas) or target.differs_from(expected),
        running=all(len(roles.get(entry.role.name, ())) == entry.role.replicas for entry in expected)
        and all(replica.running for replica in replicas),
    )


def _expected(
    target: Target, roles: Mapping[str, Mapping[int, RoleReplica]], *, is_protected: bool
) -> tuple[RoleTemplate, ...]:
    present = tuple(target.template.roles.values())
    if target.by_role:
        return tuple(target.base.roles.values()) if target.paused else present
    filled = tuple(entry for entry in present if entry.role.name in roles or not entry.role.replicas)
    replicas = [replica for replicas in roles.values() for replica in replicas.values()]
    if len(filled) == len(present) and not any(replica.outdated for replica in replicas):
        return present
    revision = _revision(target, replicas)
    if revision in target.history:
        return tuple(target.history[revision].roles.values())
    # Of a template nobody knows any more: its replacement will have the roles it lacks.
    return present if is_protected else filled


def _revision(target: Target, replicas: Iterable[RoleReplica]) -> str:
    """Return the revision of a group: that of the most pods, where any that is not the target's counts more."""
    found = [pod.labels.get(labels.REVISION, "") for replica in replicas for pod in replica.pods]
    older = [revision for revision in found if revision != target.revision]
    if target.base.revision in older:
        return target.base.revision
    return max(sorted(set(older)), key=older.count, default=target.revision)


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
        ready = ready and pod.ready and not pod.deleting and pod.draining_since is None
    template = _own_template(target, name, members) or (None if outdated else target.template.roles[name])
    size = max(members) + 1 if template is None else replica_size(template.role)
    complete = len(members) == size
    return RoleReplica(
        role=name,
        ordinal=ordinal,
        members=dict(sorted(members.items())) if len(members) > 1 else members,
        template=template,
        protected=is_protected,
        outdated=outdated,
        complete=complete,
        running=complete and ready,
    )


def _own_template(target: Target, role: str, members: _Members) -> RoleTemplate | None:
    """Return the template of a replica by the label of its pods, if it is still known."""
    pod = next(iter(members.values()))
    template = target.history.get(pod.labels.get(labels.REVISION, ""))
    return None if template is None else template.roles.get(role)
