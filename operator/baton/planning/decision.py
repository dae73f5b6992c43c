"""Which pods go and which slots are filled: the rules in the order that existing clients rely on.

Says nothing about Services, ConfigMaps and status; they follow from the decision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from baton.api.serving import RecoveryPolicy, Role
from baton.planning.model import PodView
from baton.planning.naming import Slot, group_name, role_id
from baton.planning.ordinals import missing_ordinals
from baton.planning.recovery import Health, examine, has_lost_replica
from baton.planning.selection import surplus, to_replace
from baton.planning.state import Group, RoleReplica
from baton.planning.target import Target, replica_size, role_max_unavailable


@dataclass(slots=True)
class Decision:
    """What has been decided so far.

    `doomed` has the pods to delete and why, by uid; `filled` the slots to create a pod in; `new_groups` the ordinals of
    groups that did not exist; `waits` the seconds until time itself makes a difference.
    """

    doomed: dict[str, tuple[PodView, str]] = field(default_factory=dict)
    filled: list[tuple[Role, Slot]] = field(default_factory=list)
    new_groups: list[int] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def doom(self, pods: Iterable[PodView], reason: str) -> None:
        """Decide to delete pods, unless that was decided before or is under way."""
        for pod in pods:
            if not pod.deleting:
                self.doomed.setdefault(pod.uid, (pod, reason))

    def spares(self, pod: PodView) -> bool:
        """Whether a pod stays."""
        return not pod.deleting and pod.uid not in self.doomed

    def keeps(self, unit: Group | RoleReplica) -> bool:
        """Whether at least one of its pods stays."""
        return any(self.spares(pod) for pod in unit.pods)

    def harms(self, unit: Group | RoleReplica) -> bool:
        """Whether one of its pods is to be deleted."""
        return bool(self.doomed) and any(pod.uid in self.doomed for pod in unit.pods)


def decide(target: Target, groups: Mapping[int, Group], *, now: datetime) -> Decision:
    """Decide on the next step: remove what is surplus, recover, roll out, then fill what is missing.

    A running group has nothing surplus, lost or missing; only a roll-out touches it.
    """
    decision = Decision()
    _remove_surplus_groups(target, groups, decision)
    for group in _staying(groups, decision):
        if not group.running:
            _remove_surplus_replicas(group, decision)
            _recover(target, group, decision, now=now)
    if target.by_role:
        for group in _staying(groups, decision):
            _replace_roles(target, group, decision)
    else:
        _replace_groups(target, groups, decision)
    for group in _staying(groups, decision):
        if not group.running:
            _fill_group(target, group, decision)
    _add_groups(target, groups, decision)
    return decision


def _staying(groups: Mapping[int, Group], decision: Decision) -> list[Group]:
    return [group for group in groups.values() if decision.keeps(group)]


def _staying_replicas(group: Group, role: Role, decision: Decision) -> list[RoleReplica]:
    return [replica for replica in group.roles.get(role.name, {}).values() if decision.keeps(replica)]


def _remove_surplus_groups(target: Target, groups: Mapping[int, Group], decision: Decision) -> None:
    for group in surplus(_staying(groups, decision), wanted=target.replicas):
        decision.doom(group.pods, f"{group_name(target.name, group.ordinal)} is surplus")


def _remove_surplus_replicas(group: Group, decision: Decision) -> None:
    for role in group.expected:
        if len(group.roles.get(role.name, ())) <= role.replicas:
            continue
        for replica in surplus(_staying_replicas(group, role, decision), wanted=role.replicas):
            decision.doom(replica.pods, f"{role_id(role.name, replica.ordinal)} is surplus")


def _recover(target: Target, group: Group, decision: Decision, *, now: datetime) -> None:
    """Delete what failed or lost a pod, as far as the recovery policy says; what should be there is filled again."""
    spec = target.serving.spec
    grace = timedelta(seconds=spec.template.restart_grace_period_seconds)
    if spec.recovery_policy is RecoveryPolicy.SERVING_GROUP:
        for role in group.expected:
            staying = _staying_replicas(group, role, decision)
            if has_lost_replica(target.serving, group, role, staying=staying):
                decision.doom(group.pods, f"a replica of {role.name} was lost")
    for replica in group.replicas:
        if not replica.running and decision.keeps(replica):
            health = examine(replica, grace=grace, now=now)
            if health.wait is not None:
                decision.waits.append(health.wait)
            if health.failed or health.lost:
                _replace_broken(target, group, replica, health, decision)


def _replace_broken(target: Target, group: Group, replica: RoleReplica, health: Health, decision: Decision) -> None:
    name = health.failed[0].name if health.failed else role_id(replica.role, replica.ordinal)
    reason = f"{name} failed" if health.failed else f"{name} lost a pod"
    match target.serving.spec.recovery_policy:
        case RecoveryPolicy.NONE if not replica.outdated:  # nothing could fill the gap in one of an older template
            decision.doom(health.failed, reason)
        case RecoveryPolicy.SERVING_GROUP if replica.role in target.roles:
            decision.doom(group.pods, reason)
        case _:
            decision.doom(replica.pods, reason)


def _replace_groups(target: Target, groups: Mapping[int, Group], decision: Decision) -> None:
    chosen = to_replace(
        _staying(groups, decision),
        minimum=target.replicas - target.max_unavailable if target.has_pods else 0,
    )
    for group in chosen:
        decision.doom(group.pods, f"{group_name(target.name, group.ordinal)} has an outdated template")


def _replace_roles(target: Target, group: Group, decision: Decision) -> None:
    for replica in group.replicas:
        if replica.role not in target.roles:
            decision.doom(replica.pods, f"role {replica.role} is gone")
    for role in target.roles.values():
        chosen = to_replace(
            _staying_replicas(group, role, decision),
            minimum=role.replicas - role_max_unavailable(role),
        )
        for replica in chosen:
            decision.doom(replica.pods, f"{role_id(role.name, replica.ordinal)} has an outdated template")


def _fill_group(target: Target, group: Group, decision: Decision) -> None:
    for role in group.expected:
        replicas = group.roles.get(role.name, {})
        for replica in replicas.values():
            if _may_complete(target, replica, decision):
                _fill_replica(decision, role, group.ordinal, replica.ordinal, present=replica.members)
        for ordinal in missing_ordinals(present=replicas, wanted=role.replicas):
            _fill_replica(decision, role, group.ordinal, ordinal)


def _may_complete(target: Target, replica: RoleReplica, decision: Decision) -> bool:
    """Whether missing pods of a present replica may be created: beside none of another template, and none that leaves.

    With recovery policy None, pods are replaced one by one, unless the whole replica goes.
    """
    if replica.complete or replica.outdated:
        return False
    if target.serving.spec.recovery_policy is RecoveryPolicy.NONE:
        return decision.keeps(replica)
    return all(decision.spares(pod) for pod in replica.pods)


def _add_groups(target: Target, groups: Mapping[int, Group], decision: Decision) -> None:
    decision.new_groups = missing_ordinals(present=groups, wanted=target.replicas)
    for ordinal in decision.new_groups:
        for role in target.roles.values():
            for replica in range(role.replicas):
                _fill_replica(decision, role, ordinal, replica)


def _fill_replica(decision: Decision, role: Role, group: int, replica: int, *, present: Collection[int] = ()) -> None:
    for worker in range(replica_size(role)):
        if worker not in present:
            decision.filled.append((role, Slot(group, role.name, replica, worker)))
