"""Start programs that outlive us, know them again, and stop them.

A process is known by its pid and its start time, so that a pid used again by a stranger is left alone. Linux only.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Seconds that a process gets to end by itself before it is killed.
PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Process:
    """A process on this machine. `start` is in clock ticks since boot, as in /proc/PID/stat."""

    pid: int
    start: int


def start_process(command: list[str], *, log: Path, environment: Mapping[str, str]) -> Process:
    """Start a command in a session of its own, so that Ctrl-C does not reach it, with its output added to a log."""
    pid = os.posix_spawn(
        command[0],
        command,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=(),
    )
    return Process(pid=pid, start=_read_start(pid) or 0)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the end of the block, so that what is started there is also written down."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_running(process: Process) -> bool:
    """Tell whether it still runs: a zombie does not."""
    return process.start != 0 and _read_start(process.pid) == process.start


def stop_process(process: Process, *, patience: float = PATIENCE) -> None:
    """Ask a process to end, then kill it after `patience` seconds. Does nothing when it is gone."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        # Checked with the handle open: from here on the pid can't pass to somebody else unnoticed.
        if is_running(process):
            _end(handle, patience)
    finally:
        os.close(handle)
    with suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)


def _end(handle: int, patience: float) -> None:
    exits = select.poll()
    exits.register(handle, select.POLLIN)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
        if exits.poll(patience * 1000):
            return


def _read_start(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may hold anything; after it come the state (field 3) and, as field 22, the start time.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])
