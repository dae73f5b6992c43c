"""Properties of compiling routes: total, and the document it gives is one the router takes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from baton.api.route import ModelRoute
from baton.api.router_config import RouterConfig
from baton.api.server import ModelServer
from baton.api.serving import ModelServing
from baton.routing.compile import compile_route
from baton.routing.table import RoutingTable

NAMES = st.sampled_from(["a", "b", "c", "absent"])
CONNECTORS = ["MooncakeHybridConnector", "MooncakeConnectorV1", "MooncakeLayerwiseConnector", "NixlConnector"]
PD_GROUP = {"groupKey": "group", "prefillLabels": {"role": "p"}, "decodeLabels": {"role": "d"}}


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


TARGETS = st.one_of(
    st.builds(lambda name, weight: {"modelServerName": name, "weight": weight}, NAMES, st.integers(0, 100)),
    st.builds(lambda name: {"modelServingName": name}, NAMES),
    st.builds(lambda name: {"externalModelProviderName": name}, NAMES),
    st.just({}),
)
SHARED = {
    "pdGroup": st.just(PD_GROUP),
    "kvConnector": st.builds(lambda kind: {"type": kind}, st.sampled_from(["http", "nixl", "mooncake", "lmcache"])),
    "trafficPolicy": st.builds(lambda attempts: {"timeout": "3s", "retry": {"attempts": attempts}}, st.integers(0, 5)),
}
ROUTES = st.builds(
    lambda rules, shared: ModelRoute.read(
        {
            "metadata": {"name": "r", "namespace": "ns"},
            "spec": {"modelName": "m", "rules": [{"targetModels": targets} for targets in rules], **shared},
        }
    ),
    st.lists(st.lists(TARGETS, min_size=1, max_size=3), max_size=3),
    optional(**SHARED, workloadPort=st.just({"port": 9000})),
)
SERVERS = st.builds(
    lambda engine, pd_group, shared: {
        "inferenceEngine": engine,
        "workloadSelector": {"matchLabels": {"app": "x"}, **pd_group},
        "workloadPort": {"port": 8000},
        **shared,
    },
    st.sampled_from(["vLLM", "SGLang"]),
    optional(pdGroup=st.just(PD_GROUP)),
    optional(kvConnector=SHARED["kvConnector"], trafficPolicy=SHARED["trafficPolicy"]),
)
ENGINES = optional(
    phase=st.sampled_from(["prefill", "decode", "aggregated"]),
    model=st.just({"servedName": "served"}),
    kvTransfer=st.builds(lambda name: {"connector": name}, st.sampled_from(CONNECTORS)),
)
RAW = st.builds(
    lambda ports: {
        "workerReplicas": 0,
        "entryTemplate": {"spec": {"containers": [{"name": "c", "ports": ports}]}},
    },
    st.sampled_from([[], [{"containerPort": 7100}], [{"name": "no number"}]]),
)
ROLES = st.builds(
    lambda name, body: {"name": name, **body},
    st.sampled_from(["prefill", "decode", "server"]),
    st.one_of(RAW, st.builds(lambda engine: {"engine": engine}, ENGINES)),
)
SERVINGS = st.builds(
    lambda roles, shared: {"template": {"roles": roles, **shared}},
    st.lists(ROLES, min_size=1, max_size=3, unique_by=lambda role: role["name"]),
    optional(engine=ENGINES),
)


def objects(kind: type[Any], specs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        name: kind.read({"metadata": {"name": name, "namespace": "ns"}, "spec": spec}) for name, spec in specs.items()
    }


PRESENT = st.sampled_from(["a", "b", "c"])


@given(ROUTES, st.dictionaries(PRESENT, SERVERS), st.dictionaries(PRESENT, SERVINGS))
def test_compiling_is_total_and_its_document_is_one_the_router_takes(
    route: ModelRoute, servers: dict[str, dict[str, Any]], servings: dict[str, dict[str, Any]]
) -> None:
    result = compile_route(route, servers=objects(ModelServer, servers), servings=objects(ModelServing, servings))

    assert (result.config is None) == bool(result.problems)
    assert all(problem.path.startswith("spec.rules") and problem.message for problem in result.problems)
    if result.config is not None:
        assert RouterConfig.model_validate(result.config.document()) == result.config
        assert RoutingTable.build([result.config]).models() == ["m"]


@given(ROUTES, st.dictionaries(PRESENT, SERVERS), st.dictionaries(PRESENT, SERVINGS))
def test_compiling_does_not_depend_on_the_order_of_the_objects(
    route: ModelRoute, servers: dict[str, dict[str, Any]], servings: dict[str, dict[str, Any]]
) -> None:
    first = compile_route(route, servers=objects(ModelServer, servers), servings=objects(ModelServing, servings))
    turned = compile_route(
        route,
        servers=objects(ModelServer, dict(reversed(servers.items()))),
        servings=objects(ModelServing, dict(reversed(servings.items()))),
    )

    assert turned == first
