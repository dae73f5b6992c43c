"""The status of a ModelServing: counters, revisions and conditions, as they are once the decision is carried out.

Clients take a status of the present generation whose counters all equal `spec.replicas` as the end of a change. So a
ServingGroup counts as leaving from the moment it is decided on, and as existing from the moment it is created.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from baton.api import labels
from baton.api.meta import Condition
from baton.api.serving import ModelServing, ModelServingStatus, RoleStatus
from baton.planning.conditions import update_conditions
from baton.planning.decision import Decision
from baton.planning.naming import role_id
from baton.planning.problems import told
from baton.planning.state import Group
from baton.planning.target import Target

AVAILABLE = "Available"
PROGRESSING = "Progressing"
UPDATE_IN_PROGRESS = "UpdateInProgress"
_SHOWN_POSITIONS = 100
"""ServingGroups listed in a condition's message."""


@dataclass(frozen=True, slots=True)
class _Outlook:
    """A ServingGroup as it is once the decision is carried out."""

    ordinal: int
    running: bool
    outdated: bool
    leaving: bool


def status_of(target: Target, groups: Mapping[int, Group], decision: Decision, *, now: datetime) -> ModelServingStatus:
    """Return the status; what it says of other aspects than ours is kept."""
    serving = target.serving
    outlooks = _outlooks(target, groups, decision)
    available = sum(outlook.running for outlook in outlooks)
    updated = sum(not outlook.outdated for outlook in outlooks if not outlook.leaving)
    old = sum(outlook.outdated for outlook in outlooks if not outlook.leaving)
    complete = not target.partition and len(outlooks) == available == updated == target.replicas
    conditions = _conditions(target, outlooks, why=told(pod for group in groups.values() for pod in group.pods))
    return ModelServingStatus(
        observed_generation=serving.metadata.generation,
        replicas=len(outlooks),
        current_replicas=updated if complete else old,
        updated_replicas=updated,
        available_replicas=available,
        current_revision=_current_revision(target, groups, decision),
        update_revision=target.revision,
        conditions=update_conditions(
            serving.status.conditions, conditions, now=now, generation=serving.metadata.generation
        ),
        roles=_role_statuses(target, groups, decision),
        label_selector=label_selector(serving),
    )


def label_selector(serving: ModelServing) -> str:
    """Return the selector of one pod a ServingGroup, so that an autoscaler's ratios are per group."""
    first = serving.spec.template.roles[0].name
    wanted = {
        labels.ENTRY: "true",
        labels.NAME: serving.metadata.name,
        labels.ROLE: first,
        labels.ROLE_ID: role_id(first, 0),
    }
    return ",".join(f"{key}={wanted[key]}" for key in sorted(wanted))


def _outlooks(target: Target, groups: Mapping[int, Group], decision: Decision) -> list[_Outlook]:
    """Return all groups, lowest ordinal first. One whose roles are all scaled to 0 has no pods, and runs."""
    held = _of_older_templates(target, decision).keys()
    known = [
        _Outlook(
            ordinal,
            running=group.running and not decision.harms(group),
            outdated=group.outdated or ordinal in held,
            leaving=not decision.keeps(group),
        )
        for ordinal, group in groups.items()
    ]
    filled = {slot.group for _, slot in decision.filled}
    new = [
        _Outlook(ordinal, running=ordinal not in filled, outdated=ordinal in held, leaving=False)
        for ordinal in decision.new_groups
    ]
    return sorted(known + new, key=lambda outlook: outlook.ordinal)


def _role_statuses(target: Target, groups: Mapping[int, Group], decision: Decision) -> list[RoleStatus]:
    ready, updated = Counter[str](), Counter[str]()
    for group in groups.values():
        for replica in group.replicas:
            if decision.keeps(replica):
                updated[replica.role] += not replica.outdated
                ready[replica.role] += replica.running and not decision.harms(replica)
    updated.update(role for _, role, _ in _new_replicas(target, groups, decision))
    return [
        RoleStatus(
            name=role.name,
            desired=role.replicas * target.replicas,
            ready=ready[role.name],
            updated=updated[role.name],
        )
        for role in target.roles.values()
    ]


def _new_replicas(target: Target, groups: Mapping[int, Group], decision: Decision) -> set[tuple[int, str, int]]:
    """Return group, role and ordinal of the replicas of the present template that did not exist."""
    return {
        (slot.group, slot.role, slot.replica)
        for entry, slot in decision.filled
        if entry.hash == target.hashes.get(slot.role)
        and not (slot.group in groups and slot.replica in groups[slot.group].roles.get(slot.role, ()))
    }


def _of_older_templates(target: Target, decision: Decision) -> dict[int, str]:
    """Return the revision of the groups, by ordinal, that get pods of an older template."""
    new = {
        ordinal: template.revision
        for ordinal, template in decision.new_groups.items()
        if target.differs_from(template.roles.values())
    }
    return new | {
        slot.group: entry.revision for entry, slot in decision.filled if entry.hash != target.hashes.get(slot.role)
    }


def _current_revision(target: Target, groups: Mapping[int, Group], decision: Decision) -> str:
    """Return the revision that outdated groups are of: the one known so far, or the most common."""
    old = [
        revision
        for group in groups.values()
        if group.outdated
        for pod in group.pods
        if (revision := pod.labels.get(labels.REVISION, "")) != target.revision
    ]
    old += _of_older_templates(target, decision).values()
    known = target.serving.status.current_revision
    if known in old:
        return known
    return max(sorted(set(old)), key=old.count, default=target.revision)


def _conditions(target: Target, outlooks: Sequence[_Outlook], *, why: str) -> list[Condition]:
    """Return whichever of the three holds, with the texts existing clients know.

    The two that do not hold are told once they were told before; Available always, with what the pods wait for.
    """
    waiting = [position for position, outlook in enumerate(outlooks) if not outlook.running]
    updated = [position for position, outlook in enumerate(outlooks) if not outlook.outdated]
    progress = f"Some groups is progressing: {_listing(waiting)}"
    if not waiting:
        holds, reason, message = AVAILABLE, "AllGroupsReady", "All Serving groups are ready"
    elif len(outlooks) - len(updated) > target.partition:
        message = f"{progress}, Updated Groups are: {_listing(updated)}"
        holds, reason = UPDATE_IN_PROGRESS, "GroupsUpdating"
    else:
        holds, reason, message = PROGRESSING, "GroupProgressing", progress
    known = {AVAILABLE, *(condition.type for condition in target.serving.status.conditions)}
    ended = [name for name in (AVAILABLE, PROGRESSING, UPDATE_IN_PROGRESS) if name != holds and name in known]
    return [
        Condition(type=holds, status="True", reason=reason, message=message),
        *(
            Condition(
                type=name,
                status="False",
                reason=reason,
                message=f"{message}; {why}" if why and name == AVAILABLE else message,
            )
            for name in ended
        ),
    ]


def _listing(positions: Sequence[int]) -> str:
    more = len(positions) - _SHOWN_POSITIONS
    shown = [str(position) for position in positions[:_SHOWN_POSITIONS]]
    return f"[{' '.join(shown)}{f' and {more} more' if more > 0 else ''}]"
