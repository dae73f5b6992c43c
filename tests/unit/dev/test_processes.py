from __future__ import annotations

import signal
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from baton.dev.processes import Process, is_running, start_process, stop_process, uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    """Start Python with a program that prints "ready" when it is, and stop it in the end."""
    started: list[Process] = []

    def start(program: str) -> Process:
        log = tmp_path / f"{len(started)}.log"
        process = start_process([sys.executable, "-uc", program], log=log, environment={"COLOR": "blue"})
        started.append(process)
        deadline = time.monotonic() + 10
        while "ready" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        return process

    yield start
    for process in started:
        stop_process(process, patience=0)


SLEEP = "import time; print('ready'); time.sleep(60)"


def test_a_started_process_runs_until_it_is_stopped(start: Callable[[str], Process]) -> None:
    process = start(SLEEP)
    assert is_running(process)
    stop_process(process)
    assert not is_running(process)


def test_stopping_twice_is_fine(start: Callable[[str], Process]) -> None:
    process = start(SLEEP)
    stop_process(process)
    stop_process(process)


def test_a_process_that_does_not_listen_is_killed(start: Callable[[str], Process]) -> None:
    process = start(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}")
    stop_process(process, patience=0.1)
    assert not is_running(process)


def test_a_stranger_with_the_same_pid_is_left_alone(start: Callable[[str], Process]) -> None:
    process = start(SLEEP)
    earlier = replace(process, start=process.start - 1)
    assert not is_running(earlier)
    stop_process(earlier)
    assert is_running(process)


def test_a_process_that_ended_does_not_run_even_while_nobody_asks_for_its_result(
    start: Callable[[str], Process],
) -> None:
    process = start("print('ready')")
    deadline = time.monotonic() + 10
    while is_running(process):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_output_and_errors_go_to_the_log_and_the_environment_is_the_given_one(
    start: Callable[[str], Process], tmp_path: Path
) -> None:
    start("import os, sys; print(os.environ['COLOR'], file=sys.stderr); print('ready')")
    assert (tmp_path / "0.log").read_text() == "blue\nready\n"


def test_a_process_is_in_a_session_of_its_own(start: Callable[[str], Process], tmp_path: Path) -> None:
    process = start("import os; print(os.getsid(0)); print('ready')")
    assert (tmp_path / "0.log").read_text().split() == [str(process.pid), "ready"]


def test_an_interrupt_waits_for_the_end_of_an_uninterrupted_block() -> None:
    reached_the_end = False

    def interrupt_inside() -> None:
        nonlocal reached_the_end
        with uninterrupted():
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            reached_the_end = True

    with pytest.raises(KeyboardInterrupt):
        interrupt_inside()
    assert reached_the_end
