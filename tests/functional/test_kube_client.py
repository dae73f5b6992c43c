from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY

from baton.kube.access import Access, Authorization, Credentials
from baton.kube.client import Client
from baton.kube.errors import (
    CONNECTION_LOST,
    NOT_SENT,
    SILENCE,
    TIMEOUT,
    AlreadyExists,
    Conflict,
    Gone,
    NotFound,
    TooManyRequests,
    Transient,
    Unauthorized,
)
from baton.kube.resources import MODEL_SERVINGS, NODES, PODS
from fake_api_server import CUT, STALL, FakeApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from baton.kube.types import JsonObject

COLLECTION = "/api/v1/pods"


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as running:
        yield running


@pytest.fixture
async def client(server: FakeApiServer) -> AsyncIterator[Client]:
    async with Client.from_url(server.url) as opened:
        yield opened


def pod(name: str) -> JsonObject:
    return {"metadata": {"namespace": "ns", "name": name}, "spec": {"nodeName": "n1"}}


async def test_an_object_is_created_read_changed_and_deleted(client: Client, server: FakeApiServer) -> None:
    created = await client.create(PODS, pod("a"))
    assert (created["apiVersion"], created["kind"]) == ("v1", "Pod")
    assert (await client.get(PODS, "ns", "a"))["spec"] == {"nodeName": "n1"}
    changed = await client.patch(PODS, "ns", "a", {"spec": {"nodeName": None, "priority": 3}})
    assert changed["spec"] == {"priority": 3}
    await client.patch_status(PODS, "ns", "a", {"phase": "Running"})
    assert server.requests[-1].path == "/api/v1/namespaces/ns/pods/a/status?fieldManager=baton"
    assert server.requests[-1].headers["Content-Type"] == "application/merge-patch+json"
    assert server.requests[-1].body == {"status": {"phase": "Running"}}
    await client.delete(PODS, "ns", "a", uid=created["metadata"]["uid"], grace_period_seconds=5)
    assert server.requests[-1].body["gracePeriodSeconds"] == 5
    with pytest.raises(NotFound, match="'a' not found"):
        await client.get(PODS, "ns", "a")


async def test_apply_sends_the_whole_object_as_baton(client: Client, server: FakeApiServer) -> None:
    body = {"metadata": {"namespace": "ns", "name": "a"}, "spec": {"replicas": 1}}
    await client.apply(MODEL_SERVINGS, body)
    seen = server.requests[-1]
    assert seen.path.startswith("/apis/workload.serving.volcano.sh/v1alpha1/namespaces/ns/modelservings/a?")
    assert seen.query == {"fieldManager": "baton", "force": "true"}
    assert seen.headers["Content-Type"] == "application/apply-patch+yaml"
    assert seen.body == {"apiVersion": MODEL_SERVINGS.api_version, "kind": "ModelServing", **body}


async def test_creating_what_exists_says_so(client: Client, server: FakeApiServer) -> None:
    server.put(COLLECTION, "a")
    with pytest.raises(AlreadyExists):
        await client.create(PODS, pod("a"))


async def test_the_successor_of_what_was_meant_is_not_deleted(client: Client, server: FakeApiServer) -> None:
    server.put(COLLECTION, "a", uid="second")
    with pytest.raises(Conflict):
        await client.delete(PODS, "ns", "a", uid="first")
    assert (await client.get(PODS, "ns", "a"))["metadata"]["uid"] == "second"


async def test_a_patch_can_be_bound_to_a_version(client: Client, server: FakeApiServer) -> None:
    old = server.put(COLLECTION, "a")["metadata"]["resourceVersion"]
    server.put(COLLECTION, "a")
    with pytest.raises(Conflict):
        await client.patch(PODS, "ns", "a", {"metadata": {"resourceVersion": old}})


async def test_a_list_comes_in_pages_that_show_one_moment(client: Client, server: FakeApiServer) -> None:
    for number in range(7):
        server.put(COLLECTION, f"p{number}")
    pages = []
    async for page in client.list_pages(PODS, limit=3):
        pages.append([item["metadata"]["name"] for item in page["items"]])
        server.put(COLLECTION, f"late-{len(pages)}")
    assert pages == [["p0", "p1", "p2"], ["p3", "p4", "p5"], ["p6"]]


async def test_a_list_is_selected_by_the_server(client: Client, server: FakeApiServer) -> None:
    server.put(COLLECTION, "a", metadata={"labels": {"role": "decode"}})
    server.put(COLLECTION, "b", metadata={"labels": {"role": "prefill"}})
    server.put(COLLECTION, "c", namespace="other", metadata={"labels": {"role": "decode"}})
    page = await client.list(PODS, "ns", label_selector="role=decode")
    assert [item["metadata"]["name"] for item in page["items"]] == ["a"]


async def test_a_list_of_nothing_has_no_items(client: Client, server: FakeApiServer) -> None:
    server.fail("list", 200, body=b'{"metadata": {"resourceVersion": "1"}, "items": null}')
    assert (await client.list(NODES))["items"] == []


@pytest.mark.parametrize("body", [b"{}", b"<html>", b"[]"])
async def test_an_answer_that_is_no_list_is_not_taken_for_an_empty_one(
    client: Client, server: FakeApiServer, body: bytes
) -> None:
    server.fail("list", 200, body=body)
    with pytest.raises(Transient):
        await client.list(PODS)


async def test_a_page_that_the_server_has_forgotten_is_gone(client: Client) -> None:
    with pytest.raises(Gone):
        await client.list(PODS, continue_token="old")


async def test_the_server_s_flow_control_is_obeyed(client: Client, server: FakeApiServer) -> None:
    server.fail("create", 429, times=2, Retry_After="0")
    await client.create(PODS, pod("a"))
    assert server.count("create") == 3


async def test_a_wait_longer_than_the_budget_is_the_caller_s(client: Client, server: FakeApiServer) -> None:
    server.fail("get", 429, Retry_After="3600")
    with pytest.raises(TooManyRequests) as caught:
        await client.get(PODS, "ns", "a")
    assert caught.value.retry_after == 3600
    assert server.count("get") == 1


async def test_a_lost_connection_is_tried_again_if_that_does_no_harm(client: Client, server: FakeApiServer) -> None:
    server.put(COLLECTION, "a")
    server.fail("patch", CUT)
    assert (await client.patch(PODS, "ns", "a", {"spec": {}}))["spec"] == {}
    assert server.count("patch") == 2


async def test_a_create_is_not_sent_twice(client: Client, server: FakeApiServer) -> None:
    server.fail("create", CUT)
    with pytest.raises(Transient) as caught:
        await client.create(PODS, pod("a"))
    assert caught.value.reason == CONNECTION_LOST
    assert server.count("create") == 1


async def test_no_server_at_all_is_transient() -> None:
    async with Client.from_url("http://127.0.0.1:1") as client:
        with pytest.raises(Transient) as caught:
            await client.create(PODS, pod("a"))
    assert caught.value.reason == NOT_SENT


async def test_an_answer_that_does_not_come_in_time_is_transient(server: FakeApiServer) -> None:
    server.fail("get", STALL)
    async with Client.from_url(server.url, timeout=0.05) as client:
        with pytest.raises(Transient) as caught:
            await client.get(PODS, "ns", "a")
    assert caught.value.reason == TIMEOUT


async def test_a_failing_server_is_transient_and_its_words_are_kept(client: Client, server: FakeApiServer) -> None:
    server.fail("get", 503)
    with pytest.raises(Transient, match="as told"):
        await client.get(PODS, "ns", "a")
    assert server.count("get") == 1


async def test_the_words_of_a_proxy_on_the_way_are_shown(client: Client, server: FakeApiServer) -> None:
    server.fail("get", 502, body=b"<h1>Bad gateway</h1>")
    with pytest.raises(Transient, match=r"GET /api/v1/namespaces/ns/pods/a: <h1>Bad gateway</h1>"):
        await client.get(PODS, "ns", "a")


async def test_no_more_calls_run_at_a_time_than_allowed(server: FakeApiServer) -> None:
    server.put(COLLECTION, "a")
    async with Client.from_url(server.url, connections=2) as client:
        pods = await asyncio.gather(*(client.get(PODS, "ns", "a") for _ in range(20)))
        assert len(pods) == 20
        addresses = client._transport._session.connector._conns  # type: ignore[union-attr]
        assert sum(map(len, addresses.values())) == 2


async def test_a_rotated_token_is_read_again_after_a_refusal(server: FakeApiServer, tmp_path: Path) -> None:
    file = tmp_path / "token"

    async def read() -> Credentials:
        return Credentials(f"Bearer {file.read_text()}")

    file.write_text("first")
    server.token = "first"
    server.put(COLLECTION, "a")
    authorization = Authorization(read)
    async with Client(Access(server.url, authorization)) as client:
        await client.get(PODS, "ns", "a")
        file.write_text("second")
        server.token = "second"
        authorization._loaded_at -= 60
        await client.get(PODS, "ns", "a")
        server.token = "third"
        with pytest.raises(Unauthorized):
            await client.get(PODS, "ns", "a")
    sent = [seen.headers["Authorization"] for seen in server.requests]
    assert sent == ["Bearer first", "Bearer first", "Bearer second", "Bearer second"]


async def test_a_watch_yields_what_happened_since_and_what_happens(client: Client, server: FakeApiServer) -> None:
    version = server.put(COLLECTION, "before")["metadata"]["resourceVersion"]
    server.put(COLLECTION, "a", metadata={"labels": {"role": "decode"}})
    server.put(COLLECTION, "b", metadata={"labels": {"role": "prefill"}})
    seen = []
    events = client.watch(PODS, "ns", resource_version=version, label_selector="role=decode")
    async with aclosing(events):
        async for event in events:
            seen.append((event["type"], event["object"]["metadata"].get("name")))
            if len(seen) == 1:
                server.remove(COLLECTION, "a")
                server.bookmark()
            if len(seen) == 3:
                break
    assert seen == [("ADDED", "a"), ("DELETED", "a"), ("BOOKMARK", None)]
    assert server.requests[-1].query["allowWatchBookmarks"] == "true"


async def test_a_line_may_have_any_length(client: Client, server: FakeApiServer) -> None:
    server.put(COLLECTION, "a", data="x" * 5_000_000)
    server.put(COLLECTION, "b")
    events = client.watch(PODS, resource_version="1")
    async with aclosing(events):
        first = await anext(events)
        second = await anext(events)
    assert len(first["object"]["data"]) == 5_000_000
    assert second["object"]["metadata"]["name"] == "b"


async def test_lines_may_arrive_in_pieces(client: Client, server: FakeApiServer) -> None:
    events = client.watch(PODS, resource_version="999")
    async with aclosing(events):
        coming = asyncio.ensure_future(anext(events))
        await until(lambda: bool(server.watches))
        line = json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "1"}}})
        for piece in (line[:10], line[10:], "\n"):
            server.say_bytes(piece.encode())
            await asyncio.sleep(0.01)
        assert (await coming)["type"] == "BOOKMARK"


async def test_a_silent_watch_is_given_up(client: Client) -> None:
    events = client.watch(PODS, resource_version="1", silence=0.05)
    async with aclosing(events):
        with pytest.raises(Transient) as caught:
            await anext(events)
    assert caught.value.reason == SILENCE


async def test_a_watch_that_is_cut_is_transient(client: Client, server: FakeApiServer) -> None:
    server.put(COLLECTION, "a")
    events = client.watch(PODS, resource_version="1")
    async with aclosing(events):
        await anext(events)
        server.cut_watches()
        with pytest.raises(Transient) as caught:
            await anext(events)
    assert caught.value.reason == CONNECTION_LOST


async def test_a_watch_that_the_server_ends_just_ends(client: Client, server: FakeApiServer) -> None:
    server.put(COLLECTION, "a")
    events = client.watch(PODS, resource_version="1")
    async with aclosing(events):
        await anext(events)
        server.end_watches()
        assert [event async for event in events] == []


async def test_a_watch_of_something_else_than_json_is_transient(client: Client, server: FakeApiServer) -> None:
    server.fail("watch", 200, body=b"<html>\n")
    events = client.watch(PODS, resource_version="1")
    async with aclosing(events):
        with pytest.raises(Transient, match="not JSON"):
            await anext(events)


async def test_a_closed_watch_frees_its_connection(client: Client, server: FakeApiServer) -> None:
    server.put(COLLECTION, "a")
    events = client.watch(PODS, resource_version="1")
    async with aclosing(events):
        await anext(events)
        assert len(server.watches) == 1
    server.put(COLLECTION, "b")
    await until(lambda: not server.watches)


async def test_a_client_that_is_not_open_says_so(server: FakeApiServer) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Client.from_url(server.url).get(PODS, "ns", "a")


async def test_calls_are_counted_by_verb_and_code(client: Client, server: FakeApiServer) -> None:
    def count(code: str) -> float:
        labels = {"verb": "apply", "code": code}
        return REGISTRY.get_sample_value("rest_client_requests_total", labels) or 0.0

    before = count("201"), count("error")
    await client.apply(PODS, pod("a"))
    server.fail("patch", CUT)
    await client.apply(PODS, pod("a"))
    assert (count("201") - before[0], count("error") - before[1]) == (1, 1)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 # the condition is the server's, not ours to signal
            await asyncio.sleep(0.005)
