from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, cast

from baton.router.booking import Booking
from baton.routing.types import Choice
from routing_builders import decode, prefill

if TYPE_CHECKING:
    from baton.router.directory import Directory
    from baton.routing.types import Endpoint


class Loads:
    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()

    def started(self, endpoint: Endpoint, body_bytes: int) -> None:
        self.requests[endpoint.name] += body_bytes

    def finished(self, endpoint: Endpoint, body_bytes: int) -> None:
        self.requests[endpoint.name] -= body_bytes


def book(choice: Choice) -> tuple[Loads, Booking]:
    loads = Loads()
    return loads, Booking(cast("Directory", loads), choice, body_bytes=7)


def test_both_endpoints_are_counted_from_the_choice_on() -> None:
    loads, _ = book(Choice(decode("d"), prefill("p")))

    assert loads.requests == {"p": 7, "d": 7}


def test_prefill_is_taken_back_first_and_once() -> None:
    loads, booking = book(Choice(decode("d"), prefill("p")))

    booking.release_prefill()
    booking.release_prefill()
    assert loads.requests == {"p": 0, "d": 7}
    booking.release()
    booking.release()

    assert loads.requests == {"p": 0, "d": 0}


def test_an_engine_that_does_both_is_counted_once() -> None:
    loads, booking = book(Choice(decode("d")))
    assert loads.requests == {"d": 7}

    booking.release_prefill()
    booking.release()

    assert loads.requests == {"d": 0}
