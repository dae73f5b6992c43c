"""Several operators on one API server: one acts, whatever happens to it, and no two ever do."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from baton.dev.processes import start_process, stop_process
from baton.dev.provider import ControlPlaneError
from operator_process import Machine, Running, control_plane, model, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.dev.processes import Process

pytestmark = pytest.mark.controlplane

TAKEOVER = 20.0
LEASE = "default/operator"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with control_plane("several", tmp_path_factory.mktemp("state")) as made:
        made.apply({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "operator"}})
        yield made


@pytest.fixture
def pair(machine: Machine) -> Iterator[tuple[Running, Running]]:
    """The operator that leads, and another that is ready to."""
    with machine.operator("--lease", LEASE) as leader:
        until(lambda: leads(leader), "the first operator leads")
        with machine.operator("--lease", LEASE) as follower:
            until(leader.is_ready, "the first operator is ready")
            until(follower.is_ready, "the second operator is ready")
            yield leader, follower
            follower.stop()


def leads(operator: Running) -> bool:
    return 'leader_election_master_status{name="operator"} 1.0' in operator.get("/metrics")[1]


def pods(name: str, groups: int) -> set[str]:
    return {f"{name}-{group}-decode-0-0" for group in range(groups)}


def is_up(machine: Machine) -> bool:
    try:
        machine.kubectl.run("get", "--raw=/readyz")
    except ControlPlaneError:
        return False
    return True


@contextmanager
def births(machine: Machine, log: Path) -> Iterator[Path]:
    """Write a line into the log for every change of a pod from now on."""
    options = ("get", "pods", "--watch-only")
    command = [str(machine.kubectl.binary), f"--kubeconfig={machine.kubectl.kubeconfig}", *options]
    with log.open("wb") as stream, subprocess.Popen(command, stdout=stream, stderr=stream) as process:
        try:
            yield log
        finally:
            process.kill()


def restart_api_server(machine: Machine) -> Process:
    """Kill the API server and start it again; whoever calls this stops it."""
    server = next(part for part in machine.control_plane.status().components if part.name == "kube-apiserver")
    command = Path(f"/proc/{server.pid}/cmdline").read_text().rstrip("\0").split("\0")
    os.kill(server.pid, signal.SIGKILL)
    os.waitpid(server.pid, 0)
    return start_process(command, log=machine.directory / "kube-apiserver.log", environment=os.environ)


def test_a_follower_acts_at_once_when_the_leader_ends(machine: Machine, pair: tuple[Running, Running]) -> None:
    leader, follower = pair
    machine.apply(model("handed"))
    until(lambda: machine.pods("handed") == pods("handed", 1), "the leader acts")
    assert not leads(follower)

    assert leader.stop() == 0
    until(lambda: leads(follower), "the follower leads", patience=5.0)
    machine.apply(model("handed", replicas=2))
    until(lambda: machine.pods("handed") == pods("handed", 2), "the follower acts")


@pytest.mark.slow
def test_a_follower_takes_over_from_a_leader_that_was_killed(machine: Machine, pair: tuple[Running, Running]) -> None:
    leader, follower = pair
    machine.apply(model("killed"))
    until(lambda: machine.pods("killed") == pods("killed", 1), "the leader acts")

    leader.process.kill()
    machine.apply(model("killed", replicas=2))
    until(lambda: machine.pods("killed") == pods("killed", 2), "the follower acts", patience=TAKEOVER)
    assert leads(follower)


@pytest.mark.slow
def test_a_leader_that_was_paused_for_longer_than_its_lease_writes_nothing_more(
    machine: Machine, pair: tuple[Running, Running], tmp_path: Path
) -> None:
    leader, follower = pair
    machine.apply(model("paused", replicas=300))
    until(lambda: len(machine.pods("paused")) > 20, "the leader is in the midst of work")
    leader.process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: leads(follower), "the follower leads", patience=TAKEOVER)
        until(lambda: machine.pods("paused") == pods("paused", 300), "it has finished the work")
        machine.apply(model("paused", replicas=0))
        until(lambda: not machine.pods("paused"), "it has removed everything")
        with births(machine, tmp_path / "births") as log:
            leader.process.send_signal(signal.SIGCONT)
            until(lambda: "no longer leading" in leader.log.read_text(), "the old leader knows")
            until(leader.is_ready, "it is ready to lead again")
            assert not leads(leader)
            assert log.read_text() == ""
    finally:
        leader.process.send_signal(signal.SIGCONT)
    assert leader.stop() == 0


@pytest.mark.slow
def test_they_work_on_after_the_api_server_was_killed(machine: Machine, pair: tuple[Running, Running]) -> None:
    machine.apply(model("lost"))
    until(lambda: machine.pods("lost") == pods("lost", 1), "the leader acts")
    server = restart_api_server(machine)
    try:
        until(lambda: is_up(machine), "the API server is back")
        machine.apply(model("lost", replicas=3))
        until(lambda: machine.pods("lost") == pods("lost", 3), "somebody acts")
        assert sum(leads(operator) for operator in pair) == 1
        for operator in pair:
            assert operator.is_ready()
    finally:
        stop_process(server)
