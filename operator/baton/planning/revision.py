"""Which template a pod was made from, as a short hash.

What may change without restarting pods is left out: replicas, maxUnavailable and partition of the roles, and all that
is outside of the template's roles and engine. So are fields at their defaults, because a release that adds a field
must not restart the pods of those who never heard of it.
"""

from __future__ import annotations

from baton.api.meta import ApiModel, JsonObject
from baton.api.serving import ModelServing, Role
from baton.common.hashing import short_hash

_NOT_PART = {"replicas", "max_unavailable", "partition"}


def revision_of(serving: ModelServing) -> str:
    """Return the hash of the whole ServingGroup template."""
    template = serving.spec.template
    return short_hash({"engine": _written(template.engine), "roles": [_fingerprint(role) for role in template.roles]})


def role_hashes(serving: ModelServing) -> dict[str, str]:
    """Return the hash of each role's template by role name.

    A typed role's launch names the parallel sizes of the other roles, so those are part of its hash.
    """
    template = serving.spec.template
    sizes = [_written(role.engine.parallel) for role in template.roles if role.engine and role.engine.parallel]
    typed = {"engine": _written(template.engine), "sizes": sizes}
    return {
        role.name: short_hash({"role": _fingerprint(role)} | (typed if template.engine or role.engine else {}))
        for role in template.roles
    }


def _fingerprint(role: Role) -> JsonObject:
    return role.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=_NOT_PART)


def _written(model: ApiModel | None) -> JsonObject | None:
    return None if model is None else model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
