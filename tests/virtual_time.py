"""An event loop whose clock jumps to the next timer, so that tests of delays are exact and take no time."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine on a loop with virtual time, which starts at 0. For code without sockets and threads."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Waits for no timer: when nothing else is to be done, its time is that of the next one."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Skipper(self))

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def skip(self, seconds: float) -> None:
        """Let the time pass."""
        self._now += seconds


class _Skipper(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("every task waits for another one: the test would hang")
        if not ready and timeout is not None and timeout > 0:
            self._loop.skip(timeout)
        return ready
