"""Calls of engines that run side by side for one request, of which none outlives it. Makes no call itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

_Result = TypeVar("_Result")


class Siblings:
    """Tasks that end with their block: use it with `async with`.

    A TaskGroup would end the block with the first error, before it is known whose fault it was.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.abort(*self._tasks)

    def start(self, work: Coroutine[Any, Any, _Result], *, name: str) -> asyncio.Task[_Result]:
        """Begin one more."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        return task

    async def abort(self, *tasks: asyncio.Task[Any] | None) -> None:
        """End these; the engines see their client leave."""
        left = [task for task in tasks if task is not None]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
