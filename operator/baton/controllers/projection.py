"""What is kept of the objects of the API server: raw document in, small frozen value out. Total: takes any object."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import ValidationError

from baton.api import labels
from baton.api.meta import Kind, fault_of, field_path
from baton.api.problems import Problem, Severity
from baton.kube.types import key_of
from baton.planning.history import view_of
from baton.planning.model import ChildView, PodGroupView, PodView, RevisionView
from baton.routing.endpoints import PodFacts, facts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from baton.kube.types import JsonObject, Key

K = TypeVar("K", bound=Kind)

_STARTING = frozenset({"ContainerCreating", "PodInitializing"})
"""Reasons of a waiting container that are no problem."""
_SAID_LIMIT = 300
"""Characters kept of what a scheduler, a kubelet or an engine says about a pod."""


@dataclass(frozen=True, slots=True)
class KindRecord(Generic[K]):
    """An object of one of our own kinds, as the API server has it and as its model.

    `value` is None if one of the problems is an error: the object cannot be acted upon.
    """

    raw: JsonObject
    value: K | None
    problems: tuple[Problem, ...] = ()

    @property
    def is_deleting(self) -> bool:
        """Whether the object itself is going; its children go by their owner references."""
        return "deletionTimestamp" in self.raw["metadata"]


@dataclass(frozen=True, slots=True)
class PodRecord:
    """A pod as planning and as routing see it, and the ModelServing it belongs to."""

    view: PodView
    facts: PodFacts
    owner: Key | None


@dataclass(frozen=True, slots=True)
class ChildRecord:
    """A Service or ConfigMap, and the object it belongs to."""

    view: ChildView
    owner: Key | None


@dataclass(frozen=True, slots=True)
class PodGroupRecord:
    """A PodGroup, and the object it belongs to."""

    view: PodGroupView
    owner: Key | None


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """A ControllerRevision, and the object it belongs to."""

    view: RevisionView
    owner: Key | None


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """A ConfigMap that holds a router document, and the object it belongs to."""

    text: str | None
    owner: Key | None
    owner_uid: str


@dataclass(frozen=True, slots=True)
class TemplateRecord:
    """A user's ConfigMap with templates."""

    key: Key
    data: dict[str, str]


def pod_record(document: JsonObject) -> PodRecord:
    """Project a pod."""
    metadata = document["metadata"]
    status = document.get("status") or {}
    spec = document.get("spec") or {}
    owner, owner_uid = _owner(metadata)
    facts = facts_of(document)
    ready = _condition(status, "Ready")
    is_ready = status.get("phase") == "Running" and ready.get("status") == "True"
    statuses = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    view = PodView(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=owner_uid,
        labels=dict(metadata.get("labels") or {}),
        phase=status.get("phase") or "Pending",
        ready=is_ready,
        deleting="deletionTimestamp" in metadata,
        restarted=any(entry.get("restartCount", 0) > 0 for entry in statuses),
        unready_since=None if is_ready else _unready_since(ready, statuses),
        deletion_cost=_integer((metadata.get("annotations") or {}).get(labels.POD_DELETION_COST)),
        config_maps=tuple(
            volume["configMap"]["name"]
            for volume in spec.get("volumes") or []
            if (volume.get("configMap") or {}).get("name")
        ),
        problem="" if is_ready else _problem(status, statuses),
        in_pod_group=labels.POD_GROUP in (metadata.get("annotations") or {}),
        draining_since=_time((metadata.get("annotations") or {}).get(labels.DRAINING)),
    )
    return PodRecord(view=view, facts=facts, owner=owner)


def child_record(document: JsonObject) -> ChildRecord:
    """Project a Service or a ConfigMap."""
    metadata = document["metadata"]
    owner, owner_uid = _owner(metadata)
    view = ChildView(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=owner_uid,
        deleting="deletionTimestamp" in metadata,
    )
    return ChildRecord(view=view, owner=owner)


def pod_group_record(document: JsonObject) -> PodGroupRecord:
    """Project a PodGroup; its status is Volcano's."""
    metadata = document["metadata"]
    owner, owner_uid = _owner(metadata)
    view = PodGroupView(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=owner_uid,
        spec=document.get("spec") or {},
        applied=(metadata.get("annotations") or {}).get(labels.APPLIED, ""),
        deleting="deletionTimestamp" in metadata,
    )
    return PodGroupRecord(view=view, owner=owner)


def revision_record(document: JsonObject) -> RevisionRecord:
    """Project a ControllerRevision."""
    owner, _ = _owner(document["metadata"])
    return RevisionRecord(view=view_of(document), owner=owner)


def document_record(document: JsonObject) -> DocumentRecord:
    """Project a ConfigMap whose content matters; what others add to it does not."""
    owner, owner_uid = _owner(document["metadata"])
    return DocumentRecord(
        text=(document.get("data") or {}).get(labels.ROUTER_CONFIG_KEY), owner=owner, owner_uid=owner_uid
    )


def template_record(document: JsonObject) -> TemplateRecord:
    """Project a ConfigMap with templates: all of its text."""
    return TemplateRecord(key_of(document), document.get("data") or {})


def kind_projection(
    model: type[K], check: Callable[[K], Iterable[Problem]] = lambda _: ()
) -> Callable[[JsonObject], KindRecord[K]]:
    """Return the projection of one of our own kinds: all of it but the bookkeeping of field managers, and read."""

    def project(document: JsonObject) -> KindRecord[K]:
        metadata = {key: value for key, value in document["metadata"].items() if key != "managedFields"}
        raw = {**document, "metadata": metadata}
        try:
            value = model.read(raw)
        except ValidationError as error:
            faults = error.errors(include_url=False)
            return KindRecord(raw, None, tuple(Problem(field_path(fault["loc"]), fault_of(fault)) for fault in faults))
        problems = tuple(check(value))
        is_refused = any(problem.severity is Severity.ERROR for problem in problems)
        return KindRecord(raw, None if is_refused else value, problems)

    return project


def _owner(metadata: JsonObject) -> tuple[Key | None, str]:
    for reference in metadata.get("ownerReferences") or []:
        if reference.get("controller"):
            return (metadata.get("namespace", ""), reference["name"]), reference["uid"]
    return None, ""


def _condition(status: JsonObject, name: str) -> JsonObject:
    for condition in status.get("conditions") or []:
        if condition.get("type") == name:
            found: JsonObject = condition
            return found
    return {}


def _unready_since(ready: JsonObject, statuses: list[JsonObject]) -> datetime | None:
    """Return when the pod was last ready or a container last ended: one that is never ready ends again and again."""
    ends = [(entry.get(name) or {}).get("terminated") or {} for entry in statuses for name in ("state", "lastState")]
    moments = [_time(ready.get("lastTransitionTime")), *(_time(end.get("finishedAt")) for end in ends)]
    return max((moment for moment in moments if moment is not None), default=None)


def _problem(status: JsonObject, statuses: list[JsonObject]) -> str:
    """Say why a pod is not ready: the scheduler's words, then those of the kubelet, without what differs by pod."""
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return _said(scheduled, "Unschedulable")
    problems = [problem for entry in statuses if (problem := _container_problem(entry))]
    if problems:
        return problems[0]
    if status.get("phase") == "Failed":
        return _said(status, "Failed")
    unready = [
        entry.get("name", "")
        for entry in statuses
        if "running" in (entry.get("state") or {}) and not entry.get("ready")
    ]
    return f"{unready[0]} runs and is not ready" if unready else ""


def _container_problem(entry: JsonObject) -> str:
    state = entry.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    last = (entry.get("lastState") or {}).get("terminated") or {}
    if waiting.get("reason") and waiting["reason"] not in _STARTING:
        return _ended(last, f"{waiting['reason']}, last exit") if "exitCode" in last else _said(waiting)
    return _ended(ended, "exit") if ended.get("exitCode") else ""


def _ended(end: JsonObject, what: str) -> str:
    """Return exit code, reason and last lines of a container that ended; the lines are its termination message."""
    reason = end.get("reason") or "Error"
    return _said({"reason": f"{what} code {end['exitCode']} ({reason})", "message": end.get("message")})


def _said(source: JsonObject, reason: str = "") -> str:
    """Return a reason and its message; of a long one the end, where the last lines of a log are."""
    message = " ".join((source.get("message") or "").split())
    if len(message) > _SAID_LIMIT:
        message = f"…{message[-_SAID_LIMIT:]}"
    return f"{source.get('reason') or reason}: {message}".removesuffix(": ")


def _time(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None


def _integer(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0
