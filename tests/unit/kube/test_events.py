from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import suppress
from typing import TYPE_CHECKING

import virtual_time
from baton.kube.errors import ApiError, Forbidden, NotFound, Transient
from baton.kube.events import EventRecorder
from baton.kube.types import ObjectReference

if TYPE_CHECKING:
    from baton.kube.types import JsonObject, Resource

SERVING = ObjectReference("workload.serving.volcano.sh/v1alpha1", "ModelServing", "ns", "a", "uid-a")


class LoopClock:
    def now(self) -> dt.datetime:
        return dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=asyncio.get_running_loop().time())


class Writes:
    """Stands in for the client: keeps what was written, and fails as often as told."""

    def __init__(self, *failures: ApiError) -> None:
        self.created: list[JsonObject] = []
        self.patched: list[tuple[str, JsonObject]] = []
        self.failures = list(failures)

    async def create(self, resource: Resource, body: JsonObject) -> JsonObject:
        if self.failures:
            raise self.failures.pop(0)
        self.created.append(body)
        return body

    async def patch(self, resource: Resource, namespace: str | None, name: str, patch: JsonObject) -> JsonObject:
        if self.failures:
            raise self.failures.pop(0)
        self.patched.append((name, patch))
        return patch

    def messages(self) -> list[str]:
        return [body["message"] for body in self.created]


def note(recorder: EventRecorder, message: str, *, is_warning: bool = False) -> None:
    recorder.record(SERVING, reason="RoleRunning", message=message, is_warning=is_warning)


async def passes(recorder: EventRecorder, seconds: float) -> None:
    running = asyncio.ensure_future(recorder.run())
    await asyncio.sleep(seconds)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def test_an_event_says_what_happened_to_which_object_and_when() -> None:
    async def story() -> JsonObject:
        writes = Writes()
        recorder = EventRecorder(writes, clock=LoopClock())
        note(recorder, "role decode runs", is_warning=True)
        await passes(recorder, 1)
        (body,) = writes.created
        return body

    body = virtual_time.run(story())
    assert body["metadata"]["namespace"] == "ns"
    assert body["metadata"]["name"].startswith("a.")
    assert body["involvedObject"] == {
        "apiVersion": SERVING.api_version,
        "kind": "ModelServing",
        "namespace": "ns",
        "name": "a",
        "uid": "uid-a",
    }
    assert (body["type"], body["reason"], body["message"]) == ("Warning", "RoleRunning", "role decode runs")
    assert body["firstTimestamp"] == body["lastTimestamp"] == "2026-01-01T00:00:00Z"
    assert body["count"] == 1
    assert body["source"] == {"component": "baton"}


def test_the_events_of_cluster_wide_objects_are_in_the_default_namespace() -> None:
    async def story() -> str:
        writes = Writes()
        recorder = EventRecorder(writes, clock=LoopClock())
        recorder.record(ObjectReference("v1", "Node", "", "n1", "u"), reason="R", message="m")
        await passes(recorder, 1)
        return str(writes.created[0]["metadata"]["namespace"])

    assert virtual_time.run(story()) == "default"


def test_distinct_messages_are_all_written_in_order() -> None:
    messages = [f"role decode-{number} runs" for number in range(200)]

    async def story() -> Writes:
        writes = Writes()
        recorder = EventRecorder(writes, clock=LoopClock())
        for message in messages:
            note(recorder, message)
        await passes(recorder, 60)
        return writes

    writes = virtual_time.run(story())
    assert writes.messages() == messages
    assert len({body["metadata"]["name"] for body in writes.created}) == 200


def test_no_more_than_the_rate_is_written() -> None:
    async def story() -> int:
        writes = Writes()
        recorder = EventRecorder(writes, clock=LoopClock(), rate=10)
        for number in range(100):
            note(recorder, str(number))
        await passes(recorder, 1.95)
        return len(writes.created)

    assert virtual_time.run(story()) == 20


def test_repeats_are_a_count_that_is_written_once_a_minute() -> None:
    async def story() -> Writes:
        writes = Writes()
        recorder = EventRecorder(writes, clock=LoopClock())
        running = asyncio.ensure_future(recorder.run())
        for _ in range(70):
            note(recorder, "pod evicted")
            await asyncio.sleep(1)
        running.cancel()
        return writes

    writes = virtual_time.run(story())
    assert len(writes.created) == 1
    ((name, patch),) = writes.patched
    assert name == writes.created[0]["metadata"]["name"]
    assert patch == {"count": 61, "lastTimestamp": "2026-01-01T00:01:00Z"}


def test_a_clock_that_is_set_back_keeps_no_repeat_from_being_written() -> None:
    class SetBack(LoopClock):
        def now(self) -> dt.datetime:
            return super().now() - dt.timedelta(hours=asyncio.get_running_loop().time() > 30)

    async def story() -> list[tuple[str, JsonObject]]:
        writes = Writes()
        recorder = EventRecorder(writes, clock=SetBack())
        note(recorder, "again")
        await passes(recorder, 70)
        note(recorder, "again")
        await passes(recorder, 1)
        return writes.patched

    ((_, repeat),) = virtual_time.run(story())
    assert repeat["count"] == 2


def test_a_repeat_of_an_event_that_the_server_forgot_is_a_new_event() -> None:
    async def story() -> Writes:
        writes = Writes()
        recorder = EventRecorder(writes, clock=LoopClock())
        note(recorder, "m")
        await passes(recorder, 3700)
        writes.failures.append(NotFound(404, "NotFound", "gone"))
        note(recorder, "m")
        await passes(recorder, 1)
        return writes

    first, second = virtual_time.run(story()).created
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert second["count"] == 1


def test_an_event_outlives_an_absence_of_the_server() -> None:
    async def story() -> list[str]:
        writes = Writes(*[Transient(503, "ServiceUnavailable", "down")] * 4)
        recorder = EventRecorder(writes, clock=LoopClock())
        note(recorder, "first")
        note(recorder, "second")
        await passes(recorder, 60)
        return writes.messages()

    assert virtual_time.run(story()) == ["first", "second"]


def test_an_event_that_the_server_refuses_is_given_up() -> None:
    async def story() -> list[str]:
        writes = Writes(Forbidden(403, "Forbidden", "the namespace is being terminated"))
        recorder = EventRecorder(writes, clock=LoopClock())
        note(recorder, "first")
        note(recorder, "second")
        await passes(recorder, 1)
        return writes.messages()

    assert virtual_time.run(story()) == ["second"]


def test_a_full_backlog_drops_new_events_and_delays_nobody() -> None:
    async def story() -> list[str]:
        writes = Writes()
        recorder = EventRecorder(writes, clock=LoopClock(), backlog=2)
        for message in ("a", "b", "c"):
            note(recorder, message)
        await passes(recorder, 1)
        note(recorder, "c")
        await passes(recorder, 1)
        return writes.messages()

    assert virtual_time.run(story()) == ["a", "b", "c"]


def test_a_long_message_is_cut_at_the_server_s_limit() -> None:
    async def story() -> int:
        writes = Writes()
        recorder = EventRecorder(writes, clock=LoopClock())
        note(recorder, "x" * 5000)
        await passes(recorder, 1)
        return len(writes.messages()[0])

    assert virtual_time.run(story()) == 1024
