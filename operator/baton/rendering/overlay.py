"""Puts the pod template a user wrote over the rendered one.

Containers are merged by name; volumes, variables, ports and mounts replace the rendered one of the same key; all other
objects are merged field by field, a null removes, and other lists replace the rendered list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from baton.api.meta import JsonObject
from baton.api.serving import PodTemplate, TemplateMeta
from baton.rendering.merge import merge_objects

CONTAINER: Final = "engine"
"""Name of the container that runs the launch script."""

_SPEC_LISTS: Final = {"containers": "name", "initContainers": "name", "volumes": "name"}
_CONTAINER_LISTS: Final = {"env": "name", "ports": "containerPort", "volumeMounts": "mountPath"}
_CONTAINERS: Final = ("containers", "initContainers")


def overlay(rendered: PodTemplate, own: PodTemplate | None) -> PodTemplate:
    """Return the rendered template with the user's over it; that one must be well formed."""
    if own is None:
        return rendered
    return PodTemplate(
        metadata=TemplateMeta(
            labels=rendered.metadata.labels | own.metadata.labels,
            annotations=rendered.metadata.annotations | own.metadata.annotations,
        ),
        spec=_merge(rendered.spec, own.spec, _SPEC_LISTS),
    )


def is_well_formed(spec: Mapping[str, Any]) -> bool:
    """Whether the lists of a pod spec that are merged by a key hold objects that have it."""
    if not _has_keys(spec, _SPEC_LISTS):
        return False
    return all(_has_keys(container, _CONTAINER_LISTS) for name in _CONTAINERS for container in spec.get(name) or [])


def _has_keys(value: Mapping[str, Any], lists: Mapping[str, str]) -> bool:
    return all(
        isinstance(items, list)
        and all(isinstance(item, Mapping) and isinstance(item.get(key), str | int) for item in items)
        for name, key in lists.items()
        if (items := value.get(name)) is not None
    )


def _merge(base: JsonObject, own: Mapping[str, Any], lists: Mapping[str, str]) -> JsonObject:
    plain = {name: value for name, value in own.items() if name not in lists or value is None}
    merged = merge_objects(base, plain)
    for name, key in lists.items():
        if own.get(name):
            merged[name] = _merge_list(base.get(name, []), own[name], key=key, whole=name not in _CONTAINERS)
    return merged


def _merge_list(base: list[JsonObject], own: list[JsonObject], *, key: str, whole: bool) -> list[JsonObject]:
    items = {item[key]: item for item in base}
    for item in own:
        items[item[key]] = item if whole else _merge(items.get(item[key], {}), item, _CONTAINER_LISTS)
    return list(items.values())
