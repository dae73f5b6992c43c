from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import yaml

from baton.dev.system import HOST
from operator_process import PATIENCE, Machine, control_plane, model, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.controlplane

OUTAGE = 10.0


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with control_plane("process", tmp_path_factory.mktemp("state")) as made:
        yield made


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
