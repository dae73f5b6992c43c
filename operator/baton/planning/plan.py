"""The composition: from a ModelServing and what exists to what must be done now.

One step, computed afresh each time; nothing is remembered between calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from baton.api.serving import ModelServing
from baton.planning.children import stages_of
from baton.planning.decision import Decision, decide
from baton.planning.draining import drain
from baton.planning.model import Desired, Note, NoteReason, Observed, Plan
from baton.planning.naming import group_name, role_id
from baton.planning.state import Group, arrange
from baton.planning.status import status_of
from baton.planning.target import Target, target_of


def plan(desired: Desired, observed: Observed) -> Plan:
    """Return what to do now for one ModelServing.

    Planning again on the state that the plan asks for gives no actions. Nothing is created for a slot whose
    predecessor is still leaving, and children of other owners are never touched. For a ModelServing that is being
    deleted there is nothing to do.

    Raises:
        ValueError: a role lacks the template of its entry or worker pods; admission refuses it.

    """
    if is_deleting(desired.serving):
        return Plan(status=desired.serving.status)
    target = target_of(desired, observed.revisions)
    groups = arrange(target, observed.pods)
    decision = decide(target, groups, now=observed.now)
    drain(target, observed, decision)
    return Plan(
        stages=stages_of(target, observed, groups, decision),
        status=status_of(target, groups, decision, now=observed.now),
        notes=tuple(_notes(target, groups, decision)),
        requeue_after=min(decision.waits, default=None),
    )


def is_deleting(serving: ModelServing) -> bool:
    """Whether the ModelServing itself is going; its children go by their owner references."""
    return serving.metadata.deletion_timestamp is not None


def _notes(target: Target, groups: Mapping[int, Group], decision: Decision) -> Iterator[Note]:
    """Tell of every role replica that is being created, runs, or is being deleted."""
    for place in dict.fromkeys((slot.group, slot.role, slot.replica) for _, slot in decision.filled):
        yield _note(target, NoteReason.ROLE_CREATING, *place)
    for group in groups.values():
        for member in group.replicas:
            if decision.harms(member):
                yield _note(target, NoteReason.ROLE_DELETING, group.ordinal, member.role, member.ordinal)
            elif member.running:
                yield _note(target, NoteReason.ROLE_RUNNING, group.ordinal, member.role, member.ordinal)


def _note(target: Target, reason: NoteReason, group: int, role: str, replica: int) -> Note:
    where = f"Role {role}/{role_id(role, replica)} in ServingGroup {group_name(target.name, group)}"
    return Note(reason, f"{where} is now {reason.removeprefix('Role')}")
