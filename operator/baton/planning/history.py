"""Revisions of a ModelServing as ControllerRevisions: what they hold, which are written, and which may go.

A revision holds what was rendered, not what was to be rendered: a later release of Baton, or a changed launch template,
would render the same spec differently, and pods of one revision must stay alike. Beside it, as an annotation, stands
the rest of the spec as it was last; with it a spec that is refused is replaced by the last good one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from baton.api import labels
from baton.api.meta import JsonObject
from baton.api.serving import ModelServing, ModelServingSpec, Role
from baton.common.hashing import short_hash
from baton.planning.documents import child_metadata
from baton.planning.model import (
    Action,
    ChildKind,
    ConfigFile,
    Create,
    Delete,
    Desired,
    RevisionView,
    RoleTemplate,
    Template,
    Update,
)
from baton.planning.target import Target

_SPARE = 3
"""Revisions kept beside those in use, the newest first, for people who want to look back."""
_STORED: dict[str, Any] = {
    "template": {
        "engine": True,
        "roles": {"__all__": {"engine", "entry_template", "worker_template", "worker_replicas"}},
    }
}
"""What a revision holds of a spec."""


def view_of(document: JsonObject) -> RevisionView:
    """Return what is kept of a ControllerRevision."""
    metadata = document["metadata"]
    owners = [owner["uid"] for owner in metadata.get("ownerReferences") or [] if owner.get("controller")]
    revision = (metadata.get("labels") or {}).get(labels.REVISION, "")
    settings = (metadata.get("annotations") or {}).get(labels.SETTINGS, "")
    return RevisionView(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=owners[0] if owners else "",
        deleting="deletionTimestamp" in metadata,
        revision=revision,
        number=document.get("revision", 0),
        settings=settings,
        template=read_template(revision, document.get("data"), settings),
    )


def read_template(revision: str, data: Any, settings: str) -> Template | None:
    """Return what a ControllerRevision holds, or None if it cannot be read. The settings have the roles' replicas.

    The key `data` alone, with the roles, is what existing clusters have.
    """
    try:
        scales = {role["name"]: role for role in json.loads(settings)["template"]["roles"]} if settings else {}
        roles = [Role.model_validate(entry | scales.get(entry["name"], {})) for entry in data["data"]]
        hashes = data.get("hashes") or {}
        files = tuple(ConfigFile(file["name"], file["role"], file["data"]) for file in data.get("files") or ())
        templates = {
            role.name: RoleTemplate(role, revision, hashes.get(role.name) or short_hash(role.document()))
            for role in roles
        }
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
    return Template(revision, templates, files)


def restore(document: JsonObject, revisions: Iterable[RevisionView]) -> Desired | None:
    """Return the last spec that was accepted of a ModelServing whose present one is refused, if it is still known.

    It has the generation of that spec, so that nobody takes its status for that of the present one.
    """
    metadata, status = document["metadata"], document.get("status") or {}
    known = {view.revision: view for view in revisions if view.owner_uid == metadata["uid"]}
    view = known.get(status.get("updateRevision", ""))
    if view is None or view.template is None or not view.settings:
        return None
    roles = tuple(entry.role for entry in view.template.roles.values())
    spec = json.loads(view.settings)
    spec["template"]["roles"] = [role.document() for role in roles]
    former = {**metadata, "generation": status.get("observedGeneration", 0)}
    try:
        serving = ModelServing.read({"metadata": former, "spec": spec, "status": status})
    except ValidationError:
        return None
    return Desired(serving, roles, view.template.config_files, view.template)


def missing(target: Target, revisions: Mapping[str, RevisionView]) -> list[Action]:
    """Return the creation of the present revision, unless it is there."""
    name = _name(target)
    if name in revisions:
        return []
    number = 1 + max((view.number for view in revisions.values()), default=0)
    return [Create(ChildKind.REVISION, _document(target, name, number))]


def unsettled(target: Target, revisions: Mapping[str, RevisionView]) -> list[Action]:
    """Return the write of the present settings to the present revision, unless it has them."""
    present, settings = revisions.get(_name(target)), _settings(target.serving.spec)
    if present is None or present.settings == settings:
        return []
    patch = {"metadata": {"annotations": {labels.SETTINGS: settings}}}
    return [Update(ChildKind.REVISION, present.name, present.uid, patch, "the settings beside the template changed")]


def unused(revisions: Mapping[str, RevisionView], *, used: Collection[str]) -> list[Action]:
    """Return the deletions of the revisions that are neither used nor among the newest of the others."""
    others = [view for view in revisions.values() if view.revision not in used and not view.deleting]
    old = sorted(others, key=lambda view: (-view.number, view.name))[_SPARE:]
    return [Delete(ChildKind.REVISION, view.name, view.uid, "no pod is of this revision any more") for view in old]


def _name(target: Target) -> str:
    return f"{target.name}-{target.revision}"


def _document(target: Target, name: str, number: int) -> JsonObject:
    serving, template = target.serving, target.template
    names = {labels.NAME: target.name, labels.REVISION: template.revision}
    entries = template.roles.items()
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {**child_metadata(serving, name, names), "annotations": {labels.SETTINGS: _settings(serving.spec)}},
        "revision": number,
        "data": {
            "data": [entry.role.document() for _, entry in entries],
            "hashes": {role: entry.hash for role, entry in entries},
            "files": [{"name": file.name, "role": file.role, "data": file.data} for file in template.config_files],
        },
    }


def _settings(spec: ModelServingSpec) -> str:
    """Return the spec without what a revision holds, as JSON with sorted keys."""
    settings = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=_STORED)
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))
