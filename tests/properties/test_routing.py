from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import astuple
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from baton.api.endpoints import Phase
from baton.api.router_config import RouterConfig
from baton.router.endpoints import EndpointSet
from baton.routing.document import DocumentError, read_document
from baton.routing.endpoints import PodFacts, endpoints_of, facts_of
from baton.routing.pick.groups import EndpointGroups, are_compatible
from baton.routing.pick.least_loaded import MOST_ENDPOINTS, MOST_GROUPS, choose_one, choose_pair
from baton.routing.table import RoutingTable
from baton.routing.types import Endpoint, Load, RequestFacts
from routing_builders import PD_GROUP, config, endpoint, pod, selector

if TYPE_CHECKING:
    import random

    from hypothesis.strategies import SearchStrategy

    from baton.api.meta import JsonObject

MODELS = ("m", "n", "lora")
rolls = st.floats(0, 1, exclude_max=True)
texts = st.sampled_from(["", "a", "ab", "/v1/", "(", "a+$", "[b", "a{99999999999999}"])
string_matches = st.fixed_dictionaries({}, optional={"exact": texts, "prefix": texts, "regex": texts})
matches = st.fixed_dictionaries(
    {},
    optional={
        "headers": st.dictionaries(st.sampled_from(["X-A", "b"]), string_matches, max_size=2),
        "uri": string_matches,
        "body": st.fixed_dictionaries({}, optional={"model": st.sampled_from(MODELS)}),
    },
)


def rules(backends: list[str]) -> SearchStrategy[JsonObject]:
    targets = st.fixed_dictionaries({"backend": st.sampled_from(backends)}, optional={"weight": st.integers(0, 10**20)})
    return st.fixed_dictionaries(
        {"targets": st.lists(targets, min_size=1, max_size=3)},
        optional={"match": matches, "name": st.sampled_from(["", "first"])},
    )


def routes(backends: list[str]) -> SearchStrategy[JsonObject]:
    return st.fixed_dictionaries(
        {"name": st.sampled_from(["a", "b"]), "rules": st.lists(rules(backends), min_size=1, max_size=3)},
        optional={
            "modelName": st.sampled_from(MODELS),
            "loraAdapters": st.lists(st.sampled_from(MODELS), max_size=2),
            "created": st.sampled_from(["", "x", "2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+09:00"]),
        },
    )


@st.composite
def configs(draw: st.DrawFn) -> RouterConfig:
    names = draw(st.lists(st.sampled_from(["x", "y"]), min_size=1, max_size=2, unique=True))
    models = st.sampled_from([None, "engine", "other"])
    document = {
        "routes": draw(st.lists(routes(names), max_size=3)),
        "backends": [{"name": name, "model": draw(models)} for name in names],
    }
    return RouterConfig.model_validate(document)


facts = st.builds(
    RequestFacts,
    model=st.sampled_from([*MODELS, "unknown"]),
    path=texts,
    headers=st.dictionaries(st.sampled_from(["x-a", "b"]), texts, max_size=2),
)


@given(documents=st.lists(configs(), max_size=4), asked=facts, roll=rolls)
def test_matching_takes_every_document_and_request(
    documents: list[RouterConfig], asked: RequestFacts, roll: float
) -> None:
    table = RoutingTable.build(documents)
    match = table.match(asked, roll)
    if match is not None:
        assert asked.model in table.models()
        (document,) = [found for found in documents if any(match.backend is backend for backend in found.backends)]
        (route, *_) = [found for found in document.routes if found.name == match.route]
        assert route is not None
        assert match.model in {None, match.backend.model}


@given(documents=st.lists(configs(), max_size=4), asked=facts, roll=rolls, order=st.randoms(use_true_random=False))
def test_matching_does_not_depend_on_the_order_of_documents(
    documents: list[RouterConfig], asked: RequestFacts, roll: float, order: random.Random
) -> None:
    shuffled = list(documents)
    order.shuffle(shuffled)
    one, other = RoutingTable.build(documents), RoutingTable.build(shuffled)
    assert one.models() == other.models()
    assert one.match(asked, roll) == other.match(asked, roll)


@given(text=st.text(max_size=60) | st.text(alphabet="[]{}:,-&*!?|>'\"%@ \nab", max_size=60))
def test_any_text_is_a_document_or_a_document_error(text: str) -> None:
    with suppress(DocumentError):
        assert isinstance(read_document(text), RouterConfig)


@given(announcement=st.none() | st.text(max_size=30) | st.sampled_from(['{"port": 1}', '{"port": 65535, "ranks": 2}']))
def test_any_annotation_gives_endpoints_or_a_problem(announcement: str | None) -> None:
    found = facts_of(pod("p-0", announced=announcement))
    offered = endpoints_of(found, RouterConfig.model_validate({"backends": [{"name": "b"}]}).backends[0])
    assert bool(offered) is not bool(found.problem)


@st.composite
def endpoint_lists(draw: st.DrawFn) -> list[Endpoint]:
    count = draw(st.integers(0, 12))
    return [
        endpoint(
            f"e{number}",
            draw(st.sampled_from(Phase)),
            group=draw(st.sampled_from(["g", "h", "i"])),
            kv_transfer=draw(st.sampled_from(["", "x", "y"])),
        )
        for number in range(count)
    ]


loads_of = st.dictionaries(
    st.integers(0, 11).map(lambda number: f"e{number}"), st.builds(Load, st.integers(0, 3), st.integers(0, 3))
)
exclusions = st.frozensets(st.integers(0, 11).map(lambda number: f"e{number}"))


def fitting_pairs(endpoints: list[Endpoint], excluded: frozenset[str]) -> list[tuple[Endpoint, Endpoint]]:
    left = [one for one in endpoints if one.name not in excluded]
    return [
        (prefill, decode)
        for prefill in left
        for decode in left
        if (prefill.phase, decode.phase) == (Phase.PREFILL, Phase.DECODE)
        and prefill.group == decode.group
        and are_compatible(prefill.kv_transfer, decode.kv_transfer)
    ]


@given(endpoints=endpoint_lists(), loads=loads_of, excluded=exclusions, rolled=st.tuples(rolls, rolls, rolls))
def test_a_pair_is_chosen_exactly_if_one_fits_and_is_not_excluded(
    endpoints: list[Endpoint], loads: dict[str, Load], excluded: frozenset[str], rolled: tuple[float, float, float]
) -> None:
    choice = choose_pair(EndpointGroups.of_endpoints(endpoints), loads=loads, excluded=excluded, rolls=rolled)
    fitting = fitting_pairs(endpoints, excluded)
    if choice is None:
        assert fitting == []
    else:
        assert (choice.prefill, choice.decode) in fitting


@given(endpoints=endpoint_lists(), loads=loads_of, excluded=exclusions, rolled=st.tuples(rolls, rolls, rolls))
def test_no_compared_pair_has_less_to_do_on_both_sides(
    endpoints: list[Endpoint], loads: dict[str, Load], excluded: frozenset[str], rolled: tuple[float, float, float]
) -> None:
    groups = EndpointGroups.of_endpoints(endpoints)
    choice = choose_pair(groups, loads=loads, excluded=excluded, rolls=rolled)
    if choice is None or choice.prefill is None or len(groups.pairs) > MOST_GROUPS:
        return
    requests = {one.name: loads.get(one.name, Load()).requests for one in endpoints}
    prefill, decode = requests[choice.prefill.name], requests[choice.decode.name]
    for other_prefill, other_decode in fitting_pairs(endpoints, excluded):
        other = requests[other_prefill.name], requests[other_decode.name]
        assert other == (prefill, decode) or other[0] > prefill or other[1] > decode


@given(endpoints=endpoint_lists(), loads=loads_of, excluded=exclusions, roll=rolls)
def test_the_one_endpoint_is_least_loaded_and_not_excluded(
    endpoints: list[Endpoint], loads: dict[str, Load], excluded: frozenset[str], roll: float
) -> None:
    choice = choose_one(EndpointGroups.of_endpoints(endpoints), loads=loads, excluded=excluded, roll=roll)
    left = [one for one in endpoints if one.phase is Phase.AGGREGATED and one.name not in excluded]
    if choice is None:
        assert left == []
        return
    assert choice.decode in left
    order = {one.name: astuple(loads.get(one.name, Load())) for one in left}
    assert order[choice.decode.name] == min(order.values())


@settings(max_examples=20)
@given(count=st.integers(1, 2 * MOST_ENDPOINTS), load=st.builds(Load, st.integers(0, 3), st.integers(0, 3)))
def test_equally_loaded_endpoints_are_equally_likely(count: int, load: Load) -> None:
    groups = EndpointGroups.of_endpoints([endpoint(str(number)) for number in range(count)])
    loads = {str(number): load for number in range(count)}
    steps = count * min(count, MOST_ENDPOINTS)  # every start with every place in the stretch
    chosen = Counter(
        choice.decode.name
        for step in range(steps)
        if (choice := choose_one(groups, loads=loads, excluded=frozenset(), roll=(step + 0.5) / steps)) is not None
    )
    assert set(chosen.values()) == {steps // count}


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=8), prefills=st.integers(1, 3))
def test_equally_loaded_decode_endpoints_of_all_groups_are_equally_likely(sizes: list[int], prefills: int) -> None:
    endpoints = [
        endpoint(f"{phase}{group}-{number}", phase, group=str(group))
        for group, size in enumerate(sizes)
        for phase, count in ((Phase.PREFILL, prefills), (Phase.DECODE, size))
        for number in range(count)
    ]
    groups = EndpointGroups.of_endpoints(endpoints)
    total, places = sum(sizes), 60  # 60 is divisible by every size
    chosen: Counter[str] = Counter()
    for first in range(total):
        for second in range(places):
            rolled = ((first + 0.5) / total, 0.0, (second + 0.5) / places)
            choice = choose_pair(groups, loads={}, excluded=frozenset(), rolls=rolled)
            assert choice is not None
            chosen[choice.decode.name] += 1
    assert set(chosen.values()) == {places}
    assert len(chosen) == total


pod_changes = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.none()
        | st.builds(
            lambda role, group, ready, address: {
                "own": {"role": role, "group": group},
                "ready": ready,
                "address": address,
            },
            st.sampled_from(["prefill", "decode", "other"]),
            st.sampled_from(["g", "h", ""]),
            st.booleans(),
            st.sampled_from(["10.0.0.1", "10.0.0.2"]),
        ),
    ),
    max_size=20,
)


@given(changes=pod_changes)
def test_endpoints_that_followed_every_change_are_those_of_the_pods_that_are_left(
    changes: list[tuple[int, JsonObject | None]],
) -> None:
    (backend,) = config(backend={"selector": selector(), "pdGroup": PD_GROUP}).backends
    live = EndpointSet(backend)
    pods: dict[int, PodFacts] = {}
    for number, fields in changes:
        old, new = pods.pop(number, None), None
        if fields is not None:
            new = pods[number] = facts_of(pod(f"p-{number}", **fields))
        live.change(old, new)
        fresh = EndpointSet(backend, pods.values())
        assert set(live) == set(fresh)
        assert pairs_of(live) == pairs_of(fresh)


def pairs_of(live: EndpointSet) -> set[tuple[Endpoint, Endpoint]]:
    return {(prefill, decode) for pair in live.groups.pairs for prefill in pair.prefills for decode in pair.decodes}
