from __future__ import annotations

import asyncio
import itertools
import logging
from itertools import count
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY

import virtual_time
from baton.controllers.base import Controller, TerminalError
from baton.kube.errors import Conflict
from baton.kube.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from baton.kube.types import JsonObject

_numbers = count()


def pod(name: str, *, version: int, owner: str) -> JsonObject:
    metadata = {"namespace": "ns", "name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata, "owner": owner}


class Bench:
    """A controller of one store of pods, whose reconcile notes its keys and then does as told."""

    def __init__(self, *, workers: int = 1) -> None:
        self.seen: list[tuple[float, str]] = []
        self.answers: dict[str, list[Callable[[], Awaitable[float | None]]]] = {}
        self.pods: Store[str] = Store(lambda found: found["owner"])
        self.name = f"bench-{next(_numbers)}"
        self.controller: Controller[str] = Controller(
            name=self.name, reconcile=self.reconcile, workers=workers, jitter=lambda: 0.0
        )
        self.controller.owns(self.pods, lambda owner: (owner,))

    async def reconcile(self, key: str) -> float | None:
        self.seen.append((asyncio.get_running_loop().time(), key))
        answers = self.answers.get(key)
        return await answers.pop(0)() if answers else None

    def keys(self) -> list[str]:
        return [key for _, key in self.seen]

    def times(self) -> list[float]:
        return [time for time, _ in self.seen]

    def count(self, result: str) -> float | None:
        labels = {"controller": self.name, "result": result}
        return REGISTRY.get_sample_value("controller_reconcile_total", labels)

    async def run_for(self, seconds: float) -> None:
        running = asyncio.ensure_future(self.controller.run())
        await asyncio.sleep(seconds)
        self.controller.close()
        await running


async def returns(value: float | None) -> float | None:
    return value


def raises(error: Exception) -> Callable[[], Awaitable[float | None]]:
    async def answer() -> float | None:
        raise error

    return answer


def test_nothing_is_reconciled_on_half_a_cache() -> None:
    async def story() -> None:
        bench = Bench()
        running = asyncio.ensure_future(bench.controller.run())
        bench.pods.offer("ADDED", pod("a", version=1, owner="x"))
        await asyncio.sleep(10)
        assert bench.seen == []
        bench.pods.synced.set()
        await asyncio.sleep(1)
        assert bench.seen == [(10, "x")]
        bench.controller.close()
        await running

    virtual_time.run(story())


def test_a_change_concerns_the_old_owner_and_the_new() -> None:
    async def story() -> None:
        bench = Bench()
        bench.pods.offer("ADDED", pod("a", version=1, owner="old"))
        bench.pods.synced.set()
        running = asyncio.ensure_future(bench.run_for(5))
        await asyncio.sleep(1)
        assert bench.keys() == ["old"]
        bench.pods.offer("ADDED", pod("a", version=2, owner="new"))
        await running
        assert sorted(bench.keys()[1:]) == ["new", "old"]

    virtual_time.run(story())


def test_a_deletion_concerns_the_last_owner() -> None:
    async def story() -> None:
        bench = Bench()
        bench.pods.offer("ADDED", pod("a", version=1, owner="x"))
        bench.pods.synced.set()
        running = asyncio.ensure_future(bench.run_for(5))
        await asyncio.sleep(1)
        bench.pods.offer("DELETED", pod("a", version=2, owner="x"))
        await running
        assert bench.keys() == ["x", "x"]

    virtual_time.run(story())


def test_fresh_changes_overtake_what_the_first_list_brought() -> None:
    async def story() -> None:
        bench = Bench()
        for number in range(3):
            bench.pods.offer("ADDED", pod(f"p{number}", version=number, owner=f"listed-{number}"))
        bench.pods.synced.set()
        bench.pods.offer("ADDED", pod("fresh", version=9, owner="fresh"))
        await bench.run_for(1)
        assert bench.keys() == ["fresh", "listed-0", "listed-1", "listed-2"]

    virtual_time.run(story())


def test_a_reconcile_that_asks_for_it_is_called_again_later() -> None:
    async def story() -> None:
        bench = Bench()
        bench.pods.synced.set()
        bench.answers["x"] = [lambda: returns(30.0)]
        bench.controller.queue.add("x")
        await bench.run_for(100)
        assert bench.times() == pytest.approx([0, 30])
        assert (bench.count("requeue"), bench.count("success")) == (1, 1)

    virtual_time.run(story())


def test_a_failure_is_tried_again_with_back_off_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def story() -> None:
        bench = Bench()
        bench.pods.synced.set()
        bench.answers["x"] = [raises(Conflict(409, "Conflict", "another version"))] * 3
        bench.controller.queue.add("x")
        await bench.run_for(10)
        assert bench.times() == pytest.approx([0, 0.005, 0.015, 0.035])
        assert (bench.count("error"), bench.count("success")) == (3, 1)

    virtual_time.run(story())
    failed, works = caplog.records
    assert (failed.levelno, failed.exc_info) == (logging.WARNING, None)
    assert works.getMessage() == "reconcile works again"


def test_a_failure_whose_message_changes_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        bench = Bench()
        bench.pods.synced.set()
        bench.answers["x"] = [raises(Conflict(409, "Conflict", message)) for message in ("one", "one", "two")]
        bench.controller.queue.add("x")
        await bench.run_for(10)

    virtual_time.run(story())
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_an_unexpected_failure_shows_its_stack_and_stops_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        bench = Bench()
        bench.pods.synced.set()
        bench.answers["x"] = [raises(ZeroDivisionError("bug"))]
        bench.controller.queue.add("x")
        bench.controller.queue.add("y")
        await bench.run_for(10)
        assert bench.keys() == ["x", "y", "x"]

    virtual_time.run(story())
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None


def test_a_terminal_error_waits_for_the_next_change(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        bench = Bench()
        bench.pods.synced.set()
        bench.answers["x"] = [raises(TerminalError("spec.replicas: must not be negative"))]
        running = asyncio.ensure_future(bench.run_for(1000))
        bench.controller.queue.add("x")
        await asyncio.sleep(500)
        assert bench.keys() == ["x"]
        bench.controller.queue.add("x")
        await running
        assert bench.times() == [0, 500]
        assert (bench.count("terminal"), bench.count("success")) == (1, 1)

    virtual_time.run(story())
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_closing_lets_the_reconciles_under_way_finish() -> None:
    async def story() -> None:
        bench = Bench(workers=2)
        bench.pods.synced.set()
        finished = []

        async def slow() -> float | None:
            await asyncio.sleep(5)
            finished.append(True)
            return None

        bench.answers["x"] = [slow]
        bench.controller.queue.add("x")
        await bench.run_for(1)
        assert finished == [True]

    virtual_time.run(story())


def test_closing_forgets_the_sources() -> None:
    async def script() -> None:
        bench = Bench()
        bench.controller.close()
        bench.pods.offer("ADDED", pod("a", version=1, owner="one"))
        assert bench.pods._subscribers == []
        assert len(bench.controller.queue) == 0

    virtual_time.run(script())


def test_one_slow_key_does_not_hold_up_another() -> None:
    async def story() -> None:
        bench = Bench(workers=2)
        bench.pods.synced.set()

        async def slow() -> float | None:
            await asyncio.sleep(50)
            return None

        bench.answers["slow"] = [slow]
        bench.controller.queue.add("slow")
        bench.controller.queue.add("quick")
        await bench.run_for(1)
        assert bench.seen == [(0, "slow"), (0, "quick")]

    virtual_time.run(story())


def test_a_change_that_the_projection_does_not_show_concerns_nobody() -> None:
    async def story() -> None:
        bench = Bench()
        bench.pods.offer("ADDED", pod("a", version=1, owner="x"))
        bench.pods.synced.set()
        running = asyncio.ensure_future(bench.run_for(5))
        await asyncio.sleep(1)
        bench.pods.offer("MODIFIED", pod("a", version=2, owner="x"))
        await running
        assert bench.keys() == ["x"]

    virtual_time.run(story())


def taking(seconds: float) -> Callable[[], Awaitable[float | None]]:
    async def answer() -> float | None:
        await asyncio.sleep(seconds)
        return None

    return answer


async def change_every(interval: float, bench: Bench, *, until: float) -> None:
    loop = asyncio.get_running_loop()
    while loop.time() < until:
        bench.pods.offer("ADDED", pod(f"p{next(_numbers)}", version=1, owner="x"))
        await asyncio.sleep(interval)


@pytest.mark.parametrize(("takes", "expected"), [(0.02, 0.1), (0.1, 0.5), (0.3, 1.0)])
def test_a_burst_of_changes_is_gathered_the_more_the_longer_a_reconcile_takes(takes: float, expected: float) -> None:
    async def story() -> None:
        bench = Bench()
        bench.pods.synced.set()
        bench.answers["x"] = [taking(takes)] * 1000
        running = asyncio.ensure_future(bench.run_for(10))
        await change_every(0.001, bench, until=9)
        await running
        times = bench.times()
        first, *later = [after - before for before, after in itertools.pairwise(times)]
        assert first == pytest.approx(takes, abs=0.002), "nobody knew yet how long it takes"
        assert later == pytest.approx([expected] * len(later), abs=0.002)

    virtual_time.run(story())


def test_the_first_change_after_a_quiet_time_is_acted_on_at_once() -> None:
    async def story() -> None:
        bench = Bench()
        bench.pods.synced.set()
        bench.answers["x"] = [taking(0.3)] * 3
        running = asyncio.ensure_future(bench.run_for(20))
        for moment in (1, 5, 9):
            await asyncio.sleep(moment - asyncio.get_running_loop().time())
            bench.pods.offer("ADDED", pod(f"p{moment}", version=1, owner="x"))
        await running
        assert bench.times() == pytest.approx([1, 5, 9])

    virtual_time.run(story())


def test_a_failure_keeps_its_own_back_off() -> None:
    async def story() -> None:
        bench = Bench()
        bench.pods.synced.set()

        async def slow_failure() -> float | None:
            await asyncio.sleep(0.1)
            raise Conflict(409, "Conflict", "another version")

        bench.answers["x"] = [slow_failure]
        bench.controller.queue.add("x")
        await bench.run_for(10)
        assert bench.times() == pytest.approx([0, 0.105])

    virtual_time.run(story())
