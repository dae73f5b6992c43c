"""The inside of a pod for tests of the launch script: its files, a stub `vllm` on PATH, and its processes."""

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

from baton.rendering import RankLaunch, expand
from rendering_builders import role, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from baton.api.serving import ModelServing

RANKS = 3
PATIENCE = 20.0

# Says in RANK.json how it was started and in RANK.told that it got SIGTERM, then ends unless there is a file drain;
# answers /health when there is a file healthy and anything else once there is a file answer, unless it is headless;
# exits with what RANK.exit says, and leaves a child behind.
STUB = """
import http.server, json, os, pathlib, signal, subprocess, sys, threading, time

here, argv = pathlib.Path(os.environ["STUB_DIRECTORY"]), sys.argv
name = "--data-parallel-rank"
rank = argv[argv.index(name) + 1] if name in argv else "0"
stopping = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ((here / f"{rank}.told").touch(), stopping.set()))
child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/health":
            (here / f"{rank}.asked").touch()
            while not (here / "answer").exists():
                time.sleep(0.02)
        healthy = self.path != "/health" or (here / "healthy").exists()
        self.send_response(200 if healthy else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if "--headless" not in argv:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(argv[argv.index("--port") + 1])), Handler)
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

    def wait_until_gone(self) -> None:
        """Wait until no rank and no child of one is left: the kernel ends what is killed a little later."""
        ranks = [json.loads(path.read_text()) for path in self.directory.glob("*.json")]
        pids = [pid for facts in ranks for pid in (facts["pid"], facts["child"])]
        wait_for(lambda: not any(map(is_alive, pids)), "all processes are gone")


def wait_for(condition: Any, what: str, *, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
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


def enter_role(directory: Path, launched: ModelServing, name: str, address: str, **environment: str) -> Pod:
    """Lay out the pod of a role, with the simulated engine on PATH; WORKER_INDEX tells workers from entry pods."""
    expanded = expand(launched)
    assert not expanded.has_errors, expanded.problems
    (files,) = (each.data for each in expanded.config_maps if each.role == name)
    pod = {"POD_IP": address, "GROUP_NAME": "dsv4-0", "ROLE_ID": f"{name}-0", "WORKER_INDEX": "0"} | environment
    programs = directory / f"{name}-{pod['WORKER_INDEX']}"
    programs.mkdir()
    for file, text in files.items():
        (programs / file).write_text(text)
    (programs / "vllm").write_text(f"#!{sys.executable}\nfrom baton.cli.vllm import main\nmain()\n")
    (programs / "vllm").chmod(stat.S_IRWXU)
    return Pod(programs, {"PATH": f"{programs}:{os.environ['PATH']}"} | pod)


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
