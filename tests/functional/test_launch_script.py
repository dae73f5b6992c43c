"""The rendered scripts in a real process tree: a stub `vllm` on PATH stands for every rank."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from baton.rendering import RankLaunch, expand, launches
from rendering_builders import ROOT, example, pair, role, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from baton.api.serving import ModelServing

RANKS = 3
PATIENCE = 20.0
SHELLCHECK = str(Path(sys.executable).with_name("shellcheck"))

# Says in RANK.json how it was started and in RANK.told that it got SIGTERM, then ends unless there is a file drain;
# answers /health when there is a file healthy, exits with what RANK.exit says, and leaves a child behind.
STUB = """
import http.server, json, os, pathlib, signal, subprocess, sys, threading, time

here, argv = pathlib.Path(os.environ["STUB_DIRECTORY"]), sys.argv
rank, port = argv[argv.index("--data-parallel-rank") + 1], int(argv[argv.index("--port") + 1])
stopping = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ((here / f"{rank}.told").touch(), stopping.set()))
child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        healthy = self.path == "/health" and (here / "healthy").exists()
        self.send_response(200 if healthy else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
facts = {"argv": ["vllm", *argv[1:]], "env": dict(os.environ), "pid": os.getpid(), "child": child.pid}
(here / f"{rank}.new").write_text(json.dumps(facts))
(here / f"{rank}.new").rename(here / f"{rank}.json")
print(f"rank {rank} is up", flush=True)
print("and says so", file=sys.stderr, flush=True)
while True:
    if (here / f"{rank}.exit").exists():
        os._exit(int((here / f"{rank}.exit").read_text()))
    if stopping.is_set() and not (here / "drain").exists():
        print(f"drained{rank}", end="", flush=True)
        os._exit(0)
    time.sleep(0.02)
"""


@dataclass(frozen=True, slots=True)
class Pod:
    """A directory that looks like the inside of a pod, and how to start things in it."""

    directory: Path
    environment: dict[str, str]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(self.directory / "launch.sh")],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def is_ready(self) -> bool:
        script = str(self.directory / "ready.sh")
        return subprocess.run(["bash", script], env=self.environment, check=False).returncode == 0

    def rank(self, rank: int) -> dict[str, Any]:
        """Return what a rank says of itself, once it is up."""
        path = self.directory / f"{rank}.json"
        wait_for(path.exists, f"rank {rank} is up")
        facts: dict[str, Any] = json.loads(path.read_text())
        return facts

    def processes(self) -> list[int]:
        ranks = [json.loads(path.read_text()) for path in self.directory.glob("*.json")]
        return [pid for facts in ranks for pid in (facts["pid"], facts["child"])]


def wait_for(condition: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    return _facts(pid)[:1] not in ([], ["Z"])


def members(session: int) -> list[int]:
    """Return the processes of a session."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if _facts(pid)[3:4] == [str(session)]]


def _facts(pid: int) -> list[str]:
    """Return state, parent, process group, session, …; nothing when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def free_ports(count: int) -> int:
    """Return the first of some ports in a row that nobody listens on, below those given to clients."""
    for first in range(21000, 32000, 50):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise AssertionError("no free ports")


def small(**engine: Any) -> ModelServing:
    settings = {"parallel": {"data": RANKS, "tensor": 2}, "ports": {"api": free_ports(RANKS)}, **engine}
    return serving(role(), engine=settings | {"terminationGracePeriodSeconds": engine.pop("grace", 60)})


def enter(directory: Path, launched: ModelServing, **environment: str) -> Pod:
    """Lay out the files of the first role's pod."""
    expanded = expand(launched)
    assert not expanded.has_errors, expanded.problems
    for name, text in expanded.config_maps[0].data.items():
        (directory / name).write_text(text)
    programs = directory / "bin"
    programs.mkdir()
    (programs / "vllm").write_text(f"#!{sys.executable} -S\n{STUB}")
    (programs / "vllm").chmod(stat.S_IRWXU)
    pod = {"POD_IP": "127.0.0.1", "GROUP_NAME": "m-0", "ROLE_ID": "server-0", "WORKER_INDEX": "0"}
    path = {"PATH": f"{programs}:{os.environ['PATH']}", "STUB_DIRECTORY": str(directory)}
    return Pod(directory, pod | path | environment)


@contextlib.contextmanager
def running(pod: Pod) -> Iterator[subprocess.Popen[str]]:
    with pod.start() as process:
        try:
            yield process
        finally:
            for pid in members(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def output_of(process: subprocess.Popen[str]) -> str:
    """Return all output, when the script has ended."""
    return process.communicate(timeout=PATIENCE)[0]


def seen(launch: RankLaunch, values: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return argv and environment of a planned rank with what the pod fills in."""

    def fill(text: str) -> str:
        for name, value in values.items():
            text = text.replace(f"$({name})", value)
        return text

    return [fill(word) for word in launch.argv], {name: fill(value) for name, value in launch.env.items()}


def test_all_ranks_start_as_planned(tmp_path: Path) -> None:
    tricky = {"env": {"GREETING": 'it\'s "me" $HOME `id` $(POD_IP) $(id)'}, "flags": {"note": "a'b\nc $x"}}
    planned = small(**tricky)
    pod = enter(tmp_path, planned)

    with running(pod):
        for launch in launches(planned):
            facts = pod.rank(launch.rank)
            argv, environment = seen(launch, {"POD_IP": "127.0.0.1", "LD_PRELOAD": ""})
            assert facts["argv"] == argv
            assert {name: facts["env"][name] for name in environment} == environment


def test_prefill_of_a_pair_starts_with_the_kv_transfer_of_its_replica(tmp_path: Path) -> None:
    planned = pair(ports={"api": free_ports(2)})
    pod = enter(tmp_path, planned, GROUP_NAME="m-0", ROLE_ID="prefill-0")

    with running(pod):
        for launch in launches(planned)[:2]:
            argv, _ = seen(launch, {"POD_IP": "127.0.0.1"})
            assert pod.rank(launch.rank)["argv"] == argv


def test_a_worker_starts_its_own_ranks_and_meets_the_entry_pod(tmp_path: Path) -> None:
    planned = small(parallel={"data": 2 * RANKS, "dataLocal": RANKS})
    pod = enter(tmp_path, planned, WORKER_INDEX="1", ENTRY_ADDRESS="127.0.0.1")

    with running(pod):
        for launch in launches(planned)[RANKS:]:
            argv, _ = seen(launch, {})
            expected = ["127.0.0.1" if word == "m-0-server-0-0.team" else word for word in argv]
            assert pod.rank(launch.rank)["argv"] == expected


def test_a_worker_that_waits_for_the_entry_pod_can_be_stopped(tmp_path: Path) -> None:
    pod = enter(tmp_path, small(parallel={"data": 2 * RANKS, "dataLocal": RANKS}), WORKER_INDEX="1", ENTRY_ADDRESS="x")
    (tmp_path / "bin" / "getent").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\nexit 2\n")
    (tmp_path / "bin" / "getent").chmod(stat.S_IRWXU)

    with running(pod) as process:
        wait_for((tmp_path / "asked").exists, "the worker asks for the entry pod")
        process.terminate()
        output_of(process)

    assert process.returncode == 0
    assert not list(tmp_path.glob("*.json"))


def test_ranks_drain_on_sigterm_and_the_script_ends_well(tmp_path: Path) -> None:
    pod = enter(tmp_path, small())
    (tmp_path / "drain").touch()

    with running(pod) as process:
        pids = [pod.rank(rank)["pid"] for rank in range(RANKS)]
        process.terminate()
        wait_for(lambda: len(list(tmp_path.glob("*.told"))) == RANKS, "all ranks are told")
        assert all(map(is_alive, pids))
        (tmp_path / "drain").unlink()
        output = output_of(process)

    assert process.returncode == 0
    assert {f"[rank {rank}] drained{rank}" for rank in range(RANKS)} <= set(output.splitlines())
    assert not any(map(is_alive, pod.processes()))


def test_output_carries_the_rank(tmp_path: Path) -> None:
    pod = enter(tmp_path, small())

    with running(pod) as process:
        for rank in range(RANKS):
            pod.rank(rank)
        process.terminate()
        lines = output_of(process).splitlines()

    for rank in range(RANKS):
        assert f"[rank {rank}] rank {rank} is up" in lines
        assert f"[rank {rank}] and says so" in lines


@pytest.mark.parametrize(("status", "expected"), [(3, 3), (0, 1)])
def test_one_rank_that_ends_stops_all(tmp_path: Path, status: int, expected: int) -> None:
    pod = enter(tmp_path, small())

    with running(pod) as process:
        for rank in range(RANKS):
            pod.rank(rank)
        (tmp_path / "1.exit").write_text(str(status))
        output = output_of(process)

    assert process.returncode == expected
    assert f"[baton] rank 1 ended with status {status}: stopping all" in output
    assert "[rank 0] drained0" in output
    assert not any(map(is_alive, pod.processes()))


def test_a_rank_that_cannot_start_ends_the_script(tmp_path: Path) -> None:
    pod = enter(tmp_path, small())
    (tmp_path / "bin" / "vllm").unlink()

    with running(pod) as process:
        output_of(process)

    assert process.returncode == 127


def test_sigterm_during_start_up_stops_what_has_started(tmp_path: Path) -> None:
    pod = enter(tmp_path, small())

    with running(pod) as process:
        pod.rank(0)
        process.terminate()
        output_of(process)

    assert process.returncode == 0
    assert not any(map(is_alive, pod.processes()))


def test_a_rank_that_ignores_sigterm_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    pod = enter(tmp_path, small(grace=2))
    (tmp_path / "drain").touch()

    with running(pod) as process:
        for rank in range(RANKS):
            pod.rank(rank)
        process.terminate()
        output = output_of(process)

    assert process.returncode == 128 + signal.SIGKILL
    assert "rank 2 still runs after 1 s: killing it" in output
    assert not any(map(is_alive, pod.processes()))


def test_a_pod_is_ready_when_all_its_ranks_answer(tmp_path: Path) -> None:
    pod = enter(tmp_path, small())
    assert not pod.is_ready()

    with running(pod):
        for rank in range(RANKS):
            pod.rank(rank)
        assert not pod.is_ready()
        (tmp_path / "healthy").touch()
        assert pod.is_ready()
        (tmp_path / "2.exit").write_text("1")
        wait_for(lambda: not pod.is_ready(), "the pod is no longer ready")


def test_the_script_says_what_its_environment_lacks(tmp_path: Path) -> None:
    pod = enter(tmp_path, small())
    del pod.environment["POD_IP"]

    with running(pod) as process:
        assert "POD_IP: must hold the address of this pod" in output_of(process)
    assert process.returncode != 0


ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
enp23s0f3\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
enp23s0f4\t0005A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
down0\t0705A8C0\t00000000\t0000\t0\t0\t0\tFFFFFFFF\t0\t0\t0
"""


@pytest.mark.parametrize(
    ("address", "interface"),
    [("192.168.5.7", "enp23s0f4"), ("192.168.6.7", "enp23s0f3"), ("10.0.0.1", "eth0"), ("fd00::1", "")],
)
def test_the_interface_is_that_of_the_most_specific_route(address: str, interface: str) -> None:
    source = (ROOT / "templates" / "interface.sh.j2").read_text().partition("-#}")[2]

    result = subprocess.run(
        ["bash", "-uc", f"{source}\ninterface_of {address}"], input=ROUTES, capture_output=True, text=True, check=False
    )

    assert result.stdout.strip() == interface
    assert result.returncode == (0 if interface else 1)


VARIANTS = {
    "example": example(),
    "several-nodes": pair(decode={"parallel": {"data": 32, "tensor": 1}}),
    "found-interface": serving(role(parallel={"data": 2}), engine={"network": {"interface": None}}),
    "one-rank": serving(role()),
    "nvidia": pair(kind="vLLM"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_scripts_pass_shellcheck(name: str, tmp_path: Path) -> None:
    expanded = expand(VARIANTS[name])
    assert expanded.config_maps
    for config_map in expanded.config_maps:
        for file, text in config_map.data.items():
            (tmp_path / f"{config_map.role}-{file}").write_text(text)

    scripts = sorted(map(str, tmp_path.iterdir()))
    result = subprocess.run([SHELLCHECK, *scripts], capture_output=True, text=True, check=False)

    assert (result.stdout, result.returncode) == ("", 0)
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
