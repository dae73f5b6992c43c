"""Deletes that the API server carries out without our hearing of it: the next plan must not count on the old state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.kube.errors import Transient
from baton.kube.resources import PODS
from builders import serving
from fake_api_server import FakeApiServer
from functional.reconciler_fixture import Rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REPLICAS = serving().role("decode", replicas=2).rollout_by_role()
LOST, OTHER = "demo-0-decode-1-0", "demo-0-decode-0-0"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """An operator whose roll-out has just lost the answer to its delete of one of two pods, and heard of no event."""
    async with FakeApiServer() as server, Rig.at(server) as made:
        await made.apply(REPLICAS)
        await made.serving()
        await made.set_ready()
        await made.serving()
        await made.apply(REPLICAS.role("decode", replicas=2, image="engine:2"))
        await made.look()
        server.fail("delete", 504)
        with pytest.raises(Transient):
            await made.serving_as_seen()
        yield made


async def test_what_is_gone_is_not_counted_as_running(rig: Rig) -> None:
    rig.server.remove(PODS.path(), LOST)
    await rig.serving_as_seen()
    assert OTHER in await rig.names(PODS)
    await rig.serving_as_seen()
    assert await rig.names(PODS) == [OTHER, LOST], "it is made anew, and the other waits for it"


async def test_what_is_leaving_is_not_counted_as_running(rig: Rig) -> None:
    await rig.client.patch(PODS, "ns", LOST, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    deletes = rig.server.count("delete")
    await rig.serving_as_seen()
    assert rig.server.count("delete") == deletes


async def test_what_was_not_deleted_is_deleted_now(rig: Rig) -> None:
    await rig.serving_as_seen()
    assert await rig.names(PODS) == [OTHER]
    gets = rig.server.count("get")
    await rig.serving()
    assert rig.server.count("get") == gets, "there is no doubt any more"


async def test_no_plan_is_made_while_there_is_doubt(rig: Rig) -> None:
    writes = rig.writes()
    rig.server.fail("get", 503)
    with pytest.raises(Transient):
        await rig.serving_as_seen()
    assert rig.writes() == writes
