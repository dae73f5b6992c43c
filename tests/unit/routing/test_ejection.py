from __future__ import annotations

import pytest

from baton.routing.ejection import EjectionPolicy, Ejections

POLICY = EjectionPolicy(failures=3, first_time=5.0, longest_time=18.0)


def ejected_at(now: float) -> Ejections:
    ejections = Ejections(POLICY)
    assert [ejections.failed("a", now) for _ in range(3)] == [False, False, True]
    return ejections


def test_so_many_failures_in_a_row_eject() -> None:
    ejections = ejected_at(100.0)

    assert ejections.closed(104.9) == {"a"}
    assert ejections.closed(105.0) == frozenset()
    assert len(ejections) == 1


def test_a_good_answer_in_between_forgets_the_failures() -> None:
    ejections = Ejections(POLICY)
    for _ in range(10):
        assert not ejections.failed("a", 1.0)
        assert not ejections.failed("a", 1.0)
        ejections.answered("a")

    assert ejections.closed(1.0) == frozenset()


def test_failures_of_one_are_not_those_of_another() -> None:
    ejections = Ejections(POLICY)
    assert not any(ejections.failed(name, 1.0) for name in "abcabc")


def test_after_its_time_one_request_at_a_time_is_a_probe() -> None:
    ejections = ejected_at(100.0)
    ejections.chosen("a", 106.0)

    assert ejections.closed(106.0) == {"a"}
    ejections.answered("a")
    assert ejections.closed(106.0) == frozenset()
    assert len(ejections) == 0


def test_a_probe_that_leaves_no_trace_is_followed_by_another() -> None:
    ejections = ejected_at(100.0)
    ejections.chosen("a", 106.0)

    assert ejections.closed(110.9) == {"a"}
    assert ejections.closed(111.0) == frozenset()


def test_each_probe_that_fails_doubles_the_time_up_to_the_longest() -> None:
    ejections = ejected_at(0.0)
    now, times = 5.0, []
    for _ in range(5):
        ejections.chosen("a", now)
        assert ejections.failed("a", now)
        times.append(next(wait for wait in range(1, 100) if not ejections.closed(now + wait)))
        now += times[-1]

    assert times == [10, 18, 18, 18, 18]


def test_requests_from_before_the_ejection_change_nothing() -> None:
    ejections = ejected_at(100.0)

    assert not ejections.failed("a", 101.0)
    ejections.answered("a")
    assert ejections.closed(101.0) == {"a"}
    assert ejections.closed(105.0) == frozenset()


def test_one_that_was_used_because_nothing_else_was_left_comes_back_with_its_first_answer() -> None:
    ejections = ejected_at(100.0)
    ejections.chosen("a", 101.0)

    assert not ejections.failed("a", 101.0)
    assert ejections.closed(104.9) == {"a"}
    assert ejections.closed(105.0) == frozenset()
    ejections.answered("a")
    assert ejections.closed(101.0) == frozenset()


def test_nothing_is_ejected_where_that_is_unwanted() -> None:
    ejections = Ejections(EjectionPolicy(failures=0))
    assert not any(ejections.failed("a", 1.0) for _ in range(100))
    assert ejections.closed(1.0) == frozenset()


@pytest.mark.parametrize("names", [{"b"}, set()])
def test_what_is_no_more_is_forgotten(names: set[str]) -> None:
    ejections = ejected_at(100.0)
    ejections.keep_only(names)
    assert ejections.closed(100.0) == frozenset()
