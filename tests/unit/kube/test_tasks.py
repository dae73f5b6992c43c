from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import TYPE_CHECKING

import virtual_time
from baton.kube import tasks

if TYPE_CHECKING:
    import pytest


def test_a_task_runs_under_its_name() -> None:
    async def work() -> str:
        task = asyncio.current_task()
        assert task is not None
        return task.get_name()

    async def story() -> str:
        return await tasks.start(work(), name="scrape")

    assert virtual_time.run(story()) == "scrape"


def test_a_task_that_nobody_else_holds_is_kept() -> None:
    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    async def story() -> None:
        task = weakref.ref(tasks.start(forever(), name="kept"))
        await asyncio.sleep(1)
        gc.collect()
        kept = task()
        assert kept is not None
        kept.cancel()

    virtual_time.run(story())


def test_the_death_of_a_task_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async def work() -> None:
            raise ValueError("broken")

        task = tasks.start(work(), name="scrape")
        await asyncio.sleep(1)
        assert task.done()

    virtual_time.run(story())
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None


def test_a_cancelled_task_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        tasks.start(asyncio.sleep(60), name="sleeper").cancel()
        await asyncio.sleep(1)

    virtual_time.run(story())
    assert caplog.records == []
