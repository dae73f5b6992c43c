"""Which template a pod was made from, as a short hash, and all that such a template holds.

What may change without restarting pods is left out: replicas, maxUnavailable and partition of the roles, and all that
is outside of the template's roles and engine. So are fields at their defaults, because a release that adds a field
must not restart the pods of those who never heard of it.
"""

from __future__ import annotations

from baton.api.meta import ApiModel, JsonObject
from baton.common.hashing import short_hash
from baton.planning.model import Desired, RoleTemplate, Template

_NOT_PART = {"replicas", "max_unavailable", "partition"}


def template_of(desired: Desired) -> Template:
    """Return what pods are made from now."""
    if desired.stored is not None:
        return desired.stored
    revision, hashes = revision_of(desired), role_hashes(desired)
    roles = {role.name: RoleTemplate(role, revision, hashes[role.name]) for role in desired.roles}
    return Template(revision, roles, desired.config_files)


def revision_of(desired: Desired) -> str:
    """Return the hash of the whole ServingGroup template."""
    engine = desired.serving.spec.template.engine
    return short_hash({"engine": _written(engine), "roles": _fingerprints(desired)})


def role_hashes(desired: Desired) -> dict[str, str]:
    """Return the hash of each role's template by role name.

    A typed role's launch names the parallel sizes of the other roles, so those are part of its hash.
    """
    template = desired.serving.spec.template
    sizes = [_written(role.engine.parallel) for role in template.roles if role.engine and role.engine.parallel]
    typed = {"engine": _written(template.engine), "sizes": sizes}
    return {
        role.name: short_hash({"role": fingerprint} | (typed if template.engine or role.engine else {}))
        for role, fingerprint in zip(template.roles, _fingerprints(desired), strict=True)
    }


def _fingerprints(desired: Desired) -> list[JsonObject]:
    """Return what the user wrote of each role, with the number of its workers even where it is computed."""
    return [
        role.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=_NOT_PART)
        | {"workerReplicas": complete.worker_replicas}
        for role, complete in zip(desired.serving.spec.template.roles, desired.roles, strict=True)
    ]


def _written(model: ApiModel | None) -> JsonObject | None:
    return None if model is None else model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
