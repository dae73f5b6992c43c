"""Runs Baton's own programs beside a local control plane: simulated engines, operator and router, as processes.

They are written into the control plane's record, so that `baton dev down` stops them with it.
"""

from __future__ import annotations

import http.client
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.dev.addresses import choose_port
from baton.dev.processes import Process, is_running, start_process, stop_process, uninterrupted
from baton.dev.progress import Report, Stopwatch, keep_silent
from baton.dev.provider import ControlPlaneError
from baton.dev.record import read_record, write_record

if TYPE_CHECKING:
    from pathlib import Path

    from baton.dev.local import LocalControlPlane

HOST = "127.0.0.1"
_DEADLINE = 60.0
"""Seconds for a program to become ready; a quiet machine needs two."""
_LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class Program:
    """A program: its command line after `baton`, and where it says that it is ready."""

    name: str
    arguments: tuple[str, ...]
    port: int
    path: str


def simulated_engines(*, ports: str, rate: float) -> Program:
    """Return simulated engines that answer for every pod on these ports (`7100-7115`), `rate` tokens a second."""
    first = int(ports.split("-", maxsplit=1)[0].split(",", maxsplit=1)[0])
    return Program("baton-sim", ("sim", "--ports", ports, "--tokens-per-second", str(rate)), first, "/health")


def operator(kubeconfig: Path, *options: str, probe_port: int) -> Program:
    """Return the operator; `options` are more of its own."""
    arguments = ("operator", "--kubeconfig", str(kubeconfig), "--probe-host", HOST, "--probe-port", str(probe_port))
    return Program("baton-operator", (*arguments, *options), probe_port, "/readyz")


def router(kubeconfig: Path, *, port: int, admin_port: int) -> Program:
    """Return the router; clients use `port`."""
    ports = ("--host", HOST, "--port", str(port), "--admin-host", HOST, "--admin-port", str(admin_port))
    return Program("baton-router", ("router", "--kubeconfig", str(kubeconfig), *ports), port, "/readyz")


class System:
    """Starts, restarts and stops programs beside one local control plane that is up."""

    def __init__(self, control_plane: LocalControlPlane, *, report: Report = keep_silent) -> None:
        self._control_plane = control_plane
        self._report = report
        self._programs: dict[str, Program] = {}

    def start(self, program: Program) -> None:
        """Start a program and wait until it is ready. Raises ControlPlaneError with the end of its log."""
        watch = Stopwatch()
        self._programs[program.name] = program
        process = self._spawn(program)
        while not _answers(program):
            if not is_running(process) or watch.seconds > _DEADLINE:
                raise ControlPlaneError(f"{program.name} does not become ready:\n{self._last_words(program)}")
            self._report(f"waiting for {program.name} ({watch})", passing=True)
            time.sleep(0.1)
        self._report(f"{program.name} is ready ({watch})")

    def stop(self, name: str) -> None:
        """Stop a program as Kubernetes would: SIGTERM, and SIGKILL if it does not end."""
        record = read_record(self._control_plane.directory)
        if record is not None and name in record.processes:
            stop_process(record.processes[name])

    def restart(self, name: str) -> None:
        """Stop a program and start it again with the same arguments."""
        self.stop(name)
        self.start(self._programs[name])

    def log(self, name: str) -> Path:
        """Return the log of a program."""
        return self._control_plane.directory / "logs" / f"{name}.log"

    def _spawn(self, program: Program) -> Process:
        directory = self._control_plane.directory
        command = [sys.executable, "-m", "baton", *program.arguments]
        with uninterrupted():
            process = start_process(command, log=self.log(program.name), environment=os.environ)
            record = read_record(directory)
            if record is None:
                stop_process(process)
                raise ControlPlaneError(f"control plane {self._control_plane.name} is down: run baton dev up")
            write_record(directory, record.add(program.name, process))
        return process

    def _last_words(self, program: Program) -> str:
        lines = self.log(program.name).read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES:])


def free_ports(count: int) -> list[int]:
    """Return ports that are free now, all different."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(choose_port())
    return list(ports)


def _answers(program: Program) -> bool:
    connection = http.client.HTTPConnection(HOST, program.port, timeout=2)
    try:
        connection.request("GET", program.path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
