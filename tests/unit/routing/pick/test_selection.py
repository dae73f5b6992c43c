from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.routing.pick.groups import EndpointGroups
from baton.routing.pick.selection import Selection
from baton.routing.types import Endpoint, Load
from routing_builders import decode, endpoint, prefill

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

PAIRS = (prefill("p0"), prefill("p1"), decode("d0"), decode("d1"))


def select(
    *endpoints: Endpoint,
    limit: int | None = None,
    excluded: AbstractSet[str] = frozenset(),
    ejected: AbstractSet[str] = frozenset(),
    **requests: int,
) -> str | None:
    choice = Selection(
        EndpointGroups.of_endpoints(endpoints),
        is_paired=len(endpoints) > 2,
        loads={name: Load(count, count) for name, count in requests.items()},
        rolls=(0.0, 0.0, 0.0),
        excluded=excluded,
        ejected=ejected,
    ).best(limit=limit)
    if choice is None:
        return None
    return choice.decode.name if choice.prefill is None else f"{choice.prefill.name} {choice.decode.name}"


ONES = (endpoint("a"), endpoint("b"))


@pytest.mark.parametrize(
    ("ejected", "chosen"),
    [
        (set(), "a"),
        ({"a"}, "b"),
        ({"a", "b"}, "a"),
    ],
)
def test_an_ejected_endpoint_is_used_only_when_nothing_else_is_left(ejected: set[str], chosen: str) -> None:
    assert select(*ONES, ejected=ejected, b=5) == chosen


@pytest.mark.parametrize(
    ("ejected", "chosen"),
    [
        ({"p0", "d1"}, "p1 d0"),
        ({"p0", "p1", "d0"}, "p0 d1"),
        ({"p0", "d0", "d1"}, "p1 d0"),
        ({"p0", "p1", "d0", "d1"}, "p0 d0"),
    ],
)
def test_one_side_that_is_wholly_ejected_does_not_bring_back_the_other(ejected: set[str], chosen: str) -> None:
    assert select(*PAIRS, ejected=ejected) == chosen


def test_a_group_that_is_well_comes_before_one_with_an_ejected_side() -> None:
    other = (prefill("q", "h"), decode("e", "h"))
    assert select(prefill("p"), decode("d"), *other, ejected={"p"}, q=9, e=9) == "q e"


def test_what_this_request_failed_at_is_worse_than_what_is_ejected() -> None:
    assert select(*ONES, excluded={"a"}, ejected={"b"}) == "b"
    assert select(*ONES, excluded={"a", "b"}) is None


@pytest.mark.parametrize(
    ("limit", "chosen"),
    [(3, None), (4, "b"), (None, "b")],
)
def test_no_endpoint_gets_more_than_its_limit(limit: int | None, chosen: str | None) -> None:
    assert select(*ONES, limit=limit, a=4, b=3) == chosen


def test_a_group_with_room_is_found_behind_one_without() -> None:
    other = (prefill("q", "h"), decode("e", "h"))
    assert select(prefill("p"), decode("d"), *other, limit=2, p=2, q=1, e=1) == "q e"
    assert select(prefill("p"), decode("d"), *other, limit=2, p=2, q=1, e=2) is None


def test_one_that_is_ejected_is_used_before_one_is_overloaded() -> None:
    assert select(*ONES, ejected={"a"}, limit=2, b=2) == "a"
