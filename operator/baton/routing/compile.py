"""From a ModelRoute and the objects it names to the router's document, or the reasons why not. Total and pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from baton.api import labels
from baton.api.endpoints import Phase
from baton.api.engine import Engine, EngineKind
from baton.api.kv_transfer import KVConnector
from baton.api.problems import Problem
from baton.api.route import ModelRoute, Rule, TargetModel
from baton.api.router_config import (
    BackendConfig,
    PodSelector,
    RetryPolicy,
    RouteConfig,
    RouterConfig,
    RuleConfig,
    TargetConfig,
)
from baton.api.server import InferenceEngine, ModelServer
from baton.api.serving import ModelServing, Role
from baton.api.traffic import KVConnectorType, PDGroup, TrafficPolicy
from baton.common.quantity import seconds

_CONNECTORS = {
    KVConnector.MOONCAKE_HYBRID: KVConnectorType.MOONCAKE,
    KVConnector.MOONCAKE_V1: KVConnectorType.MOONCAKE,
    KVConnector.MOONCAKE_LAYERWISE: KVConnectorType.MOONCAKE_LAYERWISE,
    KVConnector.NIXL: KVConnectorType.NIXL,
}


class UnresolvedError(Exception):
    """A target cannot be routed to; carries the problem."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.problem = Problem(path, message)


@dataclass(frozen=True, slots=True)
class Compiled:
    """The document of a route, or None together with the references that do not resolve."""

    config: RouterConfig | None
    problems: tuple[Problem, ...] = ()


def compile_route(
    route: ModelRoute, *, servers: Mapping[str, ModelServer], servings: Mapping[str, ModelServing]
) -> Compiled:
    """Compile one route. `servers` and `servings` are those of the route's namespace by name.

    One target that does not resolve fails the route as a whole: half of its traffic would go astray otherwise.
    """
    backends: dict[str, BackendConfig] = {}
    problems: list[Problem] = []
    rules: list[RuleConfig] = []
    for position, rule in enumerate(route.spec.rules):
        targets: list[TargetConfig] = []
        for index, target in enumerate(rule.target_models):
            path = f"spec.rules[{position}].targetModels[{index}]"
            try:
                backend = _backend(route, target, path=path, servers=servers, servings=servings)
            except UnresolvedError as error:
                problems.append(error.problem)
                continue
            backends[backend.name] = backend
            targets.append(TargetConfig(backend=backend.name, weight=target.weight))
        if targets:
            rules.append(_rule(rule, targets))
    if not route.spec.rules:
        problems.append(Problem("spec.rules", "there is no rule, so no request goes anywhere; add one with a target"))
    if problems:
        return Compiled(None, tuple(problems))
    created = route.metadata.creation_timestamp
    compiled = RouteConfig(
        name=f"{route.metadata.namespace}/{route.metadata.name}",
        created=created.isoformat() if created else "",
        model_name=route.spec.model_name,
        lora_adapters=route.spec.lora_adapters,
        rules=rules,
    )
    return Compiled(RouterConfig(routes=[compiled], backends=list(backends.values())))


def references(route: ModelRoute) -> tuple[set[str], set[str]]:
    """Return the names of the ModelServers and of the ModelServings a route points to."""
    targets = [target for rule in route.spec.rules for target in rule.target_models]
    return (
        {target.model_server_name for target in targets if target.model_server_name},
        {target.model_serving_name for target in targets if target.model_serving_name},
    )


def _rule(rule: Rule, targets: list[TargetConfig]) -> RuleConfig:
    return RuleConfig(name=rule.name or "", match=rule.model_match, targets=targets)


def _backend(
    route: ModelRoute,
    target: TargetModel,
    *,
    path: str,
    servers: Mapping[str, ModelServer],
    servings: Mapping[str, ModelServing],
) -> BackendConfig:
    if target.model_server_name:
        server = servers.get(target.model_server_name)
        if server is None:
            raise UnresolvedError(f"{path}.modelServerName", _absent("ModelServer", target.model_server_name, servers))
        return _from_server(route, server, path=f"{path}.modelServerName")
    if target.model_serving_name:
        serving = servings.get(target.model_serving_name)
        if serving is None:
            raise UnresolvedError(
                f"{path}.modelServingName", _absent("ModelServing", target.model_serving_name, servings)
            )
        return _from_serving(route, serving, path=f"{path}.modelServingName")
    if target.external_model_provider_name:
        raise UnresolvedError(
            f"{path}.externalModelProviderName", "external providers are not served; name a ModelServer or ModelServing"
        )
    raise UnresolvedError(path, "name a target: modelServerName or modelServingName")


def _absent(kind: str, name: str, known: Iterable[str]) -> str:
    names = ", ".join(sorted(known)) or "none"
    return f"there is no usable {kind} {name!r} in the route's namespace; there are: {names}"


def _policy(route: ModelRoute, own: TrafficPolicy | None) -> tuple[float | None, RetryPolicy]:
    policy = route.spec.traffic_policy or own
    if policy is None:
        return None, RetryPolicy()
    retry = policy.retry
    return (
        seconds(policy.timeout) if policy.timeout else None,
        RetryPolicy(attempts=retry.attempts, interval=seconds(retry.retry_interval)) if retry else RetryPolicy(),
    )


def _from_server(route: ModelRoute, server: ModelServer, *, path: str) -> BackendConfig:
    spec = server.spec
    selector = spec.workload_selector
    if not selector.match_labels:
        raise UnresolvedError(
            path, f"ModelServer {server.metadata.name!r} selects no pods; set workloadSelector.matchLabels"
        )
    pd_group = selector.pd_group or route.spec.pd_group
    connector = spec.kv_connector or route.spec.kv_connector
    default = KVConnectorType.SGLANG if spec.inference_engine is InferenceEngine.SGLANG else KVConnectorType.HTTP
    timeout, retry = _policy(route, spec.traffic_policy)
    return BackendConfig(
        name=f"server/{server.metadata.name}",
        model=spec.model,
        connector=connector.type if connector else default,
        bootstrap_port=connector.bootstrap_port if connector else None,
        pd_group=pd_group,
        port=spec.workload_port.port,
        protocol=spec.workload_port.protocol,
        timeout=timeout,
        retry=retry,
        selector=PodSelector(namespace=route.metadata.namespace, match_labels=selector.match_labels),
    )


def _from_serving(route: ModelRoute, serving: ModelServing, *, path: str) -> BackendConfig:
    typed = _typed_engines(serving)
    timeout, retry = _policy(route, None)
    common = BackendConfig(
        name=f"serving/{serving.metadata.name}",
        timeout=timeout,
        retry=retry,
        selector=PodSelector(namespace=route.metadata.namespace, match_labels={labels.NAME: serving.metadata.name}),
    )
    if typed:
        pd_group = _phase_group(typed)
        update = {
            "model": _served_name(serving, typed.values()),
            "pd_group": pd_group,
            "connector": _typed_connector(typed.values()) if pd_group else KVConnectorType.HTTP,
        }
        return common.model_copy(update=update)
    port = route.spec.workload_port
    connector = route.spec.kv_connector
    return common.model_copy(
        update={
            "pd_group": route.spec.pd_group or _role_group(serving),
            "connector": connector.type if connector else KVConnectorType.HTTP,
            "bootstrap_port": connector.bootstrap_port if connector else None,
            "port": port.port if port else _container_port(serving, path=path),
            "protocol": port.protocol if port else common.protocol,
        }
    )


def _typed_engines(serving: ModelServing) -> dict[str, tuple[Engine, Engine]]:
    """Return for each typed role its own engine and the shared one, either of which may be empty."""
    shared = serving.spec.template.engine
    return {
        role.name: (role.engine or Engine(), shared or Engine())
        for role in serving.spec.template.roles
        if role.engine is not None or shared is not None
    }


def _phase_group(typed: Mapping[str, tuple[Engine, Engine]]) -> PDGroup | None:
    phases = {_phase(name, own, shared) for name, (own, shared) in typed.items()}
    if not phases & {Phase.PREFILL, Phase.DECODE}:
        return None
    return PDGroup(
        group_key=labels.GROUP_NAME,
        prefill_labels={labels.PHASE: Phase.PREFILL.value},
        decode_labels={labels.PHASE: Phase.DECODE.value},
    )


def _phase(role: str, own: Engine, shared: Engine) -> Phase:
    named = Phase(role) if role in {Phase.PREFILL, Phase.DECODE} else Phase.AGGREGATED
    return own.phase or shared.phase or named


def _served_name(serving: ModelServing, engines: Iterable[tuple[Engine, Engine]]) -> str:
    for pair in engines:
        for engine in pair:
            if engine.model is not None and engine.model.served_name:
                return engine.model.served_name
    return serving.metadata.name


def _typed_connector(engines: Collection[tuple[Engine, Engine]]) -> KVConnectorType:
    for own, shared in engines:
        for engine in (own, shared):
            if engine.kv_transfer is None or engine.kv_transfer.connector is None:
                continue
            return _CONNECTORS[engine.kv_transfer.connector]
    # The default of rendering: what moves KV on Ascend does not run elsewhere.
    kinds = {own.kind or shared.kind for own, shared in engines}
    return KVConnectorType.NIXL if EngineKind.VLLM in kinds else KVConnectorType.MOONCAKE


def _role_group(serving: ModelServing) -> PDGroup | None:
    names = {role.name for role in serving.spec.template.roles}
    if not {Phase.PREFILL.value, Phase.DECODE.value} <= names:
        return None
    return PDGroup(
        group_key=labels.GROUP_NAME,
        prefill_labels={labels.ROLE: Phase.PREFILL.value, labels.ENTRY: "true"},
        decode_labels={labels.ROLE: Phase.DECODE.value, labels.ENTRY: "true"},
    )


def _container_port(serving: ModelServing, *, path: str) -> int:
    for role in sorted(serving.spec.template.roles, key=lambda role: role.name != Phase.DECODE):
        found = _first_port(role)
        if found is not None:
            return found
    raise UnresolvedError(
        path,
        "the ModelServing's containers declare no port; set spec.workloadPort of the route, or add a containerPort",
    )


def _first_port(role: Role) -> int | None:
    if role.entry_template is None:
        return None
    for container in role.entry_template.spec.get("containers") or []:
        for port in container.get("ports") or []:
            number = port.get("containerPort")
            if isinstance(number, int):
                return number
    return None
