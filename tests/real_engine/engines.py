"""Real vLLM servers on CPU that hand KV over by NIXL: how they are started, asked and killed."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

INSTALLED = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "baton" / "real-engine" / "bin" / "python"
)
"""Where tools/real-engine/install puts it."""

START = 480.0
"""Seconds the servers may take until they answer; a minute on a machine with nothing else to do."""

MODEL = "m"


def find_python() -> Path | None:
    """Return the Python that has vLLM: VLLM_PYTHON, or the one `make real-engine` installed, None without."""
    python = Path(os.environ.get("VLLM_PYTHON") or INSTALLED)
    return python if python.exists() else None


@dataclass(slots=True)
class Server:
    """One vLLM process, which can be prefill, decode or both."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """End it at once, its engine process included."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
        self.process.wait()

    async def metric(self, session: aiohttp.ClientSession, name: str) -> float:
        """Return the sum of a metric's series."""
        async with session.get(f"{self.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        values = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} "))]
        if not values:
            raise AssertionError(f"{self.name} has no metric {name}")
        return sum(values)


def make_model(python: Path, directory: Path) -> None:
    """Write the model that all servers use."""
    script = Path(__file__).with_name("make_model.py")
    subprocess.run([str(python), str(script), str(directory)], check=True, capture_output=True)


def start_server(python: Path, *, name: str, model: Path, port: int, side_port: int, folder: Path) -> Server:
    """Start one server; it answers after a minute or so."""
    transfer = {"kv_connector": "NixlConnector", "kv_role": "kv_both", "kv_buffer_device": "cpu"}
    options = {
        "model": model,
        "served-model-name": MODEL,
        "host": "127.0.0.1",
        "port": port,
        "load-format": "dummy",
        "seed": 7,
        "dtype": "float32",
        "max-model-len": 2048,
        "max-num-seqs": 16,
        "block-size": 32,
        "kv-transfer-config": json.dumps(transfer),
    }
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    for option, value in options.items():
        command += [f"--{option}", str(value)]
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_NIXL_SIDE_CHANNEL_HOST": "127.0.0.1",
        "VLLM_NIXL_SIDE_CHANNEL_PORT": str(side_port),
        "VLLM_NO_USAGE_STATS": "1",
        "UCX_TLS": "tcp",
        "UCX_NET_DEVICES": "lo",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True
        )
    return Server(name, port, process, log)


def wait_until_healthy(servers: list[Server]) -> None:
    """Wait for all of them; raise with the end of a log when one gives up."""
    deadline = time.monotonic() + START
    for server in servers:
        while True:
            try:
                with urllib.request.urlopen(f"{server.url}/health", timeout=5):
                    break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if server.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{server.name} did not start:\n{server.log.read_text()[-3000:]}") from None
            time.sleep(0.5)


@dataclass(slots=True)
class Generation:
    """What one request generated: its text, its token ids where they were asked for, and how it ended."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    ids: frozenset[str] = frozenset()
    is_done: bool = False

    def add(self, event: dict[str, Any]) -> None:
        """Take one event of a stream."""
        self.ids |= {event["id"]}
        if (usage := event.get("usage")) is not None:
            self.prompt_tokens, self.completion_tokens = usage["prompt_tokens"], usage["completion_tokens"]
        for choice in event["choices"]:
            self.text += choice["delta"].get("content") or "" if "delta" in choice else choice["text"]
            self.token_ids += tuple(choice.get("token_ids") or ())
            self.finish_reason = choice.get("finish_reason") or self.finish_reason


async def stream_events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any] | None]:
    """Yield a stream's events, None for [DONE]."""
    async for line in response.content:
        if line.startswith(b"data: "):
            data = line.removeprefix(b"data: ").strip()
            yield None if data == b"[DONE]" else json.loads(data)
