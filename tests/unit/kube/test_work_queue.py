from __future__ import annotations

import asyncio
from itertools import count

import pytest
from prometheus_client import REGISTRY

import virtual_time
from baton.kube.work_queue import LISTED, WorkQueue

_numbers = count()


def new_queue() -> WorkQueue[str]:
    return WorkQueue(f"test-{next(_numbers)}", jitter=lambda: 0.0)


def now() -> float:
    return asyncio.get_running_loop().time()


async def take(queue: WorkQueue[str]) -> str | None:
    async with asyncio.timeout(1000):
        return await queue.get()


async def take_now(queue: WorkQueue[str]) -> str | None:
    """Take a key that must be ready, with no time passing."""
    async with asyncio.timeout(0.0001):
        return await queue.get()


def test_keys_come_first_in_first_out() -> None:
    async def story() -> None:
        queue = new_queue()
        for key in ("a", "b", "c"):
            queue.add(key)
        assert [await take_now(queue) for _ in range(3)] == ["a", "b", "c"]

    virtual_time.run(story())


def test_a_waiting_key_waits_once() -> None:
    async def story() -> None:
        queue = new_queue()
        queue.add("a")
        queue.add("b")
        queue.add("a")
        assert [await take_now(queue), await take_now(queue)] == ["a", "b"]
        assert len(queue) == 0

    virtual_time.run(story())


def test_higher_priorities_come_first() -> None:
    async def story() -> None:
        queue = new_queue()
        queue.add("listed", priority=LISTED)
        queue.add("changed")
        queue.add("urgent", priority=5)
        assert [await take_now(queue) for _ in range(3)] == ["urgent", "changed", "listed"]

    virtual_time.run(story())


def test_a_fresh_change_lifts_a_key_of_the_first_list() -> None:
    async def story() -> None:
        queue = new_queue()
        for key in ("a", "b", "c"):
            queue.add(key, priority=LISTED)
        queue.add("c")
        queue.add("c", priority=LISTED)
        assert [await take_now(queue) for _ in range(3)] == ["c", "a", "b"]
        assert len(queue) == 0

    virtual_time.run(story())


def test_a_delayed_key_comes_when_its_time_has_come() -> None:
    async def story() -> None:
        queue = new_queue()
        queue.add("later", after=30)
        queue.add("now")
        assert await take_now(queue) == "now"
        assert await take(queue) == "later"
        assert now() == pytest.approx(30)

    virtual_time.run(story())


@pytest.mark.parametrize("delays", [(30, 10), (10, 30)])
def test_the_earlier_of_two_delays_wins(delays: tuple[float, float]) -> None:
    async def story() -> None:
        queue = new_queue()
        for delay in delays:
            queue.add("a", after=delay)
        assert await take(queue) == "a"
        assert now() == pytest.approx(10)
        queue.done("a")
        with pytest.raises(TimeoutError):
            await take(queue)

    virtual_time.run(story())


def test_an_immediate_add_cancels_a_delay() -> None:
    async def story() -> None:
        queue = new_queue()
        queue.add("a", after=30)
        queue.add("a")
        assert await take_now(queue) == "a"
        queue.done("a")
        with pytest.raises(TimeoutError):
            await take(queue)

    virtual_time.run(story())


def test_a_key_that_is_out_comes_once_more_after_it_is_done() -> None:
    async def story() -> None:
        queue = new_queue()
        queue.add("a")
        assert await take_now(queue) == "a"
        queue.add("a")
        queue.add("a")
        with pytest.raises(TimeoutError):
            await take_now(queue)
        queue.done("a")
        assert await take_now(queue) == "a"
        queue.done("a")
        assert len(queue) == 0

    virtual_time.run(story())


def test_the_delay_of_a_key_that_is_out_runs_from_its_add() -> None:
    async def story() -> None:
        queue = new_queue()
        queue.add("a")
        await take_now(queue)
        queue.add("a", after=10)
        await asyncio.sleep(4)
        queue.done("a")
        assert await take(queue) == "a"
        assert now() == pytest.approx(10)

    virtual_time.run(story())


def test_retries_back_off_from_5_ms_to_300_s() -> None:
    async def story() -> list[float]:
        queue = new_queue()
        queue.add("a")
        waits = []
        for _ in range(20):
            before = now()
            await take(queue)
            waits.append(now() - before)
            queue.retry("a")
            queue.done("a")
        return waits[1:]

    waits = virtual_time.run(story())
    assert waits[:4] == pytest.approx([0.005, 0.01, 0.02, 0.04])
    assert waits[-2:] == pytest.approx([300, 300])


def test_jitter_shortens_a_retry() -> None:
    async def story() -> float:
        queue = WorkQueue[str](f"test-{next(_numbers)}", jitter=lambda: 0.5)
        queue.add("a")
        await take(queue)
        queue.retry("a")
        queue.done("a")
        await take(queue)
        return now()

    assert virtual_time.run(story()) == pytest.approx(0.0045)


def test_a_forgotten_key_starts_its_back_off_anew() -> None:
    async def story() -> None:
        queue = new_queue()
        for _ in range(5):
            queue.retry("a")
        assert queue.forget("a") == 5
        assert queue.forget("a") == 0
        await take(queue)
        queue.done("a")
        before = now()
        queue.retry("a")
        await take(queue)
        assert now() - before == pytest.approx(0.005)

    virtual_time.run(story())


def test_a_change_ends_a_back_off_and_is_counted() -> None:
    async def story() -> float | None:
        name = f"test-{next(_numbers)}"
        queue = WorkQueue[str](name)
        for _ in range(12):
            queue.retry("a")
        await take(queue)
        queue.retry("a")
        queue.done("a")
        queue.add("a")
        assert await take_now(queue) == "a"
        return REGISTRY.get_sample_value("workqueue_backoffs_cut_total", {"name": name})

    assert virtual_time.run(story()) == 1


def test_a_waiting_getter_is_woken_by_an_add() -> None:
    async def story() -> None:
        queue = new_queue()
        getter = asyncio.ensure_future(take(queue))
        await asyncio.sleep(5)
        queue.add("a")
        assert await getter == "a"
        assert now() == pytest.approx(5)

    virtual_time.run(story())


def test_a_getter_that_is_cancelled_as_it_is_woken_hands_its_wake_up_on() -> None:
    async def story() -> None:
        queue = new_queue()
        first = asyncio.ensure_future(queue.get())
        second = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        queue.add("a")
        first.cancel()
        async with asyncio.timeout(1):
            assert await second == "a"
        assert first.cancelled()

    virtual_time.run(story())


def test_a_getter_that_is_cancelled_while_it_waits_takes_no_key() -> None:
    async def story() -> None:
        queue = new_queue()
        getter = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        getter.cancel()
        await asyncio.sleep(0)
        queue.add("a")
        assert await take_now(queue) == "a"

    virtual_time.run(story())


def test_closing_sends_every_getter_home_and_drops_what_waits() -> None:
    async def story() -> None:
        queue = new_queue()
        getters = [asyncio.ensure_future(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        queue.add("later", after=1)
        queue.close()
        assert await asyncio.gather(*getters) == [None, None, None]
        queue.add("a")
        assert await take_now(queue) is None
        assert len(queue) == 0

    virtual_time.run(story())


def test_work_under_way_is_finished_after_closing() -> None:
    async def story() -> None:
        queue = new_queue()
        queue.add("a")
        await take_now(queue)
        queue.add("a")
        queue.close()
        queue.retry("a")
        queue.done("a")
        assert await take_now(queue) is None

    virtual_time.run(story())


def test_the_metrics_follow_a_key() -> None:
    async def story() -> None:
        name = f"test-{next(_numbers)}"
        queue = WorkQueue[str](name)

        def sample(metric: str) -> float | None:
            return REGISTRY.get_sample_value(metric, {"name": name})

        queue.add("a")
        queue.add("a")
        queue.add("later", after=60)
        assert sample("workqueue_depth") == 1
        assert sample("workqueue_adds_total") == 2
        await asyncio.sleep(2)
        await take_now(queue)
        assert sample("workqueue_depth") == 0
        assert sample("workqueue_queue_duration_seconds_sum") == pytest.approx(2)
        await asyncio.sleep(3)
        queue.retry("a")
        queue.done("a")
        assert sample("workqueue_work_duration_seconds_sum") == pytest.approx(3)
        assert sample("workqueue_retries_total") == 1
        queue.add("a")
        queue.close()
        assert sample("workqueue_depth") == 0

    virtual_time.run(story())
