"""A client whose process must not write (any more): baton.kube.leadership hands it `is_leading`."""

from __future__ import annotations

from itertools import chain, repeat

import pytest

from baton.kube.access import open_access
from baton.kube.client import Client
from baton.kube.errors import Fenced
from baton.kube.resources import PODS
from fake_api_server import CUT, FakeApiServer

POD = {"metadata": {"namespace": "ns", "name": "a"}}


def fenced(server: FakeApiServer, *answers: bool) -> Client:
    """A client that is told these answers in turn, and no after that."""
    told = chain(answers, repeat(False))
    return Client(open_access(server.url), may_write=lambda: next(told))


async def test_who_must_not_write_still_reads() -> None:
    async with FakeApiServer() as server, fenced(server) as client:
        server.put("/api/v1/pods", "a")
        for write in (
            client.create(PODS, POD),
            client.apply(PODS, POD),
            client.patch(PODS, "ns", "a", {}),
            client.delete(PODS, "ns", "a"),
        ):
            with pytest.raises(Fenced, match="does not lead"):
                await write
        assert (await client.get(PODS, "ns", "a"))["metadata"]["name"] == "a"
        assert [seen.verb for seen in server.requests] == ["get"]


async def test_a_write_whose_turn_comes_too_late_does_not_leave() -> None:
    async with FakeApiServer() as server, fenced(server, True) as client:
        with pytest.raises(Fenced):
            await client.patch(PODS, "ns", "a", {})
        assert server.requests == []


async def test_a_write_is_not_repeated_after_the_time_is_over() -> None:
    async with FakeApiServer() as server, fenced(server, True, True) as client:
        server.fail("patch", CUT)
        with pytest.raises(Fenced):
            await client.patch(PODS, "ns", "a", {})
        assert server.count("patch") == 1


async def test_who_may_write_does() -> None:
    async with FakeApiServer() as server, fenced(server, True, True) as client:
        assert (await client.create(PODS, POD))["metadata"]["name"] == "a"
