from __future__ import annotations

import ipaddress

import pytest

from baton.router.metaserver import Callbacks, own_address


def test_an_address_of_this_machine_is_found() -> None:
    assert not ipaddress.ip_address(own_address()).is_unspecified


async def test_callbacks_come_in_order_and_no_more_wait_than_is_good() -> None:
    callbacks = Callbacks("http://router/v1/metaserver")

    taken = [callbacks.add(b"%d" % number) for number in range(9)]

    assert taken == [True] * 8 + [False]
    assert [await callbacks.next() for _ in range(8)] == [b"%d" % number for number in range(8)]


@pytest.mark.parametrize("body", [b"a", b"b"])
async def test_who_waits_is_told_of_the_next(body: bytes) -> None:
    callbacks = Callbacks("")
    assert callbacks.add(body)

    assert await callbacks.next() == body
