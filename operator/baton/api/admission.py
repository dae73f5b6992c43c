"""What is wrong with an object as a whole: the rules between fields that its model cannot say.

Used by whoever takes objects in: a webhook, the reconcilers, `baton render`. The CEL rules of the schema are here too,
for objects that no API server has seen. What the typed engine needs is checked by `baton.rendering`, references to
other objects by `baton.routing`.

A percentage that rounds down to 0 is only warned of: `kubectl scale`, which no webhook sees, is enough to make it so,
and an object must not get stuck by that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from baton.api import labels
from baton.api.meta import IntOrPercent, JsonObject
from baton.api.plugins import check_plugins
from baton.api.problems import Problem, Severity
from baton.api.route import ModelRoute, Rule, StringMatch, TargetModel
from baton.api.server import InferenceEngine, ModelServer
from baton.api.serving import ModelServing, ModelServingSpec, PodTemplate, RecoveryPolicy, Role, RolloutType
from baton.api.traffic import PDGroup, TrafficPolicy
from baton.common.quantity import resolve, seconds

_DNS_LABEL: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
"""A DNS-1035 label, which names of Services must be; at most 63 characters."""
_DNS_LABEL_RULE: Final = "should begin with a lower-case letter, hold only a-z, 0-9 and -, and not end with -"
_LABEL_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_PREFIX: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def check_serving(new: ModelServing, old: ModelServing | None = None) -> list[Problem]:
    """Return what is wrong with a ModelServing; `old` is what it replaces, for the fields that must not change."""
    spec = new.spec
    problems = [*_rollout(spec), *_gang(spec), *check_plugins(spec), *_names(new)]
    for index, role in enumerate(spec.template.roles):
        typed = role.engine is not None or spec.template.engine is not None
        problems += _role(role, path=f"spec.template.roles[{index}]", typed=typed)
        problems += _role_rollout(spec, role, path=f"spec.template.roles[{index}]")
    if old is not None:
        problems += _gang_changes(spec, old.spec)
    return problems


def check_route(new: ModelRoute, old: ModelRoute | None = None) -> list[Problem]:
    """Return what is wrong with a ModelRoute; `old` is what it replaces, for the fields that must not change."""
    spec = new.spec
    problems: list[Problem] = []
    if not spec.model_name and not spec.lora_adapters:
        problems.append(Problem("spec", "set modelName, loraAdapters or both"))
    if old is not None and old.spec.model_name and spec.model_name and spec.model_name != old.spec.model_name:
        problems.append(
            Problem("spec.modelName", f"is immutable, it is {old.spec.model_name!r}; create another ModelRoute")
        )
    problems += [
        Problem(f"spec.loraAdapters[{index}]", "is an empty string; remove it or name an adapter")
        for index, adapter in enumerate(spec.lora_adapters)
        if not adapter
    ]
    for index, rule in enumerate(spec.rules):
        problems += _rule(rule, path=f"spec.rules[{index}]", has_adapters=bool(spec.lora_adapters))
    problems += _pd_group(spec.pd_group, path="spec.pdGroup")
    problems += _traffic_policy(spec.traffic_policy)
    return problems


def check_server(server: ModelServer) -> list[Problem]:
    """Return what is wrong with a ModelServer, of which every field may change."""
    spec = server.spec
    selector = spec.workload_selector
    problems = [*_labels(selector.match_labels, path="spec.workloadSelector.matchLabels")]
    problems += _pd_group(selector.pd_group, path="spec.workloadSelector.pdGroup")
    problems += _traffic_policy(spec.traffic_policy)
    if selector.pd_group is not None and spec.kv_connector is None and spec.inference_engine is InferenceEngine.VLLM:
        message = "is not set, so decode is not told where prefill left the KV cache; set type to nixl or mooncake"
        problems.append(Problem("spec.kvConnector", message, Severity.WARNING))
    return problems


def _names(serving: ModelServing) -> Iterator[Problem]:
    """Check that pods and Services get legal names.

    The name that is checked has the replica counts in the places of the ordinals, so it is never the shorter one.
    """
    name, seen = serving.metadata.name, set[str]()
    if not _DNS_LABEL.fullmatch(name):
        yield Problem("metadata.name", f"{name!r} {_DNS_LABEL_RULE}")
    for index, role in enumerate(serving.spec.template.roles):
        path = f"spec.template.roles[{index}].name"
        if role.name in seen:
            yield Problem(path, f"{role.name!r} is the name of an earlier role; roles need unique names")
        seen.add(role.name)
        if not _DNS_LABEL.fullmatch(role.name):
            yield Problem(path, f"{role.name!r} {_DNS_LABEL_RULE}")
            continue
        longest = f"{name}-{serving.spec.replicas}-{role.name}-{role.replicas}-{role.worker_replicas or 0}"
        if len(longest) > 63:
            yield Problem(
                "metadata.name",
                f"names of pods and Services such as {longest!r} would have {len(longest)} characters of 63 allowed; "
                f"shorten the name or that of role {role.name!r}",
            )


def _rollout(spec: ModelServingSpec) -> Iterator[Problem]:
    strategy = spec.rollout_strategy
    if strategy is None:
        return
    update, path = strategy.rolling_update_configuration, "spec.rolloutStrategy.rollingUpdateConfiguration"
    if strategy.type is RolloutType.ROLE:
        if update is not None:
            yield Problem(path, "is only for ServingGroupRollingUpdate; set maxUnavailable and partition in the roles")
        if spec.recovery_policy is RecoveryPolicy.SERVING_GROUP:
            yield Problem(
                "spec.recoveryPolicy",
                "ServingGroupRecreate would undo RoleRollingUpdate, which replaces one role; use RoleRecreate",
            )
    elif update is not None and resolve(update.max_surge, total=100) == 0:
        yield from _unavailable(update.max_unavailable, total=spec.replicas, path=f"{path}.maxUnavailable")


def _unavailable(amount: IntOrPercent, *, total: int, path: str) -> Iterator[Problem]:
    if resolve(amount, total=100) == 0:
        yield Problem(path, "maxUnavailable cannot be 0: nothing could be replaced; set 1 or more")
    elif total and resolve(amount, total=total) == 0:
        message = f"{amount} of {total} rounds down to 0: nothing that runs is replaced; set a count of 1 or more"
        yield Problem(path, message, Severity.WARNING)


def _role_rollout(spec: ModelServingSpec, role: Role, *, path: str) -> Iterator[Problem]:
    if spec.rollout_strategy is None or spec.rollout_strategy.type is not RolloutType.ROLE:
        if role.partition is not None:
            yield Problem(
                f"{path}.partition", "is only for RoleRollingUpdate; set spec.rolloutStrategy.type or remove it"
            )
        return
    path = f"{path}.maxUnavailable"
    yield from _unavailable(role.max_unavailable, total=role.replicas, path=path)
    # The default of 1 must not forbid a role without replicas.
    if role.replicas and resolve(role.max_unavailable, total=role.replicas) > role.replicas:
        yield Problem(path, f"is above the role's {role.replicas} replicas; set at most {role.replicas}")


def _gang(spec: ModelServingSpec) -> Iterator[Problem]:
    gang = spec.template.gang_policy
    replicas = {role.name: role.replicas for role in spec.template.roles}
    for name, least in ((gang and gang.min_role_replicas) or {}).items():
        path = f"spec.template.gangPolicy.minRoleReplicas.{name}"
        if name not in replicas:
            yield Problem(path, f"there is no role {name!r}; roles are {', '.join(replicas)}")
        elif not 0 <= least <= replicas[name]:
            yield Problem(path, f"{least} should be between 0 and the role's replicas, {replicas[name]}")


def _gang_changes(new: ModelServingSpec, old: ModelServingSpec) -> Iterator[Problem]:
    path, now, before = "spec.template.gangPolicy", new.template.gang_policy, old.template.gang_policy
    if before is None:
        return
    if now is None:
        yield Problem(path, "is required once set")
        return
    values = now.min_role_replicas, before.min_role_replicas
    if None not in values and values[0] != values[1]:
        yield Problem(f"{path}.minRoleReplicas", f"is immutable, it is {before.min_role_replicas}")


def _role(role: Role, *, path: str, typed: bool) -> Iterator[Problem]:
    if not typed and role.entry_template is None:
        yield Problem(f"{path}.entryTemplate", "is required without a typed engine")
    if not typed and role.worker_replicas is None:
        yield Problem(f"{path}.workerReplicas", "is required without a typed engine; 0 for roles of one pod")
    if not typed and role.worker_replicas and role.worker_template is None:
        yield Problem(f"{path}.workerTemplate", "is required when workerReplicas is above 0")
    for name, template in (("entryTemplate", role.entry_template), ("workerTemplate", role.worker_template)):
        if template is not None:
            yield from _template(template, path=f"{path}.{name}", typed=typed)


def _template(template: PodTemplate, *, path: str, typed: bool) -> Iterator[Problem]:
    yield from _labels(template.metadata.labels, path=f"{path}.metadata.labels")
    for key in template.metadata.labels:
        if key.startswith(f"{labels.SERVING}/"):
            message = f"{key} replaces a label by which pods are found and routed to; remove it"
            yield Problem(f"{path}.metadata.labels", message, Severity.WARNING)
    containers: list[JsonObject] = template.spec.get("containers", [])
    if not containers and not typed:
        yield Problem(f"{path}.spec.containers", "is empty; a pod needs a container")
    for index, container in enumerate(containers):
        image = container.get("image")
        if image is None and typed:
            continue
        if not isinstance(image, str) or not image.strip() or " " in image:
            yield Problem(f"{path}.spec.containers[{index}].image", f"{image!r} should be an image name without spaces")


def _rule(rule: Rule, *, path: str, has_adapters: bool) -> Iterator[Problem]:
    for index, target in enumerate(rule.target_models):
        yield from _target(target, path=f"{path}.targetModels[{index}]", has_adapters=has_adapters)
    if not sum(target.weight for target in rule.target_models):
        yield Problem(f"{path}.targetModels", "all weights are 0, so no request goes anywhere; set one above 0")
    if rule.model_match is None:
        return
    if rule.model_match.uri is not None:
        yield from _string_match(rule.model_match.uri, path=f"{path}.modelMatch.uri")
    for name, match in rule.model_match.headers.items():
        yield from _string_match(match, path=f"{path}.modelMatch.headers.{name}")


def _target(target: TargetModel, *, path: str, has_adapters: bool) -> Iterator[Problem]:
    names = target.model_server_name, target.model_serving_name, target.external_model_provider_name
    if sum(name is not None for name in names) != 1:
        yield Problem(path, "set exactly one of modelServerName, modelServingName and externalModelProviderName")
    if target.external_model_provider_name is not None and has_adapters:
        yield Problem(
            f"{path}.externalModelProviderName", "an external provider has no LoRA adapters; remove spec.loraAdapters"
        )


def _string_match(match: StringMatch, *, path: str) -> Iterator[Problem]:
    values = {"exact": match.exact, "prefix": match.prefix, "regex": match.regex}
    given = [name for name, value in values.items() if value is not None]
    if len(given) > 1:
        ignored = " and ".join(given[1:])
        yield Problem(path, f"{given[0]} decides and {ignored} is ignored; set only one", Severity.WARNING)
    if match.regex is not None:
        try:
            re.compile(match.regex)
        except (re.error, OverflowError, RecursionError) as error:
            yield Problem(f"{path}.regex", f"{match.regex!r} is no regular expression of Python: {error}")


def _pd_group(group: PDGroup | None, *, path: str) -> Iterator[Problem]:
    if group is None:
        return
    if not _is_label_key(group.group_key):
        yield Problem(f"{path}.groupKey", f"{group.group_key!r} is no label key; use for example {labels.GROUP_NAME}")
    yield from _labels(group.prefill_labels, path=f"{path}.prefillLabels")
    yield from _labels(group.decode_labels, path=f"{path}.decodeLabels")
    if group.prefill_labels == group.decode_labels:
        message = "prefillLabels and decodeLabels are equal, so they tell no pods apart; make them differ"
        yield Problem(path, message, Severity.WARNING)


def _traffic_policy(policy: TrafficPolicy | None) -> Iterator[Problem]:
    if policy is not None and policy.timeout is not None and not seconds(policy.timeout):
        yield Problem("spec.trafficPolicy.timeout", "is 0, so every request would fail; remove it for no limit")


def _labels(pairs: Mapping[str, str], *, path: str) -> Iterator[Problem]:
    for key, value in pairs.items():
        if not _is_label_key(key):
            yield Problem(
                path, f"{key!r} is no label key: 63 letters, digits, '-', '_' or '.' after an optional prefix/"
            )
        if value and not _LABEL_NAME.fullmatch(value):
            yield Problem(path, f"{value!r} of {key} is no label value: at most 63 letters, digits, '-', '_' or '.'")


def _is_label_key(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    return bool(_LABEL_NAME.fullmatch(name)) and (not slash or bool(_LABEL_PREFIX.fullmatch(prefix)))
