"""The plugins of a ModelServing: their names, what they can be told, and what is wrong with what they are told.

What they do to pods is in `baton.planning.plugins`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from pydantic import Field, ValidationError

from baton.api.meta import ApiModel, JsonObject, fault_of, field_path
from baton.api.problems import Problem, Severity
from baton.api.serving import ModelServingSpec, Plugin

POD_TWEAKS: Final = "demo-pod-tweaks"
"""Sets a runtime class, annotations and variables."""
LWS_LABELS: Final = "lws-standard-labels"
"""Adds the labels that pods of a LeaderWorkerSet have, if the ModelServing was made from one."""


class PluginTarget(StrEnum):
    """Which pods of a role replica a plugin touches."""

    ALL = "All"
    ENTRY = "Entry"
    WORKER = "Worker"


class PodTweaks(ApiModel):
    """Configuration of `POD_TWEAKS`."""

    runtime_class_name: str = ""
    annotations: dict[str, str] = Field(default_factory=dict)
    env: list[JsonObject] = Field(default_factory=list)


def check_plugins(spec: ModelServingSpec) -> Iterator[Problem]:
    """Yield what is wrong with the plugins of a ModelServing."""
    roles = [role.name for role in spec.template.roles]
    for index, plugin in enumerate(spec.plugins):
        path = f"spec.plugins[{index}]"
        yield from _configuration(plugin, path=path)
        scope = plugin.scope
        if scope is None:
            continue
        if scope.target and scope.target not in set(PluginTarget):
            yield Problem(f"{path}.scope.target", f"{scope.target!r} should be {', '.join(PluginTarget)} or absent")
        for name in scope.roles:
            if name not in roles:
                message = f"there is no role {name!r}; roles are {', '.join(roles)}"
                yield Problem(f"{path}.scope.roles", message, Severity.WARNING)


def pod_tweaks(plugin: Plugin) -> PodTweaks:
    """Read the configuration of `POD_TWEAKS`. Raises pydantic.ValidationError."""
    return PodTweaks.model_validate({} if plugin.config is None else plugin.config, by_alias=True, by_name=False)


def _configuration(plugin: Plugin, *, path: str) -> Iterator[Problem]:
    if plugin.name not in {POD_TWEAKS, LWS_LABELS}:
        yield Problem(f"{path}.name", f"there is no plugin {plugin.name!r}; plugins are {POD_TWEAKS} and {LWS_LABELS}")
    if plugin.name != POD_TWEAKS:
        return
    try:
        tweaks = pod_tweaks(plugin)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            yield Problem(f"{path}.{field_path(('config', *fault['loc']))}", fault_of(fault))
    else:
        if not all(isinstance(entry.get("name"), str) for entry in tweaks.env):
            yield Problem(f"{path}.config.env", "each of env needs a name")
