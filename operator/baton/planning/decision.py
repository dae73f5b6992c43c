"""Which pods go and which slots are filled: the rules in the order that existing clients rely on.

Says nothing about Services, ConfigMaps and status; they follow from the decision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from baton.api.serving import RecoveryPolicy, Role
from baton.planning.model import PodView, RoleTemplate, Template
from baton.planning.naming import Slot, group_name, role_id
from baton.planning.ordinals import further_ordinals, missing_ordinals, protected_ordinals
from baton.planning.recovery import Health, examine, has_lost_replica
from baton.planning.selection import surplus, to_replace
from baton.planning.state import Group, RoleReplica
from baton.planning.target import Target, replica_size, role_max_unavailable, role_partition


@dataclass(slots=True)
class Decision:
    """What has been decided so far.

    `doomed` has the pods to delete and why, by uid; `filled` the slots to create a pod in, and what it is made from;
    `new_groups` the groups that did not exist, by ordinal, and what they are made from; `stand_ins` the ordinals of
    those beyond the replicas; `retreats` the pods that go without need, together; `draining` those of them that are yet
    to be deleted, by uid; `waits` the seconds until time itself makes a difference.
    """

    doomed: dict[str, tuple[PodView, str]] = field(default_factory=dict)
    filled: list[tuple[RoleTemplate, Slot]] = field(default_factory=list)
    new_groups: dict[int, Template] = field(default_factory=dict)
    stand_ins: set[int] = field(default_factory=set)
    retreats: list[tuple[PodView, ...]] = field(default_factory=list)
    draining: dict[str, PodView] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)

    def doom(self, pods: Iterable[PodView], reason: str) -> None:
        """Decide to delete pods, unless that was decided before or is under way."""
        for pod in pods:
            if not pod.deleting:
                self.doomed.setdefault(pod.uid, (pod, reason))

    def retreat(self, unit: Group | RoleReplica, reason: str) -> None:
        """Decide to delete pods that may finish first what they are doing."""
        self.retreats.append(tuple(pod for pod in unit.pods if pod.uid not in self.doomed))
        self.doom(unit.pods, reason)

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
    decision.stand_ins = {ordinal for ordinal, group in groups.items() if group.stands_in}
    _remove_surplus_groups(target, groups, decision)
    for group in _staying(groups, decision):
        if not group.running:
            _remove_surplus_replicas(group, decision)
            _recover(target, group, decision, now=now)
    if not target.paused:
        _roll_out(target, groups, decision)
    for group in _staying(groups, decision):
        if not group.running:
            _fill_group(target, group, decision)
    _add_groups(target, groups, decision)
    if not target.paused:
        _add_stand_ins(target, groups, decision)
    return decision


def _staying(groups: Mapping[int, Group], decision: Decision) -> list[Group]:
    return [group for group in groups.values() if decision.keeps(group)]


def _staying_replicas(group: Group, role: Role, decision: Decision) -> list[RoleReplica]:
    return [replica for replica in group.roles.get(role.name, {}).values() if decision.keeps(replica)]


def _remove_surplus_groups(target: Target, groups: Mapping[int, Group], decision: Decision) -> None:
    regular = [group for group in _staying(groups, decision) if not group.stands_in]
    for group in surplus(regular, wanted=target.replicas):
        decision.retreat(group, f"{group_name(target.name, group.ordinal)} is surplus")
    if decision.stand_ins:
        _remove_stand_ins(target, groups, decision)


def _remove_stand_ins(target: Target, groups: Mapping[int, Group], decision: Decision) -> None:
    """Keep as many as a roll-out may have, then one for each group that does not run yet."""
    staying = _staying(groups, decision)
    running = sum(group.running for group in staying if not group.stands_in)
    missing = target.replicas - running
    if _awaiting(staying):
        missing = max(target.max_surge, missing - target.max_unavailable)
    for group in surplus([group for group in staying if group.stands_in], wanted=max(0, missing)):
        decision.retreat(group, f"{group_name(target.name, group.ordinal)} stood in for others and is surplus")


def _awaiting(groups: Iterable[Group]) -> int:
    """Count the groups that are yet to be replaced."""
    return sum(group.outdated and not group.protected and not group.stands_in for group in groups)


def _remove_surplus_replicas(group: Group, decision: Decision) -> None:
    for role in (entry.role for entry in group.expected):
        if len(group.roles.get(role.name, ())) <= role.replicas:
            continue
        for replica in surplus(_staying_replicas(group, role, decision), wanted=role.replicas):
            decision.retreat(replica, f"{role_id(role.name, replica.ordinal)} is surplus")


def _recover(target: Target, group: Group, decision: Decision, *, now: datetime) -> None:
    """Delete what failed or lost a pod, as far as the recovery policy says; what should be there is filled again."""
    spec = target.serving.spec
    grace = timedelta(seconds=spec.template.restart_grace_period_seconds)
    if spec.recovery_policy is RecoveryPolicy.SERVING_GROUP:
        for role in (entry.role for entry in group.expected):
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
        case RecoveryPolicy.NONE if replica.template is not None:  # nothing could fill the gap otherwise
            decision.doom(health.failed, reason)
        case RecoveryPolicy.SERVING_GROUP if any(replica.role == entry.role.name for entry in group.expected):
            decision.doom(group.pods, reason)
        case _:
            decision.doom(replica.pods, reason)


def _roll_out(target: Target, groups: Mapping[int, Group], decision: Decision) -> None:
    if not target.by_role:
        _replace_groups(target, groups, decision)
        return
    for group in _staying(groups, decision):
        _replace_roles(target, group, decision)


def _replace_groups(target: Target, groups: Mapping[int, Group], decision: Decision) -> None:
    chosen = to_replace(
        _staying(groups, decision),
        minimum=target.replicas - target.max_unavailable if target.has_pods else 0,
    )
    for group in chosen:
        decision.retreat(group, f"{group_name(target.name, group.ordinal)} has an outdated template")


def _replace_roles(target: Target, group: Group, decision: Decision) -> None:
    for replica in group.replicas:
        if replica.role not in target.roles:
            decision.retreat(replica, f"role {replica.role} is gone")
    for role in target.roles.values():
        chosen = to_replace(
            _staying_replicas(group, role, decision),
            minimum=role.replicas - role_max_unavailable(role),
        )
        for replica in chosen:
            decision.retreat(replica, f"{role_id(role.name, replica.ordinal)} has an outdated template")


def _fill_group(target: Target, group: Group, decision: Decision) -> None:
    for entry in group.expected:
        replicas = group.roles.get(entry.role.name, {})
        for replica in replicas.values():
            if replica.template and _may_complete(target, replica, decision):
                _fill_replica(decision, replica.template, group.ordinal, replica.ordinal, present=replica.members)
        _add_replicas(target, entry, group.ordinal, decision, present=replicas)


def _may_complete(target: Target, replica: RoleReplica, decision: Decision) -> bool:
    """Whether missing pods of a present replica may be created: beside none that leaves.

    With recovery policy None, pods are replaced one by one, unless the whole replica goes.
    """
    if replica.complete:
        return False
    if target.serving.spec.recovery_policy is RecoveryPolicy.NONE:
        return decision.keeps(replica)
    return all(decision.spares(pod) for pod in replica.pods)


def _add_groups(target: Target, groups: Mapping[int, Group], decision: Decision) -> None:
    present = groups.keys() - decision.stand_ins
    protected = protected_ordinals(present=present, wanted=target.replicas, partition=target.partition)
    for ordinal in missing_ordinals(present=present, wanted=target.replicas):
        is_held = target.paused or ordinal in protected
        _add_group(target, target.base if is_held else target.template, ordinal, decision)


def _add_stand_ins(target: Target, groups: Mapping[int, Group], decision: Decision) -> None:
    count = min(target.max_surge, _awaiting(_staying(groups, decision))) - len(decision.stand_ins)
    room = target.replicas + target.max_surge - len(groups) - len(decision.new_groups)
    for ordinal in further_ordinals(present=groups, first=target.replicas, count=min(count, room)):
        decision.stand_ins.add(ordinal)
        _add_group(target, target.template, ordinal, decision)


def _add_group(target: Target, template: Template, ordinal: int, decision: Decision) -> None:
    decision.new_groups[ordinal] = template
    for entry in template.roles.values():
        _add_replicas(target, entry, ordinal, decision)


def _add_replicas(
    target: Target, entry: RoleTemplate, group: int, decision: Decision, *, present: Collection[int] = ()
) -> None:
    """Fill the replicas that a role lacks, those that its partition protects from the role's former template."""
    role = entry.role
    missing = missing_ordinals(present=present, wanted=role.replicas)
    if not missing:
        return
    partition = role_partition(role) if target.by_role else 0
    protected = protected_ordinals(present=present, wanted=role.replicas, partition=partition)
    former = target.base.roles.get(role.name, entry)
    if former.hash == entry.hash:
        former = entry
    for ordinal in missing:
        _fill_replica(decision, former if ordinal in protected else entry, group, ordinal)


def _fill_replica(
    decision: Decision, entry: RoleTemplate, group: int, replica: int, *, present: Collection[int] = ()
) -> None:
    for worker in range(replica_size(entry.role)):
        if worker not in present:
            decision.filled.append((entry, Slot(group, entry.role.name, replica, worker)))
