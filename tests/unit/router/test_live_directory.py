from __future__ import annotations

from typing import TYPE_CHECKING

from baton.router.endpoints import PodSet
from baton.router.live_directory import LiveDirectory
from baton.routing.ejection import EjectionPolicy
from baton.routing.endpoints import PodFacts, facts_of
from baton.routing.types import RequestFacts
from routing_builders import PD_GROUP, config, pod, selector

if TYPE_CHECKING:
    from baton.api.router_config import RouterConfig
    from baton.routing.types import Choice, Match

PODS = PodSet("ns", (("app", "m"),))


def directory_of(*configs: RouterConfig, pods: tuple[PodFacts, ...] = ()) -> LiveDirectory:
    directory = LiveDirectory(lambda: 0.0)
    directory.publish(configs, pods_of=lambda wanted: pods if wanted == PODS else ())
    return directory


def match_of(directory: LiveDirectory, model: str = "m") -> Match:
    match = directory.match(RequestFacts(model, "/v1/completions"))
    assert match is not None
    return match


def chosen(directory: LiveDirectory, **excluding: frozenset[str]) -> str | None:
    choice = directory.choose(match_of(directory), **excluding)
    return None if choice is None else choice.decode.name


def static(*ports: int, **fields: object) -> dict[str, object]:
    return {"endpoints": [{"address": "10.0.0.9", "port": port} for port in ports], **fields}


def pair_of(choice: Choice | None) -> tuple[str, str]:
    assert choice is not None
    assert choice.prefill is not None
    return choice.prefill.name, choice.decode.name


def test_a_new_directory_knows_nothing() -> None:
    directory = LiveDirectory(lambda: 0.0)
    assert (directory.ready, directory.models(), directory.endpoints()) == (False, [], set())
    assert directory.match(RequestFacts("m", "/")) is None


def test_it_is_ready_once_it_is_told() -> None:
    directory = directory_of()
    directory.set_ready()
    assert directory.ready


def test_pods_known_at_publication_are_endpoints() -> None:
    directory = directory_of(config(backend={"selector": selector()}), pods=(facts_of(pod("p-0")),))
    assert chosen(directory) == "ns/p-0:8000"
    assert {endpoint.name for endpoint in directory.endpoints()} == {"ns/p-0:8000"}


def test_pods_come_and_go() -> None:
    directory = directory_of(config(backend={"selector": selector()}))
    assert chosen(directory) is None
    facts = facts_of(pod("p-0"))
    directory.change_pod(PODS, None, facts)
    assert chosen(directory) == "ns/p-0:8000"
    directory.change_pod(PODS, facts, None)
    assert chosen(directory) is None


def test_pods_of_another_set_change_nothing() -> None:
    directory = directory_of(config(backend={"selector": selector()}))
    directory.change_pod(PodSet("other", PODS.labels), None, facts_of(pod("p-0", namespace="other")))
    assert chosen(directory) is None


def test_requests_in_flight_send_the_next_one_elsewhere() -> None:
    directory = directory_of(config(backend=static(1, 2)))
    first = directory.choose(match_of(directory))
    assert first is not None
    directory.started(first.decode, 100)
    assert chosen(directory) == "10.0.0.9:2"
    directory.finished(first.decode, 100)
    assert chosen(directory) == "10.0.0.9:1"


def test_several_requests_at_one_endpoint_are_counted() -> None:
    directory = directory_of(config(backend=static(1, 2)))
    first, second = sorted(directory.endpoints(), key=lambda endpoint: endpoint.port)
    for endpoint, size in ((first, 10), (first, 20), (second, 10)):
        directory.started(endpoint, size)
    assert chosen(directory) == second.name
    directory.finished(first, 10)
    assert chosen(directory) == second.name  # as many requests, fewer bytes
    directory.started(second, 1)
    assert chosen(directory) == first.name


def test_what_is_in_flight_at_a_pod_that_went_is_remembered_until_it_ends() -> None:
    facts = (facts_of(pod("p-0")), facts_of(pod("p-1")))
    directory = directory_of(config(backend={"selector": selector()}), pods=facts)
    choice = directory.choose(match_of(directory))
    assert choice is not None
    directory.started(choice.decode, 1)
    directory.change_pod(PODS, facts[0], None)
    directory.change_pod(PODS, None, facts[0])
    assert chosen(directory) == "ns/p-1:8000"
    directory.change_pod(PODS, facts[0], None)
    directory.finished(choice.decode, 1)
    directory.change_pod(PODS, None, facts[0])
    assert chosen(directory, excluded=frozenset({"ns/p-1:8000"})) == "ns/p-0:8000"


def test_a_backend_with_a_pd_group_takes_pairs_only() -> None:
    whole = facts_of(pod("p-0", {"group": "g"}, announced={"port": 1}))
    backend = {"selector": selector(), "pdGroup": PD_GROUP}
    directory = directory_of(config(backend=backend), pods=(whole,))
    assert chosen(directory) is None
    for role in ("prefill", "decode"):
        directory.change_pod(PODS, None, facts_of(pod(role, {"group": "g", "role": role})))
    assert pair_of(directory.choose(match_of(directory))) == ("ns/prefill:8000", "ns/decode:8000")


def test_endpoints_that_announce_their_phase_pair_without_a_pd_group() -> None:
    backend = static(1, 2)
    endpoints = [
        {"address": "10.0.0.9", "port": port, "phase": phase} for port, phase in ((1, "prefill"), (2, "decode"))
    ]
    directory = directory_of(config(backend={**backend, "endpoints": endpoints}))
    assert pair_of(directory.choose(match_of(directory))) == ("10.0.0.9:1", "10.0.0.9:2")


def test_a_new_publication_replaces_routes_and_endpoints() -> None:
    directory = directory_of(config("m", backend=static(1)))
    directory.publish([config("n", backend=static(2))])
    assert directory.models() == ["n"]
    assert {endpoint.port for endpoint in directory.endpoints()} == {2}


def test_endpoints_stay_when_only_the_rules_change() -> None:
    directory = directory_of(config(backend={"selector": selector()}), pods=(facts_of(pod("p-0")),))
    directory.publish([config(backend={"selector": selector(), "model": "renamed"})])
    assert chosen(directory) == "ns/p-0:8000"


def test_a_request_from_before_a_publication_finds_the_endpoints_of_today() -> None:
    directory = directory_of(config(backend=static(1)))
    match = match_of(directory)
    directory.publish([config(backend=static(2))])
    choice = directory.choose(match)
    assert choice is not None
    assert choice.decode.port == 2
    directory.publish([])
    assert directory.choose(match) is None


def test_backends_of_one_name_in_two_documents_stay_apart() -> None:
    one, other = config("m", name="r", backend=static(1)), config("n", name="r", backend=static(2))
    directory = directory_of(one, other)
    ports = [choice.decode.port for model in "mn" if (choice := directory.choose(match_of(directory, model)))]
    assert ports == [1, 2]


def test_an_endpoint_that_keeps_failing_is_left_out_for_a_while() -> None:
    now = 100.0
    directory = LiveDirectory(lambda: 0.0, clock=lambda: now, ejection=EjectionPolicy(failures=2))
    directory.publish([config(backend=static(1, 2))])
    first, second = sorted(directory.endpoints(), key=lambda endpoint: endpoint.port)
    for _ in range(2):
        directory.failed(first)

    assert (chosen(directory), directory.ejected()) == (second.name, 1)
    now = 105.0
    assert chosen(directory) == first.name
    directory.started(first, 1)
    directory.finished(first, 1)
    assert chosen(directory) == second.name
    directory.answered(first)
    assert (chosen(directory), directory.ejected()) == (first.name, 0)


def test_an_endpoint_that_is_gone_when_it_fails_is_not_remembered() -> None:
    directory = LiveDirectory(lambda: 0.0, ejection=EjectionPolicy(failures=1))
    directory.publish([config(backend=static(1))])
    [gone] = directory.endpoints()
    directory.publish([config(backend=static(2))])
    directory.failed(gone)

    assert directory.ejected() == 0


def test_a_backend_whose_endpoints_have_all_they_may_have_is_full() -> None:
    directory = directory_of(config(backend=static(1, maxRequests=1)))
    [endpoint] = directory.endpoints()
    assert not directory.is_full(match_of(directory))
    directory.started(endpoint, 1)

    assert (chosen(directory), directory.is_full(match_of(directory))) == (None, True)


def test_a_backend_without_endpoints_or_limit_is_not_full() -> None:
    assert not directory_of(config()).is_full(match_of(directory_of(config())))
    directory = directory_of(config(backend={"maxRequests": 1}))
    assert not directory.is_full(match_of(directory))
