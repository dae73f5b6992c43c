"""One operator behind a proxy, started again whenever it was killed; its memory can be looked at."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from baton.dev.system import HOST
from faulty_proxy import Kill

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from faulty_proxy import FaultyProxy

_PROGRAM = Path(__file__).with_name("observed_program.py")
_PATIENCE = 60.0


@dataclass(frozen=True)
class Memory:
    """What a process holds after collecting its garbage: resident bytes, and objects that the collector knows."""

    resident: int
    objects: int


class MortalOperator:
    """`baton operator` as a process of its own; `directory` takes its log."""

    def __init__(self, proxy: FaultyProxy, directory: Path) -> None:
        self.starts = 0
        self.log = directory / "operator.log"
        self._proxy = proxy
        self._report = directory / "memory.json"
        self._process: Process | None = None

    async def run(self) -> None:
        """Keep it running until cancelled, which kills it. Fails if it ends by itself."""
        options = ("--kubeconfig", str(self._proxy.kubeconfig), "--probe-host", HOST, "--probe-port", "0")
        command = (sys.executable, str(_PROGRAM), str(self._report), "operator", *options)
        with self.log.open("ab") as stream:
            while True:
                self.starts += 1
                self._process = await asyncio.create_subprocess_exec(*command, stderr=stream)
                try:
                    code = await self._process.wait()
                finally:
                    if self._process.returncode is None:
                        self._process.kill()
                        await self._process.wait()
                assert code == -signal.SIGKILL, self.log.read_text()

    def kill(self) -> None:
        """Kill it now."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def kill_at(self, write: int, *, is_sent: bool) -> None:
        """Kill it at a write from now on (1: the next), before or after the server has seen that."""
        self._proxy.kill = Kill(write, is_sent, self.kill)

    async def memory(self) -> Memory:
        """Look at its memory; it must have done some work before, so that it listens."""
        assert self._process is not None
        self._report.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        async with asyncio.timeout(_PATIENCE):
            while True:
                await asyncio.sleep(0.1)
                if self._report.exists():
                    return Memory(**json.loads(self._report.read_text()))
