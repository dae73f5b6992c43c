from __future__ import annotations

import re

import pytest

from baton.common.hashing import short_hash


def test_equal_values_have_equal_hashes_whatever_the_order_of_keys() -> None:
    assert short_hash({"a": 1, "b": [1, {"c": 2, "d": 3}]}) == short_hash({"b": [1, {"d": 3, "c": 2}], "a": 1})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": "1"}),
        ([1, 2], [2, 1]),
        ({"a": None}, {}),
        ({"a": {"b": 1}}, {"a": 1, "b": 1}),
        ("é", "e"),
    ],
)
def test_different_values_have_different_hashes(one: object, other: object) -> None:
    assert short_hash(one) != short_hash(other)


def test_hash_is_the_same_in_every_release() -> None:
    # A change here restarts the pods of every ModelServing when Baton is upgraded.
    assert short_hash({"name": "prefill", "replicas": 2}) == "b62xgsbtxx"


@pytest.mark.parametrize("length", [1, 10, 16])
def test_hash_fits_names_and_has_the_length_asked_for(length: int) -> None:
    assert re.fullmatch(rf"[bcdfghjklmnpqrstvwxz2456789]{{{length}}}", short_hash(["any"], length=length))
