"""Rules on the escape hatches: flags, env and the user's own pod templates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from baton.api.engine import Engine
from baton.api.problems import Severity
from baton.api.serving import PodTemplate
from baton.rendering.arguments import OWNED, canonical_flags, computed_flags, words_of
from baton.rendering.environment import (
    FROM_POD,
    FROM_SCRIPT,
    computed_environment,
    device_variables,
    environment_of,
)
from baton.rendering.overlay import CONTAINER, is_well_formed
from baton.rendering.resolve import TypedRole
from baton.rendering.rules.rule import Finding, Group, Rule, found

_FLAG: Final = re.compile(r"[a-z0-9][a-z0-9.-]*")
_PLANNED: Final = {
    "VLLM_ENGINE_READY_TIMEOUT_S": "startupTimeoutSeconds",
    "VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT": "kvTransfer.timeoutSeconds",
    "VLLM_NIXL_ABORT_REQUEST_TIMEOUT": "kvTransfer.timeoutSeconds",
    "VLLM_NIXL_SIDE_CHANNEL_PORT": "kvTransfer.port",
    "MOONCAKE_CONFIG_PATH": "kvTransfer.store",
}
"""Variables that say what a field of the engine says, too, and that field."""
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _owned_flag(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        computed = computed_flags(role.plan)
        for name, value in canonical_flags(role.plan.engine.flags or {}).items():
            if name in OWNED and not _is_same(value, computed.get(name)):
                yield found(_flag_path(role, value), name=name, cure=OWNED[name])


def _flag_path(role: TypedRole, value: Any) -> str:
    """Return the field a flag of this value was written in; merging turns those to remove into nulls."""
    engines = [engine for engine in (role.shared, role.role.engine) if engine is not None]
    is_removed = value is None and any(engine.remove_flags for engine in engines)
    return role.path("removeFlags" if is_removed else "flags")


def _is_same(value: Any, computed: Any) -> bool:
    """Whether a flag says what is computed anyway, as a number or as text."""
    return value is not None and computed is not None and words_of("x", value) == words_of("x", computed)


def _bad_flag(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        for written, value in (role.plan.engine.flags or {}).items():
            if not _FLAG.fullmatch(written.replace("_", "-")):
                yield found(_flag_path(role, value), name=written)


def _doubled_flag(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        computed = computed_flags(role.plan)
        for name, value in canonical_flags(role.plan.engine.flags or {}).items():
            if name in computed and name not in OWNED and not _is_same(value, computed[name]):
                yield found(_flag_path(role, value), name=name)


def _layers(group: Group) -> Iterator[tuple[str, Engine]]:
    """Yield the engines as they are written, with their paths."""
    for role in group.typed:
        if role.shared is not None:
            yield "spec.template.engine", role.shared
        if role.role.engine is not None:
            yield f"spec.template.roles[{role.index}].engine", role.role.engine


def _null_flag(group: Group) -> Iterator[Finding]:
    for path, engine in _layers(group):
        for name, value in (engine.flags or {}).items():
            if value is None:
                yield found(f"{path}.flags", name=name)


def _removed_flag(group: Group) -> Iterator[Finding]:
    for path, engine in _layers(group):
        written = canonical_flags({name: value for name, value in (engine.flags or {}).items() if value is not None})
        for name in canonical_flags(dict.fromkeys(engine.remove_flags or ())).keys() & written.keys():
            yield found(f"{path}.removeFlags", name=name)


def _owned_variable(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        for name in role.plan.engine.env or {}:
            if name in {*FROM_POD, *FROM_SCRIPT, *device_variables(role.plan)}:
                yield found(role.path("env"), name=name)


def _bad_variable(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        for name in role.plan.engine.env or {}:
            if not _VARIABLE.fullmatch(name):
                yield found(role.path("env"), name=name)


def _network_variable(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        facts = role.plan.facts
        for name in role.plan.engine.env or {}:
            if name in {*facts.address_variables, *facts.interface_variables}:
                yield found(role.path("env"), name=name)


def _planned_variable(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        computed = computed_environment(role.plan)
        for name, value in (role.plan.engine.env or {}).items():
            if name in _PLANNED and computed.get(name, value) != value:
                yield found(role.path("env"), name=name, planned=computed[name], cure=_PLANNED[name])


def _not_text(group: Group) -> Iterator[Finding]:
    for role in group.typed:
        engine = role.plan.engine
        for field, value in engine.document().items():
            if "\0" in _all_text(value):
                yield found(role.path(field))


def _all_text(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(f"{key}{_all_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "".join(map(_all_text, value))
    return str(value)


def _templates(group: Group) -> Iterator[tuple[TypedRole, str, PodTemplate]]:
    for role in group.typed:
        path = f"spec.template.roles[{role.index}]"
        if role.role.entry_template is not None:
            yield role, f"{path}.entryTemplate", role.role.entry_template
        if role.role.worker_template is not None:
            yield role, f"{path}.workerTemplate", role.role.worker_template


def _bad_template(group: Group) -> Iterator[Finding]:
    for _, path, template in _templates(group):
        if not is_well_formed(template.spec):
            yield found(f"{path}.spec")


def _lost_variable(group: Group) -> Iterator[Finding]:
    for role, path, template in _templates(group):
        if not is_well_formed(template.spec):
            continue
        launched = environment_of(role.plan)
        for container in template.spec.get("containers") or []:
            names = {item["name"] for item in container.get("env") or []} if container["name"] == CONTAINER else set()
            for name in sorted(names & {*launched, *FROM_POD}):
                yield found(f"{path}.spec.containers", name=name)


def _contradiction(group: Group) -> Iterator[Finding]:
    for role, path, template in _templates(group):
        for field, (planned, cure) in {
            "hostNetwork": (role.plan.host_network, "network.hostNetwork"),
            "terminationGracePeriodSeconds": (role.plan.termination_seconds, "terminationGracePeriodSeconds"),
        }.items():
            if template.spec.get(field, planned) != planned:
                yield found(f"{path}.spec.{field}", field=field, planned=planned, cure=cure)


RULES: Final = (
    Rule("flag-computed", _owned_flag, "--{name} is computed", "{cure}"),
    Rule("flag-name", _bad_flag, "{name!r} is no flag", "write its name without dashes in front, and the value apart"),
    Rule(
        "flag-override",
        _doubled_flag,
        "--{name} wins over what the typed fields say",
        "use the typed field alone if this is not meant",
        Severity.WARNING,
    ),
    Rule(
        "flag-null",
        _null_flag,
        "kubectl apply drops the null of {name}, at the latest when it is repeated",
        "write {name} into removeFlags instead",
        Severity.WARNING,
    ),
    Rule("flag-removed", _removed_flag, "--{name} is in flags, too", "remove it from one of the two"),
    Rule(
        "variable-computed",
        _owned_variable,
        "{name} is set by the launch script for each pod or rank",
        "remove it from env",
    ),
    Rule(
        "variable-name",
        _bad_variable,
        "{name!r} is no name of an environment variable",
        "use letters, digits and underscores",
    ),
    Rule(
        "variable-network",
        _network_variable,
        "{name} wins over the address or interface that Baton finds, for all pods alike",
        "use network.interface, or remove it",
        Severity.WARNING,
    ),
    Rule(
        "variable-planned",
        _planned_variable,
        "{name} contradicts the plan, which has {planned}",
        "set {cure} instead",
        Severity.WARNING,
    ),
    Rule("text", _not_text, "there is a zero character in the text", "remove it"),
    Rule(
        "template",
        _bad_template,
        "containers, initContainers, volumes, env, ports and volumeMounts are lists of objects with their names",
        "correct the template, or remove it: it is optional with a typed engine",
    ),
    Rule(
        "template-variable",
        _lost_variable,
        "the launch script sets {name} itself, so the template's value has no effect",
        "set it in env of the engine",
    ),
    Rule(
        "template-contradiction",
        _contradiction,
        "the launch depends on {field}, which the engine has as {planned}",
        "set {cure} of the engine and remove it here",
    ),
)
