"""Starts tasks that outlive the block that starts them. Where there is one, use an asyncio.TaskGroup."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

_logger = logging.getLogger(__name__)
_running: set[asyncio.Task[Any]] = set()


def start(work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Run the coroutine as a task with this name, keep it alive, and log the error it may die of.

    The loop itself holds tasks weakly: one that nobody else holds can be collected half-way.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        event(_logger, logging.ERROR, "task died", task=task.get_name(), error=repr(error), exc_info=error)
