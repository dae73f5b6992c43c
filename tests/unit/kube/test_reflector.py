from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

import virtual_time
from baton.kube.errors import SILENCE, Transient
from baton.kube.reflector import Reflector
from baton.kube.resources import PODS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from baton.kube.types import JsonObject, Resource

BOOKMARK = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "2"}}}


class Script:
    """Stands in for the client. A watch follows the next script: numbers pass time, errors are raised."""

    def __init__(self, *watches: Sequence[float | Exception | JsonObject]) -> None:
        self.watches = list(watches)
        self.lists: list[float] = []
        self.times: list[int] = []
        self.opened: list[float] = []

    async def list_pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int = 500,
    ) -> AsyncGenerator[JsonObject, None]:
        self.lists.append(asyncio.get_running_loop().time())
        yield {"metadata": {"resourceVersion": "1"}, "items": []}

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str | None = None,
        field_selector: str | None = None,
        server_timeout: int = 300,
        silence: float = 90.0,
    ) -> AsyncGenerator[JsonObject, None]:
        self.times.append(server_timeout)
        self.opened.append(asyncio.get_running_loop().time())
        for step in self.watches.pop(0) if self.watches else [10**6]:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, dict):
                yield step
            else:
                await asyncio.sleep(step)


def fault() -> Transient:
    return Transient(503, "ServiceUnavailable", "down")


def lists_of(script: Script, *, jitter: float = 0.0, seconds: float = 3600) -> list[float]:
    async def story() -> list[float]:
        reflector = Reflector(script, PODS, project=lambda found: found, retry_delay=1.0, jitter=lambda: jitter)
        running = asyncio.ensure_future(reflector.run())
        await asyncio.sleep(seconds)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        return script.lists

    return virtual_time.run(story())


def test_faults_in_a_row_are_answered_with_a_growing_back_off() -> None:
    assert lists_of(Script(*[[fault()] for _ in range(6)])) == pytest.approx([0, 1, 3, 7, 15, 25, 35])


def test_jitter_spreads_the_lists() -> None:
    assert lists_of(Script([fault()], [fault()]), jitter=0.5) == pytest.approx([0, 0.9, 2.7])


def test_a_steady_watch_ends_the_row_of_faults() -> None:
    script = Script([fault()], [fault()], [20, BOOKMARK, fault()], [fault()])
    assert lists_of(script) == pytest.approx([0, 1, 3, 24, 26])


def test_a_watch_that_breaks_again_and_again_is_no_end_of_the_row() -> None:
    script = Script(*[(BOOKMARK, fault()) for _ in range(4)])
    assert lists_of(script) == pytest.approx([0, 1, 3, 7, 15])


def test_a_watch_that_ends_at_once_and_empty_is_waited_for_without_a_list() -> None:
    script = Script([], [], [2.0], [])
    assert lists_of(script) == [0]
    assert script.opened == pytest.approx([0, 1, 3, 5, 6])


def test_silence_is_no_fault() -> None:
    script = Script(*[(90, Transient(0, SILENCE, "silent")) for _ in range(3)])
    assert lists_of(script) == [0]
    assert script.opened == [0, 90, 180, 270]


def test_a_watch_asks_for_five_to_ten_minutes() -> None:
    script = Script([60.0])
    lists_of(script, jitter=0.5, seconds=100)
    assert script.times == [450, 450]


def test_the_same_fault_is_told_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lists_of(Script([fault()], [fault()], [60.0]))
    assert [record.getMessage() for record in caplog.records] == [
        "synced",
        "out of step, trying again",
        "in step again",
    ]


def test_a_fault_of_a_subscriber_ends_it_loudly() -> None:
    async def story() -> None:
        event = {"type": "ADDED", "object": {"metadata": {"name": "a", "uid": "u", "resourceVersion": "2"}}}
        reflector = Reflector(Script([event]), PODS, project=lambda found: found)
        reflector.subscribe(lambda old, new: 1 / 0)  # type: ignore[arg-type]
        with pytest.raises(ZeroDivisionError):
            await reflector.run()

    virtual_time.run(story())
