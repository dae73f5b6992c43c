from __future__ import annotations

from baton.routing.pick.groups import EndpointGroups
from baton.routing.pick.least_loaded import MOST_ENDPOINTS, MOST_GROUPS, choose_one, choose_pair, least_loaded
from baton.routing.types import Load
from routing_builders import decode, endpoint, prefill

NONE: frozenset[str] = frozenset()
PAIRS = EndpointGroups.of_endpoints(
    [
        prefill("p1", "a"),
        prefill("p2", "a"),
        decode("d1", "a"),
        decode("d2", "a"),
        prefill("p3", "b"),
        decode("d3", "b"),
    ]
)


def names_of(groups: EndpointGroups, loads: dict[str, Load], excluded: frozenset[str] = NONE) -> tuple[str, str] | None:
    choice = choose_pair(groups, loads=loads, excluded=excluded, rolls=(0.0, 0.0, 0.0))
    if choice is None:
        return None
    assert choice.prefill is not None
    return choice.prefill.name, choice.decode.name


def test_fewer_requests_win_over_fewer_bytes() -> None:
    loads = {"a": Load(2, 10), "b": Load(1, 1000)}
    found = least_loaded([endpoint("a"), endpoint("b")], loads=loads, excluded=NONE, roll=0.0)
    assert found == endpoint("b")


def test_bytes_decide_between_equal_requests() -> None:
    loads = {"a": Load(1, 1000), "b": Load(1, 10)}
    found = least_loaded([endpoint("a"), endpoint("b")], loads=loads, excluded=NONE, roll=0.0)
    assert found == endpoint("b")


def test_the_roll_selects_among_equals() -> None:
    endpoints = [endpoint(name) for name in "abcd"]
    loads = {"b": Load(1, 0)}
    found = [least_loaded(endpoints, loads=loads, excluded=NONE, roll=roll) for roll in (0.0, 0.34, 0.67)]
    assert found == [endpoint("a"), endpoint("c"), endpoint("d")]


def test_an_endpoint_without_load_is_idle() -> None:
    found = least_loaded([endpoint("a"), endpoint("b")], loads={"a": Load(1, 0)}, excluded=NONE, roll=0.99)
    assert found == endpoint("b")


def test_there_is_nothing_when_all_are_excluded() -> None:
    assert least_loaded([endpoint("a")], loads={}, excluded=frozenset({"a"}), roll=0.0) is None
    assert least_loaded([], loads={}, excluded=NONE, roll=0.0) is None


def test_of_many_endpoints_a_stretch_is_compared_that_wraps_around() -> None:
    many = [endpoint(str(number)) for number in range(2 * MOST_ENDPOINTS)]
    loads = {one.name: Load(1, 0) for one in many} | {"3": Load(0, 0)}
    from_the_end = least_loaded(many, loads=loads, excluded=NONE, roll=1 - 2**-53)
    assert from_the_end == endpoint("3")
    out_of_sight = least_loaded(many, loads=loads, excluded=NONE, roll=4 / len(many))
    assert out_of_sight == endpoint("4")


def test_exclusion_comes_before_the_stretch() -> None:
    many = [endpoint(str(number)) for number in range(2 * MOST_ENDPOINTS)]
    excluded = frozenset(one.name for one in many[:-1])
    assert least_loaded(many, loads={}, excluded=excluded, roll=0.0) == many[-1]


def test_one_endpoint_is_chosen_with_its_reason() -> None:
    groups = EndpointGroups.of_endpoints([endpoint("a"), endpoint("b")])
    choice = choose_one(groups, loads={"a": Load(4, 0), "b": Load(3, 0)}, excluded=NONE, roll=0.0)
    assert choice is not None
    assert (choice.decode.name, choice.prefill, choice.reason) == ("b", None, "least loaded: 3 in flight")
    assert choose_one(groups, loads={}, excluded=frozenset({"a", "b"}), roll=0.0) is None


def test_both_sides_of_a_pair_are_the_least_loaded_of_their_group() -> None:
    loads = {"p1": Load(1, 0), "d2": Load(1, 0), "p3": Load(9, 0), "d3": Load(9, 0)}
    assert names_of(PAIRS, loads) == ("p2", "d1")


def test_a_busy_prefill_side_is_not_hidden_by_many_decodes() -> None:
    loads = {"p1": Load(10, 0), "p2": Load(10, 0), "p3": Load(2, 0)}
    loads |= {"d1": Load(90, 0), "d2": Load(90, 0), "d3": Load(100, 0)}
    assert names_of(PAIRS, loads) == ("p3", "d3")


def test_a_busy_decode_side_is_not_hidden_by_idle_prefills() -> None:
    loads = {"p1": Load(4, 0), "p2": Load(4, 0), "p3": Load(3, 0)}
    loads |= {"d1": Load(10, 0), "d2": Load(10, 0), "d3": Load(100, 0)}
    assert names_of(PAIRS, loads) == ("p1", "d1")


def test_bytes_decide_between_groups_that_are_equally_busy() -> None:
    loads = {name: Load(1, 100) for name in ("p1", "p2", "d1", "d2")} | {"p3": Load(1, 10), "d3": Load(1, 10)}
    assert names_of(PAIRS, loads) == ("p3", "d3")


def test_a_group_whose_one_side_is_excluded_is_skipped() -> None:
    assert names_of(PAIRS, {}, frozenset({"p1", "p2"})) == ("p3", "d3")
    assert names_of(PAIRS, {}, frozenset({"p1", "d3"})) == ("p2", "d1")
    assert names_of(PAIRS, {}, frozenset({"p1", "p2", "d3"})) is None
    assert names_of(EndpointGroups(), {}) is None


def test_the_last_of_many_groups_is_found_when_all_others_are_excluded() -> None:
    count = 5 * MOST_GROUPS
    groups = EndpointGroups.of_endpoints(
        [prefill(f"p{n}", str(n)) for n in range(count)] + [decode(f"d{n}", str(n)) for n in range(count)]
    )
    excluded = frozenset(f"p{n}" for n in range(count - 1))
    assert names_of(groups, {}, excluded) == (f"p{count - 1}", f"d{count - 1}")


def test_a_group_is_as_likely_as_it_has_decode_endpoints() -> None:
    rolls = [number / 300 for number in range(300)]
    chosen = [choose_pair(PAIRS, loads={}, excluded=NONE, rolls=(roll, 0.0, 0.0)) for roll in rolls]
    assert sum(choice is not None and choice.decode.group == "b" for choice in chosen) == 100


def test_the_reason_tells_the_loads() -> None:
    choice = choose_pair(PAIRS, loads={"p3": Load(9, 0), "d1": Load(2, 0)}, excluded=NONE, rolls=(0.0, 0.9, 0.0))
    assert choice is not None
    assert choice.reason == "least loaded of 2 groups: 0 prefill, 0 decode in flight"
