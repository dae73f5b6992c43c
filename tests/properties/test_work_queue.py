from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

import virtual_time
from baton.kube.work_queue import WorkQueue

KEYS = ("a", "b", "c")


@dataclass(frozen=True)
class Write:
    key: str
    after: float
    priority: int


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class CancelWorker:
    """Cancels the worker while it waits for a key; another takes its place."""

    number: int


seconds = st.sampled_from([0.0, 0.001, 0.01, 0.5, 3.0])
steps = st.one_of(
    st.builds(Write, st.sampled_from(KEYS), st.sampled_from([0.0, 0.0, 0.01, 2.0]), st.sampled_from([-100, 0, 7])),
    st.builds(Pause, seconds),
    st.builds(CancelWorker, st.integers(0, 3)),
)
outcomes = st.lists(st.tuples(seconds, st.booleans()), min_size=1, max_size=8)


class World:
    """What was written and what the workers have seen of it."""

    def __init__(self, outcomes: list[tuple[float, bool]]) -> None:
        self.queue = WorkQueue[str]("property", jitter=lambda: 0.3)
        self.written = dict.fromkeys(KEYS, 0)
        self.seen = dict.fromkeys(KEYS, 0)
        self.running: set[str] = set()
        self.waiting: set[int] = set()
        self._outcomes = list(outcomes)

    async def work(self, number: int) -> None:
        while True:
            self.waiting.add(number)
            key = await self.queue.get()
            self.waiting.discard(number)
            if key is None:
                return
            assert key not in self.running, "one key at two workers"
            self.running.add(key)
            seen = self.written[key]
            duration, is_failure = self._outcomes.pop() if self._outcomes else (0.0, False)
            await asyncio.sleep(duration)
            if is_failure:
                self.queue.retry(key)
            else:
                self.queue.forget(key)
                self.seen[key] = seen
            self.running.discard(key)
            self.queue.done(key)


@settings(max_examples=300)
@given(script=st.lists(steps, max_size=40), outcomes=outcomes, workers=st.integers(1, 4))
def test_no_key_runs_twice_at_once_and_the_last_success_of_each_has_seen_the_last_write(
    script: list[Write | Pause | CancelWorker], outcomes: list[tuple[float, bool]], workers: int
) -> None:
    async def story() -> World:
        world = World(outcomes)
        tasks = [asyncio.ensure_future(world.work(number)) for number in range(workers)]
        for step in script:
            match step:
                case Write(key, after, priority):
                    world.written[key] += 1
                    world.queue.add(key, after=after, priority=priority)
                case Pause(length):
                    await asyncio.sleep(length)
                case CancelWorker(number) if number in world.waiting:
                    world.waiting.discard(number)
                    tasks[number].cancel()
                    tasks[number] = asyncio.ensure_future(world.work(number))
                case CancelWorker():
                    pass
        await asyncio.sleep(3600)
        assert not world.running
        assert len(world.queue) == 0
        world.queue.close()
        await asyncio.gather(*tasks)
        return world

    world = virtual_time.run(story())
    assert world.seen == world.written
