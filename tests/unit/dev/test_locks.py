from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from baton.dev.locks import hold_lock
from baton.dev.progress import keep_silent

if TYPE_CHECKING:
    from pathlib import Path


def test_the_second_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".lock"
    is_waiting = threading.Event()
    order: list[str] = []

    def report(line: str, *, passing: bool = False) -> None:
        assert line.startswith("waiting for the other")
        is_waiting.set()

    def be_second() -> None:
        with hold_lock(path, waiting_for="the other", report=report):
            order.append("second")

    with hold_lock(path, waiting_for="nobody", report=keep_silent):
        second = threading.Thread(target=be_second)
        second.start()
        assert is_waiting.wait(10)
        order.append("first")
    second.join(10)
    assert order == ["first", "second"]
