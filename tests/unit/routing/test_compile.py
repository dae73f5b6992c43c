from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from baton.api import labels
from baton.api.endpoints import Phase
from baton.api.kv_transfer import KVConnector
from baton.api.route import ModelRoute
from baton.api.server import ModelServer
from baton.api.serving import ModelServing
from baton.api.traffic import KVConnectorType
from baton.routing.compile import Compiled, compile_route, references

if TYPE_CHECKING:
    from baton.api.router_config import BackendConfig

PD_GROUP = {"groupKey": "group", "prefillLabels": {"role": "p"}, "decodeLabels": {"role": "d"}}


def route(*targets: dict[str, Any], **spec: Any) -> ModelRoute:
    document = {
        "metadata": {"name": "r", "namespace": "ns", "creationTimestamp": "2026-01-31T12:00:00Z"},
        "spec": {"modelName": "m", "rules": [{"targetModels": list(targets)}], **spec},
    }
    return ModelRoute.read(document)


def server(**spec: Any) -> ModelServer:
    base = {
        "inferenceEngine": "vLLM",
        "workloadSelector": {"matchLabels": {"app": "x"}},
        "workloadPort": {"port": 8000},
    }
    return ModelServer.read({"metadata": {"name": "s", "namespace": "ns"}, "spec": {**base, **spec}})


def raw_role(name: str, port: int | None = 7100) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "c", "image": "i"}
    if port is not None:
        container["ports"] = [{"containerPort": port}]
    return {"name": name, "workerReplicas": 0, "entryTemplate": {"spec": {"containers": [container]}}}


def serving(*roles: dict[str, Any], **template: Any) -> ModelServing:
    document = {"metadata": {"name": "v", "namespace": "ns"}, "spec": {"template": {"roles": list(roles), **template}}}
    return ModelServing.read(document)


def compiled(given: ModelRoute, *, server: ModelServer | None = None, serving: ModelServing | None = None) -> Compiled:
    return compile_route(given, servers={"s": server} if server else {}, servings={"v": serving} if serving else {})


def backend(result: Compiled) -> BackendConfig:
    assert result.problems == ()
    assert result.config is not None
    (found,) = result.config.backends
    return found


TO_SERVER = {"modelServerName": "s"}
TO_SERVING = {"modelServingName": "v"}


def test_a_model_server_says_which_pods_where_and_how() -> None:
    given = server(
        model="upstream",
        workloadSelector={"matchLabels": {"app": "x"}, "pdGroup": PD_GROUP},
        kvConnector={"type": "nixl"},
        trafficPolicy={"timeout": "1m30s", "retry": {"attempts": 3, "retryInterval": "150ms"}},
    )

    found = backend(compiled(route(TO_SERVER), server=given))

    assert (found.name, found.model, found.port) == ("server/s", "upstream", 8000)
    assert found.selector is not None
    assert (found.selector.namespace, found.selector.match_labels) == ("ns", {"app": "x"})
    assert found.connector is KVConnectorType.NIXL
    assert found.pd_group is not None
    assert (found.timeout, found.retry.attempts, found.retry.interval) == (90.0, 3, 0.15)


def test_what_the_route_carries_fills_in_and_its_traffic_policy_wins() -> None:
    given = route(TO_SERVER, pdGroup=PD_GROUP, kvConnector={"type": "mooncake"}, trafficPolicy={"timeout": "5s"})

    found = backend(compiled(given, server=server(trafficPolicy={"timeout": "1s"})))

    assert found.pd_group is not None
    assert found.connector is KVConnectorType.MOONCAKE
    assert found.timeout == 5.0


def test_a_typed_serving_needs_nothing_else() -> None:
    given = serving(
        {"name": "prefill", "engine": {"parallel": {"data": 4}}},
        {"name": "decode", "engine": {"kvTransfer": {"connector": "MooncakeConnectorV1"}}},
        engine={"model": {"servedName": "dsv4"}},
    )

    found = backend(compiled(route(TO_SERVING), serving=given))

    assert found.model == "dsv4"
    assert found.connector is KVConnectorType.MOONCAKE
    assert found.pd_group is not None
    assert found.pd_group.decode_labels == {labels.PHASE: Phase.DECODE}
    assert found.selector is not None
    assert found.selector.match_labels == {labels.NAME: "v"}


def test_engines_that_are_not_ascends_hand_over_by_nixl() -> None:
    given = serving({"name": "prefill"}, {"name": "decode", "engine": {}}, engine={"kind": "vLLM"})

    assert backend(compiled(route(TO_SERVING), serving=given)).connector is KVConnectorType.NIXL


def test_a_typed_serving_without_a_served_name_is_called_by_its_own() -> None:
    assert backend(compiled(route(TO_SERVING), serving=serving({"name": "server"}, engine={}))).model == "v"


def test_a_typed_serving_of_one_phase_is_aggregated() -> None:
    found = backend(compiled(route(TO_SERVING), serving=serving({"name": "server"}, engine={})))

    assert found.pd_group is None
    assert found.connector is KVConnectorType.HTTP


def test_raw_prefill_and_decode_roles_pair_up_by_their_names() -> None:
    given = serving(raw_role("prefill", 7000), raw_role("decode", 7001))

    found = backend(compiled(route(TO_SERVING, kvConnector={"type": "mooncake"}), serving=given))

    assert found.pd_group is not None
    assert found.pd_group.prefill_labels[labels.ROLE] == "prefill"
    assert found.port == 7001, "the decode container's port"


def test_the_routes_port_wins_over_the_containers() -> None:
    given = serving(raw_role("server", 7000))

    assert backend(compiled(route(TO_SERVING, workloadPort={"port": 9000}), serving=given)).port == 9000


@pytest.mark.parametrize(
    ("given", "path", "words"),
    [
        (route(TO_SERVER), "spec.rules[0].targetModels[0].modelServerName", "no usable ModelServer 's'"),
        (route(TO_SERVING), "spec.rules[0].targetModels[0].modelServingName", "there are: none"),
        (
            route({"externalModelProviderName": "e"}),
            "spec.rules[0].targetModels[0].externalModelProviderName",
            "name a ModelServer",
        ),
        (route({}), "spec.rules[0].targetModels[0]", "name a target"),
        (route(rules=[]), "spec.rules", "add one"),
    ],
)
def test_what_does_not_resolve_is_named_with_a_cure(given: ModelRoute, path: str, words: str) -> None:
    result = compiled(given)

    assert result.config is None
    (problem,) = result.problems
    assert problem.path == path
    assert words in problem.message


def test_a_serving_without_any_port_asks_for_one() -> None:
    (problem,) = compiled(route(TO_SERVING), serving=serving(raw_role("server", None))).problems

    assert "spec.workloadPort" in problem.message


@pytest.mark.parametrize("connector", KVConnector)
def test_every_connector_of_an_engine_is_routed(connector: KVConnector) -> None:
    given = serving({"name": "prefill"}, {"name": "decode"}, engine={"kvTransfer": {"connector": connector.value}})

    found = backend(compiled(route(TO_SERVING), serving=given))

    is_layerwise = found.connector is KVConnectorType.MOONCAKE_LAYERWISE
    assert is_layerwise == (connector is KVConnector.MOONCAKE_LAYERWISE)


@pytest.mark.parametrize(
    ("given", "connector", "port"),
    [
        ({}, "sglang", None),
        ({"kvConnector": {"type": "sglang", "bootstrapPort": 8998}}, "sglang", 8998),
        ({"kvConnector": {"type": "nixl"}}, "nixl", None),
    ],
)
def test_sglang_pods_meet_by_bootstrap_unless_a_connector_is_named(
    given: dict[str, Any], connector: str, port: int | None
) -> None:
    selector = {"matchLabels": {"app": "x"}, "pdGroup": PD_GROUP}

    found = backend(
        compiled(route(TO_SERVER), server=server(inferenceEngine="SGLang", workloadSelector=selector, **given))
    )

    assert (found.connector, found.bootstrap_port) == (connector, port)


def test_one_unresolved_target_fails_the_whole_route() -> None:
    assert compiled(route(TO_SERVER, TO_SERVING), server=server()).config is None


def test_two_targets_of_one_backend_share_it() -> None:
    result = compiled(route(TO_SERVER, TO_SERVER), server=server())

    assert result.config is not None
    assert len(result.config.backends) == 1
    assert len(result.config.routes[0].rules[0].targets) == 2


def test_references_are_what_a_route_points_to() -> None:
    assert references(route(TO_SERVER, TO_SERVING)) == ({"s"}, {"v"})
