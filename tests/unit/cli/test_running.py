from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from baton.cli.running import run_long

if TYPE_CHECKING:
    from collections.abc import Iterator


class OwnLoop(asyncio.SelectorEventLoop):
    pass


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_it_collects_garbage_seldom() -> None:
    async def main() -> None:
        assert gc.get_threshold()[0] == 50_000

    run_long(main())


def test_it_runs_on_the_loop_it_is_told() -> None:
    async def main() -> None:
        assert isinstance(asyncio.get_running_loop(), OwnLoop)

    run_long(main(), loop_factory=OwnLoop)


def test_it_raises_what_the_program_raises() -> None:
    async def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_long(main())
