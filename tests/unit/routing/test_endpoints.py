from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.api import labels
from baton.api.endpoints import Phase
from baton.api.router_config import BackendConfig
from baton.api.traffic import Protocol
from baton.routing.endpoints import endpoints_of, facts_of, static_endpoints_of
from baton.routing.types import Endpoint
from routing_builders import PD_GROUP, pod, selector

if TYPE_CHECKING:
    from baton.api.meta import JsonObject

TYPED = {"port": 7100, "ranks": 2, "phase": "decode", "kvTransfer": "hash"}


def backend(**fields: object) -> BackendConfig:
    return BackendConfig.model_validate({"name": "b", "selector": selector(), **fields})


def offered(found: JsonObject, **fields: object) -> tuple[Endpoint, ...]:
    return endpoints_of(facts_of(found), backend(**fields))


def test_a_raw_pod_is_one_endpoint_at_the_backends_port() -> None:
    assert offered(pod("p-0"), port=9000, protocol="https") == (
        Endpoint("ns/p-0:9000", address="10.0.0.1", port=9000, pod="p-0", protocol=Protocol.HTTPS),
    )


def test_each_dp_rank_of_a_typed_pod_is_an_endpoint() -> None:
    found = offered(pod("s-0-decode-0-3", {"group": "g1"}, announced=TYPED), pdGroup=PD_GROUP)
    assert [(one.name, one.port, one.rank) for one in found] == [
        ("ns/s-0-decode-0-3:7100", 7100, 6),
        ("ns/s-0-decode-0-3:7101", 7101, 7),
    ]
    assert {(one.phase, one.group, one.kv_transfer) for one in found} == {(Phase.DECODE, "g1", "hash")}


def test_what_a_typed_pod_announces_wins_over_its_labels() -> None:
    (found,) = offered(
        pod("p-0", {"group": "g", "role": "decode"}, announced={"port": 7100, "phase": "prefill"}), pdGroup=PD_GROUP
    )
    assert found.phase is Phase.PREFILL


def test_a_pod_name_without_an_ordinal_counts_as_the_first_worker() -> None:
    assert [one.rank for one in offered(pod("engine", announced=TYPED))] == [0, 1]


@pytest.mark.parametrize(
    ("own", "phase"),
    [
        ({"role": "decode"}, Phase.DECODE),
        ({"role": "prefill"}, Phase.PREFILL),
    ],
)
def test_labels_tell_the_phase_of_a_raw_pod(own: dict[str, str], phase: Phase) -> None:
    (found,) = offered(pod("p-0", {"group": "g1", **own}), pdGroup=PD_GROUP)
    assert (found.phase, found.group) == (phase, "g1")


def test_decode_labels_are_looked_at_first() -> None:
    both = {**PD_GROUP, "prefillLabels": {"app": "m"}, "decodeLabels": {"app": "m"}}
    (found,) = offered(pod("p-0", {"app": "m", "group": "g"}), pdGroup=both)
    assert found.phase is Phase.DECODE


def test_a_pod_that_is_neither_prefill_nor_decode_is_no_endpoint_of_pairs() -> None:
    assert offered(pod("p-0", {"group": "g", "role": "proxy"}), pdGroup=PD_GROUP) == ()


def test_a_pod_without_the_groups_label_cannot_pair() -> None:
    assert offered(pod("p-0", {"role": "decode"}), pdGroup=PD_GROUP) == ()
    assert offered(pod("p-0", announced=TYPED), pdGroup=PD_GROUP) == ()


def test_without_a_pd_group_the_serving_group_is_the_group() -> None:
    (found,) = offered(pod("p-0", {labels.GROUP_NAME: "s-0"}))
    assert found.group == "s-0"


@pytest.mark.parametrize(
    "found",
    [
        pod("p-0", ready=False),
        pod("p-0", deleting=True),
        pod("p-0", address=""),
        pod("p-0", annotations={labels.DRAINING: ""}),
        {**pod("p-0"), "status": {**pod("p-0")["status"], "phase": "Failed"}},
        {**pod("p-0"), "status": None},
        {"metadata": {"name": "p-0"}},
    ],
    ids=["unready", "deleting", "without address", "draining", "failed", "null status", "bare"],
)
def test_a_pod_that_takes_no_requests_is_no_endpoint(found: JsonObject) -> None:
    assert offered(found) == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "document: Invalid JSON"),
        ("[]", "document: "),
        ('{"port": 0}', "port: "),
        ('{"port": 1, "phase": "both"}', "phase: "),
        ('{"port": 65000, "ranks": 1000}', "ranks: 1000 ranks from port 65000 on end above port 65535"),
        ('{"port": 1, "ranks": 1000000000000}', "ranks: "),
    ],
)
def test_a_malformed_annotation_makes_a_pod_no_endpoint_and_says_why(text: str, problem: str) -> None:
    facts = facts_of(pod("p-0", announced=text))
    assert facts.problem.startswith(problem)
    assert endpoints_of(facts, backend()) == ()


def test_a_headless_pod_is_no_endpoint_and_no_problem() -> None:
    facts = facts_of(pod("p-0", announced='{"port": 7100, "ranks": 0}'))

    assert (facts.problem, endpoints_of(facts, backend())) == ("", ())


def test_the_ranks_of_a_static_endpoint_have_consecutive_ports() -> None:
    found = static_endpoints_of(
        backend(endpoints=[{"address": "10.0.0.9", "port": 7100, "ranks": 2, "phase": "prefill", "group": "g"}])
    )
    assert found == (
        Endpoint("10.0.0.9:7100", address="10.0.0.9", port=7100, rank=0, phase=Phase.PREFILL, group="g"),
        Endpoint("10.0.0.9:7101", address="10.0.0.9", port=7101, rank=1, phase=Phase.PREFILL, group="g"),
    )


def test_an_ipv6_endpoint_is_named_as_in_a_url() -> None:
    (found,) = static_endpoints_of(backend(endpoints=[{"address": "fd00::1", "port": 80}]))
    assert (found.name, found.address) == ("[fd00::1]:80", "fd00::1")
