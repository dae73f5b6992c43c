"""The operator as a process of its own, on an API server of its own that nobody else's operator looks at."""

from __future__ import annotations

import http.client
import os
import signal
import socket
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

pytestmark = pytest.mark.controlplane

PATIENCE = 30.0
OUTAGE = 10.0


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


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with control_plane("process", tmp_path_factory.mktemp("state")) as made:
        yield made


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


def until(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_true():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain until {what}"
        time.sleep(0.05)


def model(name: str, *, replicas: int = 1) -> dict[str, Any]:
    document = serving(name, replicas=replicas, schedulerName="default-scheduler").role("decode").document()
    return {**document, "metadata": {"name": name}, "status": None}


def test_it_answers_probes_acts_on_what_is_applied_and_ends_cleanly(machine: Machine) -> None:
    with machine.operator() as operator:
        until(operator.is_ready, "the operator is ready")
        assert operator.get("/healthz") == (200, "ok\n")
        machine.apply(model("first"))
        until(lambda: machine.pods("first") == {"first-0-decode-0-0"}, "the pod is there")
        status, metrics = operator.get("/metrics")
        assert status == 200
        assert 'controller_reconcile_total{controller="modelserving",result="success"}' in metrics
        assert operator.stop() == 0


def test_it_ends_cleanly_in_the_midst_of_work_and_its_successor_goes_on(machine: Machine) -> None:
    everything = {f"many-{group}-decode-0-0" for group in range(200)}
    with machine.operator() as operator:
        until(operator.is_ready, "the operator is ready")
        machine.apply(model("many", replicas=200))
        until(lambda: bool(machine.pods("many")), "work has begun")
        assert operator.stop() == 0
    with machine.operator() as operator:
        until(operator.is_ready, "its successor is ready")
        until(lambda: machine.pods("many") == everything, "all pods are there")
        assert operator.stop() == 0
    machine.kubectl.run("delete", "modelserving", "many")


@pytest.mark.slow
def test_it_works_on_after_an_outage_of_the_api_server(machine: Machine) -> None:
    server = next(part for part in machine.control_plane.status().components if part.name == "kube-apiserver")
    with machine.operator() as operator:
        until(operator.is_ready, "the operator is ready")
        machine.apply(model("before"))
        until(lambda: machine.pods("before") == {"before-0-decode-0-0"}, "the pod is there")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            time.sleep(OUTAGE)
            assert operator.get("/healthz")[0] == 200
        finally:
            os.kill(server.pid, signal.SIGCONT)
        machine.apply(model("after"))
        until(lambda: machine.pods("after") == {"after-0-decode-0-0"}, "the pod is there")
        lost = machine.uid("before-0-decode-0-0")
        machine.kubectl.run("delete", "pod", "before-0-decode-0-0", "--wait=false")
        until(lambda: machine.uid("before-0-decode-0-0") not in {lost, ""}, "the pod has a successor")
        assert operator.stop() == 0


def test_all_of_it_uses_the_context_that_it_is_told(machine: Machine, tmp_path: Path) -> None:
    document = yaml.safe_load(machine.control_plane.kubeconfig.read_text())
    (context,) = document["contexts"]
    document["clusters"].append({"name": "dead", "cluster": {"server": "http://127.0.0.1:9"}})
    document["contexts"].append({"name": "dead", "context": {**context["context"], "cluster": "dead"}})
    document["current-context"] = "dead"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(document))
    with machine.operator("--context", context["name"], kubeconfig=kubeconfig) as operator:
        until(operator.is_ready, "the operator is ready")
        machine.apply(model("context"))
        until(lambda: machine.pods("context") == {"context-0-decode-0-0"}, "the pod is there")


def test_it_waits_for_crds_and_then_works(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with control_plane("bare", tmp_path, crds=tmp_path / "none") as machine, machine.operator() as operator:
        until(
            lambda: "install the CRDs: baton crds | kubectl apply -f -" in operator.log.read_text(), "the cure is told"
        )
        assert operator.get("/healthz")[0] == 200
        status, text = operator.get("/readyz")
        assert status == 503
        assert "modelservings" in text
        crds = subprocess.run([sys.executable, "-m", "baton", "crds"], capture_output=True, text=True, check=True)
        machine.kubectl.run("apply", "--filename=-", standard_input=crds.stdout)
        until(operator.is_ready, "the operator is ready")
        machine.apply(model("late"))
        until(lambda: machine.pods("late") == {"late-0-decode-0-0"}, "the pod is there")


def test_a_taken_probe_port_is_one_clear_line(machine: Machine) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with machine.operator("--probe-port", str(port)) as operator:
            assert operator.process.wait(timeout=PATIENCE) == 1
    (line,) = operator.log.read_text().splitlines()
    assert line.startswith(f"Error: cannot listen on {HOST} port {port}: ")
    assert line.endswith("choose another --probe-port or --probe-host")
