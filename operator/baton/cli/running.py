"""Runs the main coroutine of a program that lives long. What the coroutine does is the program's business."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_GC_THRESHOLDS = (50_000, 20, 20)
"""New objects per collection of the youngest generation, then collections per one of the next older.

Python's 700, 10, 10 look through everything alive several times while a list of thousands of objects is read: 5,000
pods cost 2.4 times the CPU. Little of what we make is cyclic, and what is waits a little longer.
"""


def run_long(
    main: Coroutine[object, object, None], *, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> None:
    """Run until the coroutine returns, on a loop of this factory or asyncio's own. Raises what it raises."""
    gc.set_threshold(*_GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main)
