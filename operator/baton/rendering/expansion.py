"""The whole way from a ModelServing to raw roles, launch ConfigMaps and problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from baton.api import labels
from baton.api.engine import Engine
from baton.api.problems import Problem, Severity
from baton.api.serving import ModelServing, Role
from baton.common.hashing import short_hash
from baton.rendering.launch import files_of, launch_of
from baton.rendering.plan import RolePlan
from baton.rendering.pods import raw_role
from baton.rendering.resolve import TypedRole, resolve
from baton.rendering.rules import Group, check
from baton.rendering.templates import TemplateFault, Templates, packaged_names, packaged_templates

ConfigMaps = Mapping[str, Mapping[str, str]]
"""Template texts by name, such as `launch.sh.j2`, by the ConfigMap that holds them, which has the label for it."""

_INPUTS: Final = "its inputs are described at the top of the packaged template"


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


def expand(serving: ModelServing, *, config_maps: ConfigMaps | None = None) -> Expanded:
    """Render the typed roles of a ModelServing and pass on the raw ones; never raises, reports problems instead.

    `config_maps` holds the data of the ConfigMaps that `template_config_maps` names, as far as they exist.
    """
    typed = resolve(serving)
    plans = tuple(role.plan for role in typed)
    texts = config_maps or {}
    problems = (*check(Group(serving, typed)), *_check_templates(typed, serving.metadata.namespace, texts))
    refused = Expanded(roles=(), config_maps=(), problems=problems, plans=plans)
    if refused.has_errors:
        return refused
    roles = list(serving.spec.template.roles)
    files: list[LaunchFiles] = []
    for role in typed:
        try:
            rendered = _render(role, templates_of(role, texts))
        except TemplateFault as fault:
            problem = Problem(role.path("templates.configMap"), f"a template is wrong: {fault}; correct it, {_INPUTS}")
            return Expanded(roles=(), config_maps=(), problems=(*problems, problem), plans=plans)
        files.append(rendered)
        roles[role.index] = raw_role(role.role, role.plan, config_map=rendered.name)
    return Expanded(roles=tuple(roles), config_maps=tuple(files), problems=problems, plans=plans)


def check_engines(serving: ModelServing) -> tuple[Problem, ...]:
    """Return what the rules say of the typed engines, rendering nothing: for admission, which sees no ConfigMaps."""
    return check(Group(serving, resolve(serving)))


def template_config_maps(serving: ModelServing) -> frozenset[str]:
    """Return the ConfigMaps of the ModelServing's namespace that hold templates of the user's own."""
    shared = serving.spec.template.engine
    own = [role.engine for role in serving.spec.template.roles]
    return frozenset(name for engine in own if (name := _name_of(engine) or _name_of(shared)))


def templates_of(role: TypedRole, config_maps: ConfigMaps) -> Templates:
    """Return the templates of a role: the packaged ones, and over them those of its ConfigMap."""
    name = _config_map(role)
    return Templates(config_maps.get(name)) if name else packaged_templates()


def _name_of(engine: Engine | None) -> str:
    return engine.templates.config_map if engine is not None and engine.templates is not None else ""


def _config_map(role: TypedRole) -> str:
    return _name_of(role.plan.engine)


def _check_templates(typed: tuple[TypedRole, ...], namespace: str, config_maps: ConfigMaps) -> Iterator[Problem]:
    """Yield what is wrong with the ConfigMaps themselves, each once."""
    known = packaged_names()
    for path, name in dict.fromkeys((role.path("templates.configMap"), _config_map(role)) for role in typed):
        if name and name not in config_maps:
            label = f"kubectl label configmap -n {namespace} {name} {labels.TEMPLATES}=true"
            message = f"there is no ConfigMap {namespace}/{name} with the label {labels.TEMPLATES}"
            yield Problem(path, f"{message}; create it, label it ({label}), or remove templates")
        for key in sorted(set(config_maps.get(name, {})) - known):
            message = f"{key} of ConfigMap {name} replaces no template; there are {', '.join(sorted(known))}"
            yield Problem(path, message, Severity.WARNING)


def _render(role: TypedRole, templates: Templates) -> LaunchFiles:
    data = files_of(role.plan, launch_of(role.plan, templates), templates)
    name = f"{role.plan.serving}-{role.plan.role}-launch-{short_hash(data)}"
    return LaunchFiles(name=name, role=role.plan.role, data=data)
