"""From a decision to actions: pods, the headless Services of role replicas, launch ConfigMaps and PodGroups."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping

from baton.api.meta import JsonObject
from baton.api.serving import Role
from baton.planning import documents, podgroups
from baton.planning.decision import Decision
from baton.planning.model import Action, ChildKind, ChildView, Create, Delete, Desired, Observed
from baton.planning.naming import Slot, pod_name
from baton.planning.plugins import customise
from baton.planning.state import Group
from baton.planning.target import Target

_Children = Mapping[str, ChildView]


def stages_of(
    desired: Desired, target: Target, observed: Observed, groups: Mapping[int, Group], decision: Decision
) -> tuple[tuple[Action, ...], ...]:
    """Return what pods need, then the pods, then what they no longer need; stages without actions are left out."""
    services = _owned(target, observed.services)
    files = _owned(target, observed.config_maps)
    entries = _entries(target, groups, decision)
    needs: list[Action] = [
        Create(ChildKind.CONFIG_MAP, documents.config_map(target.serving, file))
        for file in desired.config_files
        if file.name not in files
    ]
    needs += [
        Create(ChildKind.SERVICE, documents.service(target, target.roles[slot.role], slot))
        for name, slot in entries.items()
        if name not in services
    ]
    group_needs = _group_needs(target, groups, decision)
    needs += podgroups.preparations(target, observed.pod_groups, group_needs)
    pods: list[Action] = [Delete(ChildKind.POD, pod.name, pod.uid, reason) for pod, reason in decision.doomed.values()]
    gangs = _gangs(target, observed, groups, decision)
    pods += [Create(ChildKind.POD, _pod(target, role, slot, gangs=gangs)) for role, slot in decision.filled]
    waste = podgroups.waste(target, observed.pod_groups, group_needs)
    if services:
        used = entries.keys() | _entries_in_use(target, groups)
        waste += _deletions(ChildKind.SERVICE, services, used=used, reason="its role replica is gone")
    if files:
        used = {file.name for file in desired.config_files} | _mounted(groups)
        waste += _deletions(ChildKind.CONFIG_MAP, files, used=used, reason="no pod mounts it any more")
    return tuple(stage for stage in (tuple(needs), tuple(pods), tuple(waste)) if stage)


def _group_needs(target: Target, groups: Mapping[int, Group], decision: Decision) -> podgroups.GroupNeeds:
    """Tell which ServingGroups need PodGroups; that of an older template keeps its size until pods are created."""
    filled = {slot.group for _, slot in decision.filled}
    roles = {ordinal: tuple(target.roles.values()) for ordinal in filled}
    roles |= {ordinal: group.expected for ordinal, group in groups.items() if decision.keeps(group)}
    sized = filled | {ordinal for ordinal, group in groups.items() if not group.outdated}
    return podgroups.GroupNeeds(roles=roles, sized=sized, used=groups.keys())


def _gangs(target: Target, observed: Observed, groups: Mapping[int, Group], decision: Decision) -> Container[int]:
    """Return the ServingGroups whose new pods are placed by a PodGroup.

    Beside pods that are in none they are not: Volcano would wait for members that never come.
    """
    if not podgroups.are_used(target.serving, observed.pod_groups):
        return ()
    return {slot.group for _, slot in decision.filled} - {
        ordinal
        for ordinal, group in groups.items()
        if any(decision.spares(pod) and not pod.in_pod_group for pod in group.pods)
    }


def _pod(target: Target, role: Role, slot: Slot, *, gangs: Container[int]) -> JsonObject:
    made = customise(documents.pod(target, role, slot), target.serving, slot)
    return podgroups.with_pod_group(made, target.name, slot) if slot.group in gangs else made


def _owned(target: Target, children: Iterable[ChildView]) -> _Children:
    return {child.name: child for child in children if child.owner_uid == target.serving.metadata.uid}


def _entries(target: Target, groups: Mapping[int, Group], decision: Decision) -> dict[str, Slot]:
    """Return the entry pods, by name, that need a Service: of roles with a worker template, those that stay or come."""
    roles = [role.name for role in target.roles.values() if role.worker_template]
    if not roles:
        return {}
    slots = [
        Slot(group.ordinal, role, replica.ordinal, 0)
        for group in groups.values()
        for role in roles
        for replica in group.roles.get(role, {}).values()
        if decision.keeps(replica)
    ]
    slots += [slot for role, slot in decision.filled if slot.worker == 0 and role.name in roles]
    return {pod_name(target.name, slot): slot for slot in slots}


def _entries_in_use(target: Target, groups: Mapping[int, Group]) -> set[str]:
    """Return the entry pods, by name, of replicas that have a Service, leaving and outdated ones included."""
    return {
        pod_name(target.name, Slot(group.ordinal, replica.role, replica.ordinal, 0))
        for group in groups.values()
        for replica in group.replicas
        if replica.outdated or target.roles[replica.role].worker_template
    }


def _mounted(groups: Mapping[int, Group]) -> set[str]:
    return {name for group in groups.values() for pod in group.pods for name in pod.config_maps}


def _deletions(kind: ChildKind, present: _Children, *, used: Collection[str], reason: str) -> list[Action]:
    return [
        Delete(kind, name, child.uid, reason)
        for name, child in sorted(present.items())
        if name not in used and not child.deleting
    ]
