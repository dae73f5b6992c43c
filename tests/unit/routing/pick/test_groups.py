from __future__ import annotations

import pytest

from baton.routing.pick.groups import EndpointGroups, PairGroup, are_compatible
from routing_builders import decode, endpoint, prefill


def test_pairs_stay_inside_their_group() -> None:
    groups = EndpointGroups.of_endpoints([prefill("p1", "a"), prefill("p2", "b"), decode("d1", "a"), decode("d2", "b")])
    assert groups.pairs == (
        PairGroup((prefill("p1", "a"),), (decode("d1", "a"),)),
        PairGroup((prefill("p2", "b"),), (decode("d2", "b"),)),
    )


def test_a_group_with_only_one_side_is_left_out() -> None:
    assert EndpointGroups.of_endpoints([prefill("p", "a"), decode("d", "b")]).pairs == ()


def test_different_kv_transfers_of_a_group_do_not_mix() -> None:
    groups = EndpointGroups.of_endpoints(
        [prefill("p1", kv_transfer="x"), prefill("p2", kv_transfer="y"), decode("d1", kv_transfer="x")]
    )
    assert groups.pairs == (PairGroup((prefill("p1", kv_transfer="x"),), (decode("d1", kv_transfer="x"),)),)


def test_a_side_that_announces_no_kv_transfer_pairs_with_any() -> None:
    groups = EndpointGroups.of_endpoints(
        [prefill("p1", kv_transfer="x"), prefill("p2"), decode("d1"), decode("d2", kv_transfer="y")]
    )
    assert [([one.name for one in pair.prefills], [one.name for one in pair.decodes]) for pair in groups.pairs] == [
        (["p1", "p2"], ["d1"]),
        (["p2"], ["d2"]),
    ]


def test_aggregated_endpoints_stand_apart() -> None:
    groups = EndpointGroups.of_endpoints([endpoint("a", group="x"), prefill("p"), decode("d"), endpoint("b")])
    assert [one.name for one in groups.aggregated] == ["a", "b"]


def test_decode_endpoints_are_added_up() -> None:
    groups = EndpointGroups.of_endpoints(
        [prefill("p1", "a"), prefill("p2", "b"), decode("d1", "a"), decode("d2", "a"), decode("d3", "b")]
    )
    assert groups.decodes_until == (2, 3)


@pytest.mark.parametrize(
    ("one", "other", "fits"), [("x", "x", True), ("x", "y", False), ("", "y", True), ("x", "", True), ("", "", True)]
)
def test_equal_or_unknown_kv_transfers_are_compatible(one: str, other: str, fits: bool) -> None:
    assert are_compatible(one, other) is fits
