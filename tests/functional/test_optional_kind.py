from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from baton.kube.client import Client
from baton.kube.optional import OptionalKind
from baton.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, POD_GROUPS
from fake_api_server import FakeApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from baton.kube.types import JsonObject

DEFINITIONS = CUSTOM_RESOURCE_DEFINITIONS.path()
OBJECTS = POD_GROUPS.path()
NAME = "podgroups.scheduling.volcano.sh"
Fields = frozenset[str] | None


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as running:
        yield running


class Follower:
    """An optional kind that runs, and what it told."""

    def __init__(self, kind: OptionalKind[str]) -> None:
        self.kind = kind
        self.definitions: list[Fields] = []
        self.changes: list[tuple[str | None, str | None]] = []
        kind.on_definition(lambda: self.definitions.append(kind.fields))
        kind.subscribe(lambda old, new: self.changes.append((old, new)))

    async def until(self, is_true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not is_true():  # noqa: ASYNC110 # the condition is the server's, not ours to signal
                await asyncio.sleep(0.005)


@asynccontextmanager
async def following(server: FakeApiServer) -> AsyncIterator[Follower]:
    async with Client.from_url(server.url) as client, asyncio.TaskGroup() as group:
        kind = OptionalKind(client, POD_GROUPS, project=lambda found: str(found["metadata"]["name"]))
        follower = Follower(kind)
        running = group.create_task(kind.run())
        async with asyncio.timeout(10):
            await kind.synced.wait()
        yield follower
        running.cancel()


def define(
    server: FakeApiServer, *fields: str, version: str = "v1beta1", established: str = "True", **metadata: Any
) -> None:
    schema: JsonObject = {"properties": {"spec": {"properties": {name: {} for name in fields}}}}
    entry = {"name": version, "served": True, "schema": {"openAPIV3Schema": schema}}
    server.put(
        DEFINITIONS,
        NAME,
        namespace="",
        metadata=metadata,
        spec={"versions": [{"name": "v1", "served": False}, entry]},
        status={"conditions": [{"type": "Established", "status": established}]},
    )


async def test_without_the_kind_it_is_known_that_there_is_nothing(server: FakeApiServer) -> None:
    async with following(server) as follower:
        assert follower.kind.fields is None
        assert not any(OBJECTS in seen.path for seen in server.requests)


async def test_a_kind_that_is_there_is_known_with_all_its_objects_before_it_counts_as_synced(
    server: FakeApiServer,
) -> None:
    define(server, "minMember")
    server.put(OBJECTS, "demo-0")
    async with following(server) as follower:
        await follower.until(lambda: follower.kind.fields == frozenset({"minMember"}))
        assert follower.kind.store.values() == ["demo-0"]
        (asked,) = {seen.query["fieldSelector"] for seen in server.requests if seen.path.startswith(DEFINITIONS)}
        assert asked == f"metadata.name={NAME}"


async def test_it_comes_and_goes_and_comes_again_without_a_complaint(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with following(server) as follower:
        for _ in range(2):
            define(server, "minMember")
            await follower.until(lambda: follower.kind.fields is not None)
            server.put(OBJECTS, "demo-0")
            await follower.until(lambda: follower.kind.store.values() == ["demo-0"])

            define(server, "minMember", deletionTimestamp="2026-01-01T00:00:00Z")
            await follower.until(lambda: follower.kind.fields is None)
            assert follower.kind.store.values() == []
            server.remove(OBJECTS, "demo-0")
            server.remove(DEFINITIONS, NAME, namespace="")
        assert follower.definitions == [{"minMember"}, None] * 2
        assert follower.changes == [(None, "demo-0"), ("demo-0", None)] * 2
        assert follower.kind.synced.is_set()
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_a_new_version_is_told_and_the_objects_stay(server: FakeApiServer) -> None:
    define(server, "minMember")
    server.put(OBJECTS, "demo-0")
    async with following(server) as follower:
        await follower.until(lambda: follower.kind.fields is not None)
        define(server, "minMember", "subGroupPolicy")
        await follower.until(lambda: follower.kind.fields == frozenset({"minMember", "subGroupPolicy"}))
        assert follower.changes == [(None, "demo-0")]
        define(server, "minMember", "subGroupPolicy", labels={"touched": "yes"})
        define(server, version="v2")
        await follower.until(lambda: follower.kind.fields is None)
        assert len(follower.definitions) == 3, "what does not matter is not told"


@pytest.mark.parametrize("state", [{"established": "False"}, {"version": "v1alpha1"}])
async def test_a_kind_that_cannot_be_used_is_absent(server: FakeApiServer, state: dict[str, str]) -> None:
    define(server, "minMember", **state)
    async with following(server) as follower:
        assert follower.kind.fields is None
        define(server, "minMember")
        await follower.until(lambda: follower.kind.fields is not None)


async def test_a_kind_that_is_announced_and_not_served_yet_is_waited_for_in_silence(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(server) as follower:
        server.fail("list", 404)
        define(server, "minMember")
        await follower.until(lambda: follower.kind.fields is not None)
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_what_may_not_be_looked_at_is_absent_and_stops_nobody(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    define(server, "minMember")
    server.fail("list", 403, times=100)
    async with following(server) as follower:
        assert follower.kind.fields is None
        assert server.count("list") == 1
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "may not look" in record.getMessage()


async def test_an_outage_at_the_start_is_survived(server: FakeApiServer) -> None:
    server.fail("list", 503, times=2)
    define(server, "minMember")
    async with following(server) as follower:
        await follower.until(lambda: follower.kind.fields is not None)
