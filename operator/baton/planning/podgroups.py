"""PodGroups: how Volcano is told which pods are placed together or not at all. One for each ServingGroup.

A PodGroup that exists is changed in place, and only in the fields that Baton writes. Whether the cluster has the kind
at all is observed elsewhere; where it has not, nothing here asks for anything but a condition.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, Literal

from baton.api import labels
from baton.api.meta import Condition, JsonObject
from baton.api.serving import DEFAULT_SCHEDULER, ModelServing, PodTemplate, Role
from baton.common.hashing import short_hash
from baton.common.quantity import amount, quantity_of
from baton.planning.documents import child_metadata
from baton.planning.model import Action, ChildKind, Create, Delete, PodGroups, PodGroupView, Update
from baton.planning.naming import Slot, group_name, role_id
from baton.planning.target import Target, replica_size

GANG_SCHEDULING: Final = "GangScheduling"
"""Condition of a ModelServing that asks for it: whether Volcano is told of its groups."""

_FIELDS: Final = ("minMember", "minResources", "queue", "networkTopology", "subGroupPolicy")
"""What Baton writes of a PodGroup's spec. The rest is Volcano's and the user's."""


@dataclass(frozen=True, slots=True)
class GroupNeeds:
    """What the ServingGroups need, by ordinal.

    `roles` has those that stay or come, with the roles they have: they need a PodGroup. It is made to fit them if they
    are among `sized`. `used` are all that have pods: they keep theirs.
    """

    roles: Mapping[int, Collection[Role]]
    sized: Collection[int]
    used: Collection[int]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the PodGroup of a ServingGroup asks for, and its hash."""

    spec: JsonObject
    applied: str


def are_used(serving: ModelServing, pod_groups: PodGroups | None) -> bool:
    """Whether the ServingGroups of this ModelServing have PodGroups."""
    return pod_groups is not None and serving.spec.scheduler_name == DEFAULT_SCHEDULER


def preparations(target: Target, pod_groups: PodGroups | None, needs: GroupNeeds) -> list[Action]:
    """Return what must be created or changed before the pods."""
    if pod_groups is None or not are_used(target.serving, pod_groups):
        return []
    present = _owned(target, pod_groups.present)
    known: dict[tuple[int, ...], _Wanted] = {}
    actions: list[Action] = []
    for ordinal, roles in sorted(needs.roles.items()):
        name = group_name(target.name, ordinal)
        view = present.get(name)
        identity = tuple(map(id, roles))
        if identity not in known:  # most groups have the same roles
            known[identity] = _wanted(target.serving, roles, has_sub_groups=pod_groups.has_sub_groups)
        wanted = known[identity]
        if view is None:
            actions.append(Create(ChildKind.POD_GROUP, _document(target.serving, name, wanted)))
        elif ordinal in needs.sized and not view.deleting and not _is_current(view, wanted):
            patch = _patch(view, _document(target.serving, name, wanted))
            actions.append(Update(ChildKind.POD_GROUP, name, view.uid, patch, "what it asks for has changed"))
    return actions


def waste(target: Target, pod_groups: PodGroups | None, needs: GroupNeeds) -> list[Action]:
    """Return the deletions of PodGroups whose ServingGroup is gone."""
    if pod_groups is None:
        return []
    used = {group_name(target.name, ordinal) for ordinal in {*needs.roles, *needs.used}}
    return [
        Delete(ChildKind.POD_GROUP, name, view.uid, "its ServingGroup is gone")
        for name, view in sorted(_owned(target, pod_groups.present).items())
        if name not in used and not view.deleting
    ]


def carried_out(pod_groups: PodGroups | None, actions: Iterable[Action]) -> PodGroups | None:
    """Return the PodGroups as they are when these actions are carried out, for who wants to know what follows."""
    if pod_groups is None:
        return None
    views = {view.name: view for view in pod_groups.present}
    for action in actions:
        match action:
            case Create(kind=ChildKind.POD_GROUP):
                views[action.name] = _created(action)
            case Update(kind=ChildKind.POD_GROUP):
                applied = action.patch["metadata"]["annotations"][labels.APPLIED]
                spec = _merged(views[action.name].spec, action.patch["spec"])
                views[action.name] = replace(views[action.name], spec=spec, applied=applied)
            case Delete(kind=ChildKind.POD_GROUP):
                del views[action.name]
            case _:
                pass
    return replace(pod_groups, present=tuple(views.values()))


def with_pod_group(pod: JsonObject, serving_name: str, slot: Slot) -> JsonObject:
    """Return a pod that Volcano places together with its ServingGroup."""
    metadata = pod["metadata"]
    ours = {
        labels.POD_GROUP: group_name(serving_name, slot.group),
        labels.TASK: role_id(slot.role, slot.replica),
    }
    return {**pod, "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), **ours}}}


def conditions(serving: ModelServing, pod_groups: PodGroups | None) -> list[Condition]:
    """Say whether what the spec asks of gang scheduling happens; nothing where it asks for nothing and never did."""
    asked = _asked(serving)
    if not asked:
        was_told = any(condition.type == GANG_SCHEDULING for condition in serving.status.conditions)
        return [_told("True", "NotAskedFor", "Neither gangPolicy nor networkTopology is set")] if was_told else []
    topology = serving.spec.template.network_topology
    if serving.spec.scheduler_name != DEFAULT_SCHEDULER:
        message = (
            f"{asked} has no effect with the scheduler {serving.spec.scheduler_name!r}: pods are placed one by one; "
            f"set spec.schedulerName to {DEFAULT_SCHEDULER}"
        )
        return [_told("False", "OtherScheduler", message)]
    if pod_groups is None:
        message = (
            f"{asked} has no effect: the cluster has no PodGroups of {labels.SCHEDULING_GROUP}/v1beta1, so pods are "
            "placed one by one; install Volcano, Baton need not be restarted"
        )
        return [_told("False", "NoPodGroups", message)]
    if topology is not None and topology.role_policy is not None and not pod_groups.has_sub_groups:
        message = (
            "spec.template.networkTopology.rolePolicy has no effect: the installed PodGroups have no subGroupPolicy; "
            "upgrade Volcano, Baton need not be restarted"
        )
        return [_told("False", "NoSubGroups", message)]
    return [_told("True", "PodGroups", "Volcano is told of every ServingGroup by a PodGroup")]


def _asked(serving: ModelServing) -> str:
    template = serving.spec.template
    fields = {"gangPolicy": template.gang_policy, "networkTopology": template.network_topology}
    return " and ".join(f"spec.template.{name}" for name, value in fields.items() if value is not None)


def _told(status: Literal["True", "False"], reason: str, message: str) -> Condition:
    return Condition(type=GANG_SCHEDULING, status=status, reason=reason, message=message)


def _owned(target: Target, views: Iterable[PodGroupView]) -> dict[str, PodGroupView]:
    return {view.name: view for view in views if view.owner_uid == target.serving.metadata.uid}


def _document(serving: ModelServing, name: str, wanted: _Wanted) -> JsonObject:
    """Return the PodGroup of the ServingGroup with this name."""
    names = {labels.NAME: serving.metadata.name, labels.GROUP_NAME: name}
    metadata = child_metadata(serving, name, names, blocks_deletion=False)
    metadata["annotations"] = {labels.POD_GROUP: name, labels.APPLIED: wanted.applied}
    return {
        "apiVersion": f"{labels.SCHEDULING_GROUP}/v1beta1",
        "kind": "PodGroup",
        "metadata": metadata,
        "spec": wanted.spec,
    }


def _created(action: Create) -> PodGroupView:
    metadata = action.object["metadata"]
    return PodGroupView(
        namespace=metadata["namespace"],
        name=action.name,
        uid=f"of the new {action.kind} {action.name}",
        owner_uid=metadata["ownerReferences"][0]["uid"],
        spec=action.object["spec"],
        applied=metadata["annotations"][labels.APPLIED],
    )


def _wanted(serving: ModelServing, roles: Collection[Role], *, has_sub_groups: bool) -> _Wanted:
    """Return what the PodGroup of a ServingGroup with these roles, all of them raw, asks for."""
    together = {role.name: _together(serving, role) for role in roles}
    spec: JsonObject = {"minMember": sum(together[role.name] * replica_size(role) for role in roles)}
    resources = _resources(roles, together)
    topology = serving.spec.template.network_topology
    optional = {
        "minResources": {name: quantity_of(number) for name, number in sorted(resources.items())},
        "queue": serving.metadata.annotations.get(labels.QUEUE),
        "networkTopology": topology and topology.group_policy and topology.group_policy.document(),
        "subGroupPolicy": [_sub_group(serving, role, together[role.name]) for role in roles]
        if has_sub_groups
        else None,
    }
    spec |= {name: value for name, value in optional.items() if value}
    return _Wanted(spec, short_hash(spec))


def _together(serving: ModelServing, role: Role) -> int:
    """Return how many replicas of the role must be placed together with the rest."""
    policy = serving.spec.template.gang_policy
    least = ((policy and policy.min_role_replicas) or {}).get(role.name, role.replicas)
    return min(least, role.replicas)


def _sub_group(serving: ModelServing, role: Role, together: int) -> JsonObject:
    topology = serving.spec.template.network_topology
    entry: JsonObject = {
        "name": role.name,
        "labelSelector": {"matchLabels": {labels.NAME: serving.metadata.name, labels.ROLE: role.name}},
        "matchLabelKeys": [labels.ROLE_ID],
        "subGroupSize": replica_size(role),
        "minSubGroups": together,
    }
    if topology is not None and topology.role_policy is not None:
        entry["networkTopology"] = topology.role_policy.document()
    return entry


def _resources(roles: Iterable[Role], together: Mapping[str, int]) -> dict[str, Decimal]:
    """Sum up what the containers of the pods that are placed together request; init containers are gone by then."""
    total: dict[str, Decimal] = {}
    for role in roles:
        replicas = together[role.name]
        for template, pods in ((role.entry_template, replicas), (role.worker_template, replicas * _workers(role))):
            for name, number in _requests(template) if template is not None and pods else ():
                total[name] = total.get(name, Decimal()) + number * pods
    return total


def _workers(role: Role) -> int:
    return replica_size(role) - 1


def _requests(template: PodTemplate) -> Iterator[tuple[str, Decimal]]:
    for container in template.spec.get("containers") or []:
        for name, quantity in ((container.get("resources") or {}).get("requests") or {}).items():
            try:
                yield name, amount(quantity)
            except ValueError:
                continue  # the API server refuses the pod, and says why


def _is_current(view: PodGroupView, wanted: _Wanted) -> bool:
    """Whether nobody, neither the user nor another client, has changed what the PodGroup asks for."""
    return view.applied == wanted.applied and _covers(_with_amounts(view.spec), _with_amounts(wanted.spec))


def _with_amounts(spec: JsonObject) -> JsonObject:
    """Return a spec whose quantities are numbers: other clients write the same ones in another way."""
    resources = spec.get("minResources") or {}
    return {**spec, "minResources": {name: _amount(quantity) for name, quantity in resources.items()}}


def _amount(quantity: Any) -> Any:
    try:
        return amount(quantity)
    except ValueError:
        return quantity


def _covers(present: Any, wanted: Any) -> bool:
    """Whether the present value is the wanted one, but for fields that the wanted one does not have."""
    if isinstance(wanted, dict) and isinstance(present, dict):
        return all(name in present and _covers(present[name], value) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(present, list):
        return len(present) == len(wanted) and all(map(_covers, present, wanted))
    return bool(present == wanted)


def _patch(view: PodGroupView, wanted: JsonObject) -> JsonObject:
    metadata = {name: wanted["metadata"][name] for name in ("labels", "annotations")}
    written = {name: view.spec[name] for name in _FIELDS if name in view.spec}
    return {"metadata": metadata, "spec": _changes(written, wanted["spec"])}


def _changes(present: Any, wanted: Any) -> Any:
    """Return the merge patch that makes the wanted value of the present one."""
    if not isinstance(present, dict) or not isinstance(wanted, dict):
        return wanted
    return dict.fromkeys(present.keys() - wanted.keys()) | {
        name: _changes(present.get(name), value) for name, value in wanted.items()
    }


def _merged(present: Any, patch: Any) -> Any:
    """Return the present value with a merge patch in it."""
    if not isinstance(present, dict) or not isinstance(patch, dict):
        return patch
    kept = {name: value for name, value in present.items() if name not in patch}
    return kept | {name: _merged(present.get(name), value) for name, value in patch.items() if value is not None}
