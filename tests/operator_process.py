"""The operator as a process of its own, on an API server of its own that nobody else's operator looks at."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from baton.dev.binaries import ensure_binaries
from baton.dev.kubectl import Kubectl
from baton.dev.local import LocalControlPlane
from baton.dev.pins import find_module, read_pins
from baton.dev.progress import ConsoleReport
from baton.dev.provider import ControlPlaneError
from baton.dev.system import HOST, free_ports
from builders import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 60.0


@dataclass(frozen=True)
class Running:
    """An operator that runs, or has run."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return self.get("/readyz")[0] == 200

    def stop(self) -> int:
        """Ask it to end as the kubelet does; return its exit code. It has ten seconds."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=10)


@dataclass(frozen=True)
class Machine:
    """An API server with nodes, and a directory for logs."""

    control_plane: LocalControlPlane
    directory: Path

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.control_plane.kubectl, self.control_plane.kubeconfig)

    def apply(self, *documents: dict[str, Any]) -> None:
        self.kubectl.run("apply", "--filename=-", standard_input=yaml.safe_dump_all(documents))

    def pods(self, name: str) -> set[str]:
        text = self.kubectl.run("get", "pods", f"--selector=modelserving.volcano.sh/name={name}", "--output=name")
        return {line.removeprefix("pod/") for line in text.split()}

    def uid(self, pod: str) -> str:
        return self.kubectl.run("get", "pod", pod, "--ignore-not-found", "--output=jsonpath={.metadata.uid}")

    @contextmanager
    def operator(self, *arguments: str, kubeconfig: Path | None = None) -> Iterator[Running]:
        (port,) = free_ports(1)
        log = self.directory / f"operator-{port}.log"
        kubeconfig = kubeconfig or self.control_plane.kubeconfig
        options = ("--kubeconfig", str(kubeconfig), "--probe-host", HOST, "--probe-port", str(port))
        command = [sys.executable, "-m", "baton", "operator", *options, *arguments]
        with log.open("wb") as stream, subprocess.Popen(command, stderr=stream) as process:
            running = Running(process, port, log)
            try:
                yield running
            finally:
                process.kill()
        assert "Traceback" not in log.read_text(), log.read_text()


@contextmanager
def control_plane(name: str, directory: Path, *, crds: Path | None = None) -> Iterator[Machine]:
    try:
        ensure_binaries(read_pins(find_module()), report=ConsoleReport())
    except ControlPlaneError as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(directory))
        with LocalControlPlane(name=name, nodes=4, crds=crds) as running:
            yield Machine(running, directory)


def until(is_true: Callable[[], bool], what: str, *, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not is_true():
        assert time.monotonic() < deadline, f"waited {patience} s in vain until {what}"
        time.sleep(0.05)


def model(name: str, *, replicas: int = 1) -> dict[str, Any]:
    document = serving(name, replicas=replicas, schedulerName="default-scheduler").role("decode").document()
    return {**document, "metadata": {"name": name}, "status": None}
