"""The whole way from a ModelServing to raw roles, launch ConfigMaps and problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from baton.api.problems import Problem, Severity
from baton.api.serving import ModelServing, Role
from baton.common.hashing import short_hash
from baton.rendering.launch import files_of, launch_of
from baton.rendering.plan import RolePlan
from baton.rendering.pods import raw_role
from baton.rendering.resolve import TypedRole, resolve
from baton.rendering.rules import Group, check
from baton.rendering.templates import TemplateFault, Templates


@dataclass(frozen=True, slots=True)
class LaunchFiles:
    """The content of an immutable ConfigMap that a role's pods mount; the name holds the hash of the data."""

    name: str
    role: str
    data: dict[str, str]


@dataclass(frozen=True, slots=True)
class Expanded:
    """A ModelServing whose roles are all raw.

    With an error among `problems` there are no roles and no ConfigMaps; warnings leave them usable. `plans` are
    those of the typed roles, errors or not.
    """

    roles: tuple[Role, ...]
    config_maps: tuple[LaunchFiles, ...]
    problems: tuple[Problem, ...]
    plans: tuple[RolePlan, ...]

    @property
    def has_errors(self) -> bool:
        """Whether the ModelServing is refused."""
        return any(problem.severity is Severity.ERROR for problem in self.problems)


def expand(serving: ModelServing, *, overrides: Mapping[str, str] | None = None) -> Expanded:
    """Render the typed roles of a ModelServing and pass on the raw ones; never raises, reports problems instead.

    `overrides` holds template texts by name, such as `launch.sh.j2`, in place of the packaged ones.
    """
    typed = resolve(serving)
    plans = tuple(role.plan for role in typed)
    problems = check(Group(serving, typed))
    refused = Expanded(roles=(), config_maps=(), problems=problems, plans=plans)
    if refused.has_errors:
        return refused
    templates = Templates(overrides)
    roles = list(serving.spec.template.roles)
    config_maps: list[LaunchFiles] = []
    for role in typed:
        try:
            config_map = _render(role, templates)
        except TemplateFault as fault:
            problem = Problem(role.path("image").removesuffix(".image"), f"the launch template is wrong: {fault}")
            return Expanded(roles=(), config_maps=(), problems=(*problems, problem), plans=plans)
        config_maps.append(config_map)
        roles[role.index] = raw_role(role.role, role.plan, config_map=config_map.name)
    return Expanded(roles=tuple(roles), config_maps=tuple(config_maps), problems=problems, plans=plans)


def _render(role: TypedRole, templates: Templates) -> LaunchFiles:
    data = files_of(role.plan, launch_of(role.plan, templates), templates)
    name = f"{role.plan.serving}-{role.plan.role}-launch-{short_hash(data)}"
    return LaunchFiles(name=name, role=role.plan.role, data=data)
