"""The decision. The pool's way with sockets is in tests/functional/test_router_engines.py."""

from __future__ import annotations

from dataclasses import dataclass

from baton.router.wire.pool import PoolLimits, Shelf, Wanted

LIMITS = PoolLimits(connections=3, idle_connections=2, idle_time=4.0, connect_time=1.0)


@dataclass(eq=False)
class Connection:
    name: str
    idle_since: float = 0.0


def shelf(*idle: Connection, taken: int = 0) -> Shelf[Connection]:
    subject: Shelf[Connection] = Shelf(LIMITS, taken=taken)
    subject.idle.extend(idle)
    return subject


def want(subject: Shelf[Connection], *, is_fresh: bool = False) -> Wanted[Connection]:
    wanted: Wanted[Connection] = Wanted(is_fresh=is_fresh)
    subject.waiting.append(wanted)
    return wanted


def test_the_connection_used_last_is_used_first() -> None:
    old, young = Connection("old", 1.0), Connection("young", 2.0)
    subject = shelf(old, young)
    wanted = want(subject)

    assert subject.assign(3.0) == []
    assert wanted.connection is young
    assert (subject.taken, list(subject.idle)) == (1, [old])


def test_a_request_opens_its_own_when_nothing_is_idle() -> None:
    subject = shelf()
    wanted = want(subject)

    assert subject.assign(0.0) == []
    assert (wanted.is_granted, wanted.connection, subject.taken) == (True, None, 1)


def test_requests_beyond_the_limit_wait_in_order() -> None:
    subject = shelf(taken=2)
    first, second, third = (want(subject) for _ in range(3))
    subject.assign(0.0)
    assert [wanted.is_granted for wanted in (first, second, third)] == [True, False, False]

    subject.taken -= 1
    subject.assign(0.0)

    assert [wanted.is_granted for wanted in (first, second, third)] == [True, True, False]
    assert list(subject.waiting) == [third]


def test_a_fresh_connection_leaves_the_idle_ones_alone() -> None:
    idle = Connection("idle")
    subject = shelf(idle)
    wanted = want(subject, is_fresh=True)

    assert subject.assign(0.0) == []
    assert wanted.is_granted
    assert wanted.connection is None
    assert list(subject.idle) == [idle]


def test_a_fresh_connection_takes_the_place_of_an_idle_one_at_the_limit() -> None:
    idle = Connection("idle")
    subject = shelf(idle, taken=2)
    wanted = want(subject, is_fresh=True)

    assert subject.assign(0.0) == [idle]
    assert wanted.is_granted


def test_connections_that_were_idle_too_long_are_closed() -> None:
    old, young = Connection("old", 1.0), Connection("young", 2.0)
    subject = shelf(old, young)

    assert subject.assign(5.0) == [old]
    assert list(subject.idle) == [young]


def test_idle_connections_beyond_the_limit_are_closed_oldest_first() -> None:
    first, second, third = (Connection(name) for name in "abc")
    subject = shelf(first, second, third)

    assert subject.assign(0.0) == [first]
