"""What is kept of the objects of the API server: raw document in, small frozen value out. Total: takes any object."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from baton.api import labels
from baton.planning.model import ChildView, PodView
from baton.routing.endpoints import PodFacts, facts_of

if TYPE_CHECKING:
    from baton.kube.types import JsonObject, Key


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
class DocumentRecord:
    """A ConfigMap with its content, and the object it belongs to."""

    content: dict[str, str]
    owner: Key | None


def pod_record(document: JsonObject) -> PodRecord:
    """Project a pod."""
    metadata = document["metadata"]
    status = document.get("status") or {}
    spec = document.get("spec") or {}
    owner, owner_uid = _owner(metadata)
    ready = _condition(status, "Ready")
    is_ready = ready.get("status") == "True"
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
        unready_since=None if is_ready else _time(ready.get("lastTransitionTime")),
        deletion_cost=_integer((metadata.get("annotations") or {}).get(labels.POD_DELETION_COST)),
        config_maps=tuple(
            volume["configMap"]["name"]
            for volume in spec.get("volumes") or []
            if (volume.get("configMap") or {}).get("name")
        ),
        problem="" if is_ready else _problem(status, statuses),
    )
    return PodRecord(view=view, facts=facts_of(document), owner=owner)


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


def document_record(document: JsonObject) -> DocumentRecord:
    """Project a ConfigMap whose content matters."""
    owner, _ = _owner(document["metadata"])
    return DocumentRecord(content=dict(document.get("data") or {}), owner=owner)


def without_managed_fields(document: JsonObject) -> JsonObject:
    """Project an object of our own kinds: all of it but the bookkeeping of field managers."""
    metadata = {key: value for key, value in document["metadata"].items() if key != "managedFields"}
    return {**document, "metadata": metadata}


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


def _problem(status: JsonObject, statuses: list[JsonObject]) -> str:
    """Say why a pod is not ready: the scheduler's words, then those of the kubelet."""
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason', 'Unschedulable')}: {scheduled.get('message', '')}".rstrip(": ")
    for entry in statuses:
        waiting = (entry.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in {"ContainerCreating", "PodInitializing"}:
            return _container_problem(entry, waiting)
    if status.get("phase") == "Failed":
        return str(status.get("message") or status.get("reason") or "failed")
    return ""


def _container_problem(entry: JsonObject, waiting: JsonObject) -> str:
    ended = (entry.get("lastState") or {}).get("terminated") or {}
    code = f", last exit code {ended['exitCode']}" if "exitCode" in ended else ""
    return f"{waiting['reason']}{code}: {waiting.get('message', '')}".rstrip(": ")


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def _integer(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0
