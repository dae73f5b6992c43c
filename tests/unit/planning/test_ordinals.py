from __future__ import annotations

import pytest

from baton.planning.ordinals import further_ordinals, missing_ordinals, protected_ordinals


@pytest.mark.parametrize(
    ("present", "wanted", "missing"),
    [
        ((), 3, [0, 1, 2]),
        ((0, 1), 2, []),
        ((0, 1, 2), 1, []),
        ((1,), 3, [0, 2]),
        ((0, 5), 3, [1]),
        ((4, 5, 6), 3, []),
        ((4,), 0, []),
    ],
)
def test_the_lowest_free_ordinals_are_filled_up_to_the_number_wanted(
    present: tuple[int, ...], wanted: int, missing: list[int]
) -> None:
    assert missing_ordinals(present=present, wanted=wanted) == missing


@pytest.mark.parametrize(
    ("present", "wanted", "partition", "protected"),
    [
        ((0, 1, 2), 3, 0, set()),
        ((0, 1, 2), 3, 2, {0, 1}),
        ((0, 1, 2), 3, 9, {0, 1, 2}),
        ((1, 2), 2, 1, {1}),
        ((1, 2), 3, 1, {0}),
        ((0, 1, 2), 1, 1, {0}),
    ],
)
def test_a_partition_protects_the_lowest_ordinals_whether_they_exist_or_are_about_to(
    present: tuple[int, ...], wanted: int, partition: int, protected: set[int]
) -> None:
    assert protected_ordinals(present=present, wanted=wanted, partition=partition) == protected


def test_further_ordinals_are_the_lowest_free_ones() -> None:
    assert further_ordinals(present=[0, 1, 3], first=2, count=2) == [2, 4]
    assert further_ordinals(present=[], first=0, count=1) == [0]
    assert further_ordinals(present=[0], first=1, count=-1) == []
