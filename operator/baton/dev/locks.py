"""Let one process at a time do something on this machine."""

from __future__ import annotations

import fcntl
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from baton.dev.progress import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from baton.dev.progress import Report


@contextmanager
def hold_lock(path: Path, *, waiting_for: str, report: Report) -> Iterator[None]:
    """Hold the lock of a file inside the block; wait for it as long as it takes, saying so. Its end frees the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    watch = Stopwatch()
    with path.open("w") as lock:
        while not _try_lock(lock.fileno()):
            report(f"waiting for {waiting_for}: {watch}", passing=True)
            time.sleep(0.2)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
