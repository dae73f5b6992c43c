from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.api.router_config import BackendConfig
from baton.router.endpoints import EndpointSet, PodSet, selection_of
from baton.routing.endpoints import facts_of
from routing_builders import PD_GROUP, pod, selector

if TYPE_CHECKING:
    from baton.routing.pick.groups import EndpointGroups


def backend(**fields: object) -> BackendConfig:
    return BackendConfig.model_validate({"name": "b", "selector": selector(), **fields})


def names_of(groups: EndpointGroups) -> list[str]:
    return [endpoint.name for endpoint in groups.aggregated]


def test_selectors_that_mean_the_same_pods_are_equal() -> None:
    one = backend(selector={"namespace": "ns", "matchLabels": {"a": "1", "b": "2"}}).selector
    other = backend(selector={"namespace": "ns", "matchLabels": {"b": "2", "a": "1"}}).selector
    assert one is not None
    assert other is not None
    assert PodSet.of(one) == PodSet.of(other)
    assert PodSet.of(one).label_selector == "a=1,b=2"


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"name": "other", "model": "m", "timeout": 3, "retry": {"attempts": 9}, "connector": "nixl"}, True),
        ({"port": 1}, False),
        ({"protocol": "https"}, False),
        ({"pdGroup": PD_GROUP}, False),
        ({"selector": selector("other")}, False),
    ],
)
def test_backends_share_endpoints_when_they_select_alike(fields: dict[str, object], same: bool) -> None:
    assert (selection_of(backend(**fields)) == selection_of(backend())) is same


def test_pods_come_change_and_go() -> None:
    live = EndpointSet(backend(), [facts_of(pod("p-0"))])
    before = facts_of(pod("p-1"))
    live.change(None, before)
    assert names_of(live.groups) == ["ns/p-0:8000", "ns/p-1:8000"]
    unready = facts_of(pod("p-1", ready=False))
    live.change(before, unready)
    assert names_of(live.groups) == ["ns/p-0:8000"]
    live.change(unready, before)
    live.change(before, None)
    assert names_of(live.groups) == ["ns/p-0:8000"]
    live.change(facts_of(pod("p-0")), None)
    assert names_of(live.groups) == []


def test_a_pod_with_a_new_address_replaces_its_endpoint() -> None:
    live = EndpointSet(backend(), [facts_of(pod("p-0"))])
    live.change(facts_of(pod("p-0")), facts_of(pod("p-0", address="10.0.0.2")))
    assert [endpoint.address for endpoint in live.groups.aggregated] == ["10.0.0.2"]


def test_a_change_leaves_other_groups_as_they_are() -> None:
    def of_group(group: str) -> list[dict[str, object]]:
        return [pod(f"{group}-{role}-0", {"group": group, "role": role}) for role in ("prefill", "decode")]

    live = EndpointSet(backend(pdGroup=PD_GROUP), map(facts_of, [*of_group("a"), *of_group("b")]))
    before = live.groups
    assert live.groups is before
    live.change(facts_of(of_group("b")[0]), None)
    (left,) = live.groups.pairs
    assert left is before.pairs[0]


def test_news_that_change_nothing_keep_the_arrangement() -> None:
    live = EndpointSet(backend(), [facts_of(pod("p-0"))])
    before = live.groups
    live.change(facts_of(pod("p-0")), facts_of(pod("p-0", {"app": "m", "other": "label"})))
    assert live.groups is before


def test_static_endpoints_are_there_from_the_start() -> None:
    live = EndpointSet(backend(selector=None, endpoints=[{"address": "10.0.0.9", "port": 80}]))
    assert live.pods is None
    assert names_of(live.groups) == ["10.0.0.9:80"]
    assert [endpoint.name for endpoint in live] == ["10.0.0.9:80"]
