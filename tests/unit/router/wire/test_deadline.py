from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from baton.router.wire.deadline import Deadline

if TYPE_CHECKING:
    import asyncio


class Timer:
    def __init__(self, loop: Loop, when: float, callback: Any) -> None:
        self.loop, self.when, self.callback = loop, when, callback

    def cancel(self) -> None:
        self.loop.timers.remove(self)


class Loop:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []
        self.armed = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any) -> Timer:
        self.armed += 1
        self.timers.append(Timer(self, when, callback))
        return self.timers[-1]

    def move_to(self, now: float) -> None:
        self.now = now
        for timer in [timer for timer in self.timers if timer.when <= now]:
            self.timers.remove(timer)
            timer.callback()


def make() -> tuple[Loop, Deadline, list[float]]:
    loop, passed = Loop(), []
    deadline = Deadline(cast("asyncio.AbstractEventLoop", loop), lambda: passed.append(loop.now))
    return loop, deadline, passed


def test_it_calls_back_once() -> None:
    loop, deadline, passed = make()
    deadline.set(2.0)

    for now in (1.0, 2.0, 3.0):
        loop.move_to(now)

    assert passed == [2.0]
    assert loop.timers == []


def test_moving_it_later_sets_no_timer_until_the_first_has_fired() -> None:
    loop, deadline, passed = make()
    for when in (2.0, 3.0, 4.0):
        deadline.set(when)
    assert loop.armed == 1

    for now in (2.0, 3.0, 4.0):
        loop.move_to(now)

    assert (passed, loop.armed) == ([4.0], 2)


def test_it_can_be_moved_earlier() -> None:
    loop, deadline, passed = make()
    deadline.set(5.0)
    deadline.set(1.0)

    for now in (1.0, 5.0):
        loop.move_to(now)

    assert passed == [1.0]


def test_a_cleared_one_never_passes_and_can_be_set_again() -> None:
    loop, deadline, passed = make()
    deadline.set(1.0)
    deadline.clear()
    loop.move_to(2.0)
    assert passed == []

    deadline.set(3.0)
    loop.move_to(3.0)

    assert passed == [3.0]


def test_cancelling_gives_the_timer_back() -> None:
    loop, deadline, _ = make()
    deadline.set(1.0)

    deadline.cancel()

    assert loop.timers == []
