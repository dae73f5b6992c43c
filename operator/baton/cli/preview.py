"""What applying a ModelServing would do, as a value: the whole roll-out, and how its roles' pods would differ.

Decides nothing about clusters: planning does, asked again and again. Prints nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from baton.api import labels
from baton.api.serving import ModelServing
from baton.cli.differences import field_differences, text_differences
from baton.controllers.desire import desired_of
from baton.planning.capacity import Shortage, find_shortages, read_needs, read_nodes
from baton.planning.forecast import Forecast, foresee
from baton.planning.model import Create, Delete, Update
from baton.planning.plan import is_deleting
from baton.planning.target import target_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from baton.api.problems import Problem
    from baton.api.serving import Role
    from baton.controllers.snapshot import Room, Snapshot
    from baton.kube.types import JsonObject
    from baton.planning.model import Action, Desired, PodView
    from baton.rendering import ConfigMaps

_NOT_YET = "not yet created"
"""The uid of a ModelServing that is not there; the empty one would be that of everybody's orphans."""


@dataclass(frozen=True, slots=True)
class RoleChange:
    """How the pods of a role would differ from those that run, by file of the launch, or `pod`.

    `is_outdated` says that its template is another; else only pods that start later are different. `left` counts the
    pods that keep the old template, as a partition has it.
    """

    role: str
    is_outdated: bool
    left: int
    differences: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Preview:
    """What applying one ModelServing would do; no forecast if it is refused or on its way out."""

    serving: ModelServing
    problems: tuple[Problem, ...]
    forecast: Forecast | None = None
    changes: tuple[RoleChange, ...] = ()

    @property
    def is_refused(self) -> bool:
        """Whether the operator would not act upon it."""
        return self.forecast is None and not is_deleting(self.serving)

    def document(self) -> JsonObject:
        """Return the JSON form."""
        forecast = self.forecast or Forecast({}, {})
        return {
            "namespace": self.serving.metadata.namespace,
            "name": self.serving.metadata.name,
            "refused": self.is_refused,
            "deleting": is_deleting(self.serving),
            "problems": [
                {"severity": problem.severity, "path": problem.path, "message": problem.message}
                for problem in self.problems
            ],
            "roles": [
                {
                    "name": change.role,
                    "outdated": change.is_outdated,
                    "left": change.left,
                    "differences": dict(change.differences),
                }
                for change in self.changes
            ],
            "pods": {
                "restart": [{"name": name, "reason": action.reason} for name, action in forecast.restarts.items()],
                "stop": [{"name": name, "reason": action.reason} for name, action in forecast.stops.items()],
                "start": [{"name": name} for name in forecast.starts],
            },
            "steps": [[[_action(action) for action in stage] for stage in step] for step in forecast.steps],
            "complete": forecast.is_complete,
        }


def preview_of(wanted: ModelServing, snapshot: Snapshot, *, old: ConfigMaps, new: ConfigMaps) -> Preview:
    """Look ahead; `old` and `new` are the users' templates before and after."""
    serving = _as_stored(wanted, snapshot.serving)
    desired, problems = desired_of(serving, new)
    if desired is None or is_deleting(serving):
        return Preview(serving, problems)
    stored = stored_serving(snapshot.serving)
    present = desired_of(stored, old)[0] if stored is not None else None
    forecast = foresee(desired, snapshot.observed)
    return Preview(serving, problems, forecast, tuple(_changes(desired, present, forecast, snapshot.launches)))


def stored_serving(document: JsonObject | None) -> ModelServing | None:
    """Return the ModelServing of the cluster, None if there is none or it cannot be read."""
    try:
        return None if document is None else ModelServing.read(document)
    except ValidationError:
        return None


def _as_stored(wanted: ModelServing, stored: JsonObject | None) -> ModelServing:
    """Return the ModelServing as it would be after `kubectl apply`: the new spec on the present object."""
    if stored is None:
        return wanted.model_copy(update={"metadata": wanted.metadata.model_copy(update={"uid": _NOT_YET})})
    present = {"metadata": stored["metadata"], "status": stored.get("status") or {}, "spec": wanted.document()["spec"]}
    return ModelServing.read(present)


def shortages_of(previews: Sequence[Preview], room: Room) -> tuple[Shortage, ...]:
    """Return which pods of all the roll-outs together find no node in the end, when those that stop have gone.

    Counts pods that are there and still wait for a node, too.
    """
    forecasts = [preview.forecast for preview in previews if preview.forecast]
    gone = {action.uid for forecast in forecasts for action in (*forecast.restarts.values(), *forecast.stops.values())}
    ours = {pod.uid for forecast in forecasts for pod in forecast.stays}
    staying = [
        pod for pod in room.pods if "deletionTimestamp" not in pod["metadata"] and pod["metadata"]["uid"] not in gone
    ]
    waiting = [pod for pod in staying if pod["metadata"]["uid"] in ours and not pod["spec"].get("nodeName")]
    created = [document for forecast in forecasts for document in forecast.creations.values()]
    return find_shortages(map(read_needs, (*waiting, *created)), read_nodes(room.nodes, staying))


def _changes(
    desired: Desired, present: Desired | None, forecast: Forecast, launches: Mapping[str, Mapping[str, str]]
) -> Iterator[RoleChange]:
    """Yield the roles whose pods would differ: from what runs in the launch, from the applied spec in the pod."""
    hashes = target_of(desired).hashes
    before = {role.name: role for role in present.roles} if present else {}
    files = {file.role: file.data for file in desired.config_files}
    names = {file.name for side in (present, desired) if side for file in side.config_files}
    for role in desired.roles:
        pods = [pod for pod in forecast.before.values() if pod.labels.get(labels.ROLE) == role.name]
        outdated = [pod for pod in pods if pod.labels.get(labels.ROLE_TEMPLATE_HASH) != hashes[role.name]]
        differences = text_differences(_mounted(outdated or pods, launches), files.get(role.name, {}))
        if role.name in before:
            differences |= _pod_differences(before[role.name], role, names)
        if outdated or (pods and differences):
            left = sum(pod in outdated for pod in forecast.stays)
            yield RoleChange(role.name, bool(outdated), left, differences)


def _mounted(pods: Sequence[PodView], launches: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """Return the launch that most of the pods mount."""
    names = Counter(name for pod in pods for name in pod.config_maps if name in launches)
    return launches[names.most_common(1)[0][0]] if names else {}


def _pod_differences(old: Role, new: Role, launches: Collection[str]) -> dict[str, list[str]]:
    """Compare the templates but for the names of launch ConfigMaps, whose content is compared by itself."""
    found = {}
    for name, *templates in (
        ("pod", old.entry_template, new.entry_template),
        ("worker pod", old.worker_template, new.worker_template),
    ):
        before, after = (template.document() if template else {} for template in templates)
        lines = [line for line in field_differences(before, after) if line.rpartition(": ")[2] not in launches]
        if lines:
            found[name] = lines
    return found


def _action(action: Action) -> JsonObject:
    match action:
        case Create():
            return {"do": "create", "kind": action.kind, "name": action.name}
        case Update():
            return {"do": "change", "kind": action.kind, "name": action.name, "reason": action.reason}
        case Delete():
            return {"do": "delete", "kind": action.kind, "name": action.name, "reason": action.reason}
