from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import REGISTRY

from baton.kube.access import Access, Authorization, Credentials
from baton.kube.client import Client
from baton.kube.errors import ApiError, Forbidden, Gone, NotFound, Transient
from baton.kube.reflector import Reflector
from baton.kube.resources import MODEL_SERVINGS, PODS
from fake_api_server import CUT, STALL, FakeApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from baton.kube.types import JsonObject

COLLECTION = "/api/v1/pods"

Change = tuple[str | None, str | None]


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as running:
        yield running


def named(found: JsonObject) -> str:
    """Project a pod to its name and the value the test gave it."""
    return f"{found['metadata']['name']}={found.get('value', '')}"


class Mirror:
    """A reflector that runs, and what it told."""

    def __init__(self, reflector: Reflector[str]) -> None:
        self.reflector = reflector
        self.changes: list[Change] = []
        reflector.subscribe(lambda old, new: self.changes.append((old, new)))

    def names(self) -> list[str]:
        return sorted(self.reflector.store.values())

    def error(self) -> ApiError | None:
        return self.reflector.last_error

    def heard(self) -> float:
        return self.reflector.heard or 0.0

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 # the condition is the server's, not ours to signal
                await asyncio.sleep(0.005)

    async def shows(self, *names: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self.until(lambda: self.names() == sorted(names))
        assert self.names() == sorted(names)


@asynccontextmanager
async def mirror(server: FakeApiServer, *, access: Access | None = None, **options: Any) -> AsyncIterator[Mirror]:
    opened = Client.from_url(server.url) if access is None else Client(access)
    async with opened as client:
        resource = options.pop("resource", PODS)
        reflector = Reflector(client, resource, project=named, retry_delay=0.02, **options)
        running = asyncio.ensure_future(reflector.run())
        try:
            yield Mirror(reflector)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def watched(server: FakeApiServer, mirrored: Mirror) -> None:
    await mirrored.until(lambda: len(server.watches) == 1)


async def test_it_shows_what_is_there_and_what_happens(server: FakeApiServer) -> None:
    server.put(COLLECTION, "a", value=1)
    async with mirror(server) as mirrored:
        await mirrored.reflector.synced.wait()
        await mirrored.shows("a=1")
        server.put(COLLECTION, "b", value=1)
        server.put(COLLECTION, "a", value=2)
        await mirrored.shows("a=2", "b=1")
        server.remove(COLLECTION, "a")
        await mirrored.shows("b=1")
        assert mirrored.changes == [(None, "a=1"), (None, "b=1"), ("a=1", "a=2"), ("a=2", None)]
        assert server.count("list") == 1


async def test_it_lists_in_pages(server: FakeApiServer) -> None:
    for number in range(250):
        server.put(COLLECTION, f"p{number}")
    async with mirror(server) as mirrored:
        await mirrored.reflector.synced.wait()
        assert len(mirrored.reflector.store) == 250
        assert server.count("list") == 3
        assert {seen.query["limit"] for seen in server.requests if seen.verb == "list"} == {"100"}


async def test_namespace_and_selectors_are_the_server_s_to_apply(server: FakeApiServer) -> None:
    server.put(COLLECTION, "a", metadata={"labels": {"role": "decode"}})
    server.put(COLLECTION, "b", metadata={"labels": {"role": "prefill"}})
    server.put(COLLECTION, "a", namespace="other", metadata={"labels": {"role": "decode"}})
    async with mirror(server, namespace="ns", label_selector="role=decode", field_selector="x=y") as mirrored:
        await mirrored.shows("a=")
        await watched(server, mirrored)
        server.put(COLLECTION, "c", metadata={"labels": {"role": "decode"}})
        await mirrored.shows("a=", "c=")
        for seen in server.requests:
            assert seen.path.startswith("/api/v1/namespaces/ns/pods?")
            assert (seen.query["labelSelector"], seen.query["fieldSelector"]) == ("role=decode", "x=y")


async def test_it_is_not_synced_before_the_last_page(server: FakeApiServer) -> None:
    for name in ("a", "b"):
        server.put(COLLECTION, name)
    synced_at: list[bool] = []
    async with mirror(server, page_size=1) as mirrored:
        synced = mirrored.reflector.synced
        mirrored.reflector.subscribe(lambda old, new: synced_at.append(synced.is_set()))
        await synced.wait()
        assert synced_at == [False, False]


async def test_a_watch_that_ends_is_resumed_without_a_list(server: FakeApiServer) -> None:
    async with mirror(server) as mirrored:
        await watched(server, mirrored)
        server.put(COLLECTION, "a")
        await mirrored.shows("a=")
        server.end_watches()
        await mirrored.until(lambda: server.count("watch") == 2)
        server.put(COLLECTION, "b")
        await mirrored.shows("a=", "b=")
        assert server.count("list") == 1
        assert [change[1] for change in mirrored.changes] == ["a=", "b="]


async def test_a_bookmark_moves_the_version_to_resume_from(server: FakeApiServer) -> None:
    async with mirror(server) as mirrored:
        await watched(server, mirrored)
        version = server.bookmark()
        server.end_watches()
        await mirrored.until(lambda: server.count("watch") == 2)
        assert server.requests[-1].query["resourceVersion"] == version
        assert mirrored.changes == []


async def test_what_vanished_unseen_is_found_by_the_next_list(server: FakeApiServer) -> None:
    for name in ("a", "b", "c"):
        server.put(COLLECTION, name, value=1)
    async with mirror(server) as mirrored:
        await mirrored.shows("a=1", "b=1", "c=1")
        await watched(server, mirrored)
        server.cut_watches()
        server.remove(COLLECTION, "a", is_told=False)
        server.remove(COLLECTION, "b", is_told=False)
        server.put(COLLECTION, "b", uid="the next one", value=2)
        await mirrored.shows("b=2", "c=1")
        assert mirrored.changes[3:] == [("b=1", None), (None, "b=2"), ("a=1", None)]


async def test_what_vanishes_while_it_lists_is_not_kept(server: FakeApiServer) -> None:
    for name in ("a", "b", "c"):
        server.put(COLLECTION, name)
    async with mirror(server, page_size=1) as mirrored:
        await mirrored.until(lambda: server.count("list") >= 1)
        server.remove(COLLECTION, "b")
        await mirrored.shows("a=", "c=")


async def test_a_page_that_expires_while_it_lists_makes_it_list_again(server: FakeApiServer) -> None:
    for name in ("a", "b", "c"):
        server.put(COLLECTION, name)
    server.fail("list", 410, skip=1)
    async with mirror(server, page_size=1) as mirrored:
        await mirrored.reflector.synced.wait()
        assert mirrored.names() == ["a=", "b=", "c="]
        assert server.count("list") == 5


async def test_a_list_that_breaks_off_removes_nothing(server: FakeApiServer) -> None:
    for name in ("a", "b"):
        server.put(COLLECTION, name)
    async with mirror(server, page_size=1) as mirrored:
        await watched(server, mirrored)
        server.fail("list", 500, times=2, skip=1)
        server.cut_watches()
        await mirrored.until(lambda: server.count("watch") == 2)
        assert server.count("list") == 2 + 2 + 1 + 2
        assert mirrored.changes == [(None, "a="), (None, "b=")]


@pytest.mark.parametrize(("code", "kind"), [(410, Gone), (500, Transient)])
async def test_an_error_in_the_stream_makes_it_list_again(
    server: FakeApiServer, code: int, kind: type[Exception]
) -> None:
    server.put(COLLECTION, "a")
    async with mirror(server) as mirrored:
        await watched(server, mirrored)
        server.remove(COLLECTION, "a", is_told=False)
        server.put("/api/v1/services", "unrelated")
        server.fail("list", 503)
        server.say({"type": "ERROR", "object": {"kind": "Status", "code": code, "message": "told so"}})
        await mirrored.until(lambda: mirrored.error() is not None)
        assert isinstance(mirrored.error(), kind)
        await mirrored.shows()
        assert mirrored.error() is None


async def test_a_version_the_server_has_forgotten_makes_it_list_again(server: FakeApiServer) -> None:
    async with mirror(server) as mirrored:
        await watched(server, mirrored)
        server.put(COLLECTION, "a")
        await mirrored.shows("a=")
        server.end_watches()
        server.put(COLLECTION, "b")
        server.forget_history()
        await mirrored.shows("a=", "b=")


async def test_a_server_that_fails_is_asked_again_until_it_does_not(server: FakeApiServer) -> None:
    server.put(COLLECTION, "a")
    server.fail("list", 503, times=2)
    server.fail("list", CUT, times=3)
    server.fail("watch", 503, times=2)
    async with mirror(server) as mirrored:
        await mirrored.shows("a=")
        await watched(server, mirrored)
        server.put(COLLECTION, "b")
        await mirrored.shows("a=", "b=")


@pytest.mark.parametrize(("status", "kind"), [(403, Forbidden), (404, NotFound)])
async def test_a_refusal_is_shown_and_not_fatal(server: FakeApiServer, status: int, kind: type[Exception]) -> None:
    server.fail("list", status, times=3)
    async with mirror(server, resource=MODEL_SERVINGS, name=f"refused-{status}") as mirrored:
        await mirrored.until(lambda: mirrored.error() is not None)
        assert isinstance(mirrored.error(), kind)
        assert not mirrored.reflector.synced.is_set()
        await mirrored.reflector.synced.wait()
        assert mirrored.error() is None
        labels = {"name": f"refused-{status}", "reason": "Fault"}
        assert REGISTRY.get_sample_value("reflector_errors_total", labels) == 3


async def test_a_silent_stream_is_left_and_resumed(server: FakeApiServer) -> None:
    async with mirror(server, silence=0.05) as mirrored:
        await watched(server, mirrored)
        version = server.bookmark()
        await mirrored.until(lambda: server.count("watch") >= 3)
        server.put(COLLECTION, "a")
        await mirrored.shows("a=")
        assert server.count("list") == 1
        assert [seen.query["resourceVersion"] for seen in server.requests if seen.verb == "watch"][1:3] == [version] * 2
        assert mirrored.error() is None


async def test_a_watch_that_is_not_answered_makes_it_list_again(server: FakeApiServer) -> None:
    server.fail("watch", STALL)
    async with mirror(server, silence=0.05) as mirrored:
        await watched(server, mirrored)
        assert server.count("list") == 2


async def test_the_answer_to_a_delete_that_comes_after_the_event_revives_nothing(server: FakeApiServer) -> None:
    server.put(COLLECTION, "a")
    async with mirror(server) as mirrored, Client.from_url(server.url) as client:
        await watched(server, mirrored)
        answer = await client.delete(PODS, "ns", "a")
        await mirrored.shows()
        mirrored.reflector.store.offer("MODIFIED", answer)
        assert mirrored.names() == []


async def test_a_line_may_have_any_length(server: FakeApiServer) -> None:
    async with mirror(server) as mirrored:
        await watched(server, mirrored)
        server.put(COLLECTION, "large", padding="x" * 3_000_000)
        await mirrored.shows("large=")


async def test_a_rotated_token_file_is_read_again(server: FakeApiServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    server.token = "first"

    async def read() -> Credentials:
        return Credentials(f"Bearer {file.read_text()}")

    authorization = Authorization(read)
    async with mirror(server, access=Access(server.url, authorization)) as mirrored:
        await watched(server, mirrored)
        file.write_text("second")
        server.token = "second"
        authorization._loaded_at -= 60
        server.cut_watches()
        server.put(COLLECTION, "a")
        await mirrored.shows("a=")
        sent = [seen.headers["Authorization"] for seen in server.requests]
        assert sent[:4] == ["Bearer first", "Bearer first", "Bearer first", "Bearer second"]


async def test_it_says_when_it_last_heard_of_the_server(server: FakeApiServer) -> None:
    async with mirror(server) as mirrored:
        assert mirrored.heard() == 0
        await watched(server, mirrored)
        first = mirrored.heard()
        assert first > 0
        await asyncio.sleep(0.02)
        server.bookmark()
        await mirrored.until(lambda: mirrored.heard() > first)


async def test_its_metrics_are_there_while_it_runs(server: FakeApiServer) -> None:
    server.put(COLLECTION, "a")
    labels = {"name": "measured"}
    async with mirror(server, name="measured") as mirrored:
        await mirrored.reflector.synced.wait()
        assert REGISTRY.get_sample_value("reflector_objects", labels) == 1
        assert REGISTRY.get_sample_value("reflector_lists_total", labels) == 1
        age = REGISTRY.get_sample_value("reflector_age_seconds", labels)
        assert age is not None
        assert 0 <= age < 60
    assert REGISTRY.get_sample_value("reflector_age_seconds", labels) is None


async def test_an_object_written_while_it_lists_is_kept(server: FakeApiServer) -> None:
    for name in ("a", "b"):
        server.put(COLLECTION, name)
    async with mirror(server, page_size=1) as mirrored:
        store = mirrored.reflector.store

        def write_once(old: str | None, new: str | None) -> None:
            if new == "a=":
                asyncio.get_running_loop().call_soon(lambda: store.offer("ADDED", server.put(COLLECTION, "c")))

        store.subscribe(write_once)
        await watched(server, mirrored)
        assert [change[1] for change in mirrored.changes] == ["a=", "c=", "b="]
        await mirrored.shows("a=", "b=", "c=")
        assert ("c=", None) not in mirrored.changes


async def test_a_server_that_goes_back_in_time_is_believed(server: FakeApiServer) -> None:
    async with mirror(server) as mirrored:
        await watched(server, mirrored)
        server.put(COLLECTION, "a", value="before")
        server.put(COLLECTION, "b", value="before")
        await mirrored.shows("a=before", "b=before")
        server.remove(COLLECTION, "b")
        await mirrored.shows("a=before")
        server.cut_watches()
        server.restore(COLLECTION, version=50)
        server.put(COLLECTION, "a", value="restored")
        server.put(COLLECTION, "b", value="restored")
        await mirrored.shows("a=restored", "b=restored")
