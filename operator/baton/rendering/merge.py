"""Puts a role's engine over the shared one, and knows which of the two a field was written in.

Unset fields are inherited; objects are merged field by field. In free objects such as additionalConfig a null removes
the shared key (RFC 7386); in flags it stays, because there it also removes what Baton computes. What `removeFlags`
names is such a null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from baton.api.engine import Engine
from baton.api.meta import ApiModel, JsonObject

_Part = TypeVar("_Part", bound=ApiModel)
_SHALLOW = {"flags", "env"}


def merge_engines(shared: Engine | None, own: Engine | None) -> Engine:
    """Return the engine of a role from `spec.template.engine` and `roles[].engine`."""
    return _merge(_without_removals(shared or Engine()), _without_removals(own or Engine()))


def merge_objects(base: Mapping[str, Any], patch: Mapping[str, Any]) -> JsonObject:
    """Return `base` with `patch` merged over it; a null in the patch removes the key."""
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = merge_objects(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def engine_path(field: str, *, index: int, own: Engine | None, shared: Engine | None) -> str:
    """Return the path of an engine field (camelCase, dotted) of role `index` as the user wrote it.

    A field that is written nowhere is looked for in the role, if that has an engine of its own.
    """
    if shared is None or (own is not None and (_is_set(own, field) or not _is_set(shared, field))):
        return f"spec.template.roles[{index}].engine.{field}"
    return f"spec.template.engine.{field}"


def _is_set(engine: Engine, field: str) -> bool:
    value: Any = engine.document()
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value is not None


def _without_removals(engine: Engine) -> Engine:
    """Return the engine with `removeFlags` as nulls in `flags`, which can be merged."""
    if not engine.remove_flags:
        return engine
    flags = {**(engine.flags or {}), **dict.fromkeys(engine.remove_flags)}
    return engine.model_copy(update={"flags": flags, "remove_flags": None})


def _merge(shared: _Part, own: _Part) -> _Part:
    merged: dict[str, Any] = {}
    for name in type(own).model_fields:
        below, above = getattr(shared, name), getattr(own, name)
        if above is None:
            merged[name] = below
        elif isinstance(above, ApiModel) and isinstance(below, ApiModel):
            merged[name] = _merge(below, above)
        elif isinstance(above, dict):
            merged[name] = {**(below or {}), **above} if name in _SHALLOW else merge_objects(below or {}, above)
        else:
            merged[name] = above
    return own.model_copy(update=merged)
