"""From a decision to actions: pods, headless Services of role replicas, launch ConfigMaps, PodGroups and revisions."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from typing import TypeVar

from baton.api import labels
from baton.api.meta import JsonObject
from baton.api.serving import Role
from baton.planning import documents, draining, history, podgroups
from baton.planning.decision import Decision
from baton.planning.model import Action, ChildKind, ChildView, ConfigFile, Create, Delete, Observed, RoleTemplate
from baton.planning.naming import Slot, pod_name
from baton.planning.plugins import customise
from baton.planning.state import Group
from baton.planning.target import Target

Child = TypeVar("Child", bound=ChildView)


def stages_of(
    target: Target, observed: Observed, groups: Mapping[int, Group], decision: Decision
) -> tuple[tuple[Action, ...], ...]:
    """Return what pods need, then the pods, then what they no longer need; stages without actions are left out."""
    serving = target.serving
    services = _owned(target, observed.services)
    files = _owned(target, observed.config_maps)
    revisions = _owned(target, observed.revisions)
    entries = _entries(target, groups, decision)
    needed = _files(target, decision)
    needs: list[Action] = history.missing(target, revisions)
    needs += [
        Create(ChildKind.CONFIG_MAP, documents.config_map(serving, file))
        for name, file in needed.items()
        if name not in files
    ]
    needs += [
        Create(ChildKind.SERVICE, documents.service(serving, role, slot))
        for name, (role, slot) in entries.items()
        if name not in services
    ]
    group_needs = _group_needs(groups, decision)
    needs += podgroups.preparations(target, observed.pod_groups, group_needs)
    pods: list[Action] = [
        Delete(ChildKind.POD, pod.name, pod.uid, reason)
        for pod, reason in decision.doomed.values()
        if pod.uid not in decision.draining
    ]
    pods += draining.marks((pod for group in groups.values() for pod in group.pods), decision, now=observed.now)
    gangs = _gangs(target, observed, groups, decision)
    pods += [
        Create(ChildKind.POD, _pod(target, decision, template, slot, gangs=gangs)) for template, slot in decision.filled
    ]
    waste = podgroups.waste(target, observed.pod_groups, group_needs) + history.unsettled(target, revisions)
    if services:
        used = entries.keys() | _entries_in_use(target, groups)
        waste += _deletions(ChildKind.SERVICE, services, used=used, reason="its role replica is gone")
    if files:
        used = needed.keys() | _mounted(groups)
        waste += _deletions(ChildKind.CONFIG_MAP, files, used=used, reason="no pod mounts it any more")
    if len(revisions) > 1:
        waste += history.unused(revisions, used=_revisions_in_use(target, groups, decision))
    return tuple(stage for stage in (tuple(needs), tuple(pods), tuple(waste)) if stage)


def _group_needs(groups: Mapping[int, Group], decision: Decision) -> podgroups.GroupNeeds:
    """Tell which ServingGroups need PodGroups; that of an older template keeps its size until pods are created."""
    filled = {slot.group for _, slot in decision.filled}
    new = decision.new_groups
    entries = {ordinal: tuple(new[ordinal].roles.values()) for ordinal in new.keys() & filled}
    entries |= {ordinal: group.expected for ordinal, group in groups.items() if decision.keeps(group)}
    roles = {ordinal: tuple(entry.role for entry in found) for ordinal, found in entries.items()}
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


def _pod(
    target: Target, decision: Decision, template: RoleTemplate, slot: Slot, *, gangs: Container[int]
) -> JsonObject:
    is_surge = slot.group in decision.stand_ins
    made = customise(documents.pod(target.serving, template, slot, is_surge=is_surge), target.serving, slot)
    return podgroups.with_pod_group(made, target.name, slot) if slot.group in gangs else made


def _owned(target: Target, children: Iterable[Child]) -> dict[str, Child]:
    return {child.name: child for child in children if child.owner_uid == target.serving.metadata.uid}


def _files(target: Target, decision: Decision) -> dict[str, ConfigFile]:
    """Return the ConfigMaps, by name, that pods of the present template mount, and those that come of older ones."""
    templates = [target.history[name] for name in {entry.revision for entry, _ in decision.filled}]
    return {file.name: file for template in (target.template, *templates) for file in template.config_files}


def _entries(target: Target, groups: Mapping[int, Group], decision: Decision) -> dict[str, tuple[Role, Slot]]:
    """Return the entry pods, by name, that need a Service: of roles with a worker template, those that stay or come."""
    if not _has_services(target):
        return {}
    slots = [
        (replica.template.role, Slot(group.ordinal, replica.role, replica.ordinal, 0))
        for group in groups.values()
        for replica in group.replicas
        if replica.template and replica.template.role.worker_template and decision.keeps(replica)
    ]
    slots += [(entry.role, slot) for entry, slot in decision.filled if not slot.worker and entry.role.worker_template]
    return {pod_name(target.name, slot): (role, slot) for role, slot in slots}


def _has_services(target: Target) -> bool:
    return any(entry.role.worker_template for template in target.history.values() for entry in template.roles.values())


def _entries_in_use(target: Target, groups: Mapping[int, Group]) -> set[str]:
    """Return the entry pods, by name, of replicas that have a Service, leaving and outdated ones included."""
    return {
        pod_name(target.name, Slot(group.ordinal, replica.role, replica.ordinal, 0))
        for group in groups.values()
        for replica in group.replicas
        if replica.template is None or replica.template.role.worker_template
    }


def _mounted(groups: Mapping[int, Group]) -> set[str]:
    return {name for group in groups.values() for pod in group.pods for name in pod.config_maps}


def _revisions_in_use(target: Target, groups: Mapping[int, Group], decision: Decision) -> set[str]:
    found = {pod.labels.get(labels.REVISION, "") for group in groups.values() for pod in group.pods}
    return found | {entry.revision for entry, _ in decision.filled} | {target.revision, target.base.revision}


def _deletions(
    kind: ChildKind, present: Mapping[str, ChildView], *, used: Collection[str], reason: str
) -> list[Action]:
    return [
        Delete(kind, name, child.uid, reason)
        for name, child in sorted(present.items())
        if name not in used and not child.deleting
    ]
