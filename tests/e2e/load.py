"""Chats against the router from a pod, with the text that each must bring. What a loss means, the tests decide."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from baton.sim.requests import Endpoint, read_request
from baton.sim.settings import SimSettings
from baton.sim.tokens import History, word_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from namespace import Namespace

ROUTER: Final = "baton-router.baton-system"
MODEL: Final = "dsv4"
LENGTHS: Final = (20, 60, 300, 40, 120, 10)
"""Tokens of the answers under load, at 20 a second: the longest takes 15 s and is caught by every change."""
STREAMS: Final = 6
_CLIENT: Final = Path(__file__).with_name("client.py").read_text()
_PATIENCE: Final = 180.0


@dataclass(frozen=True)
class Record:
    """One chat. Times are seconds of the pod's clock; `problem` is empty when the answer is right to the last token."""

    started: float
    ended: float
    first: float | None
    text: str
    pieces: int
    problem: str
    prefill: str = ""
    decode: str = ""


@dataclass(frozen=True)
class Load:
    """A pod that sends chats."""

    namespace: Namespace
    pod: str

    def records(self) -> list[Record]:
        """Return the chats that have ended so far."""
        *lines, _unfinished = self.namespace.run("logs", self.pod).split("\n")
        return [Record(**json.loads(line)) for line in lines]

    def wait_for_more(self, count: int, *, by: str = "", side: str = "decode") -> None:
        """Wait until `count` more chats have begun and ended, or fail; only those that a pod `by` served count."""
        now = max((record.ended for record in self.records()), default=0.0)

        def have_ended() -> bool:
            more = [record for record in self.records() if record.started > now and by in getattr(record, side)]
            return len(more) >= count

        self.namespace.until(have_ended, f"{count} more chats end {by}", patience=_PATIENCE, pause=0.5)

    def finish(self) -> list[Record]:
        """Let the running chats end, and return all."""
        self.namespace.run("exec", self.pod, "--", "python", "-c", "import os; os.kill(1, 15)")
        return self.wait_for_end()

    def wait_for_end(self) -> list[Record]:
        """Return all chats once the last has ended."""
        self.namespace.wait_for("jsonpath={.status.phase}=Succeeded", f"pod/{self.pod}", patience=_PATIENCE)
        return self.records()


def ask_once(namespace: Namespace, image: str, *, prompt: str, max_tokens: int) -> Record:
    """Stream one chat from a pod of its own."""
    with sending(namespace, image, "ask", [(prompt, max_tokens)], streams=1, chats=1) as load:
        (record,) = load.wait_for_end()
    return record


@contextmanager
def keep_asking(namespace: Namespace, image: str) -> Iterator[Load]:
    """Stream chats of many lengths without a pause, from when the first has ended."""
    cases = [(f"What is {length}?", length) for length in LENGTHS]
    with sending(namespace, image, "load", cases, streams=STREAMS, chats=0) as load:
        namespace.wait_for("condition=Ready", f"pod/{load.pod}", patience=_PATIENCE)
        load.wait_for_more(1)
        yield load


@contextmanager
def sending(
    namespace: Namespace, image: str, pod: str, cases: Sequence[tuple[str, int]], *, streams: int, chats: int
) -> Iterator[Load]:
    """Run the client in a pod, which is gone afterwards."""
    settings = {
        "address": ROUTER,
        "cases": [_case(prompt, max_tokens) for prompt, max_tokens in cases],
        "streams": streams,
        "chats": chats,
    }
    namespace.apply(_pod(pod, image, settings))
    try:
        yield Load(namespace, pod)
    finally:
        namespace.run("delete", "pod", pod, "--wait", deadline=_PATIENCE)


def _case(prompt: str, max_tokens: int) -> dict[str, Any]:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": True,
    }
    request = read_request(Endpoint.CHAT, json.dumps(body).encode())
    history = History(seed=SimSettings().seed, model=MODEL, prompt=request.prompt)
    return {"body": body, "text": "".join(word_text(history.draw()) for _ in range(max_tokens))}


def _pod(name: str, image: str, settings: dict[str, Any]) -> dict[str, Any]:
    container = {
        "name": "client",
        "image": image,
        "command": ["python", "-c", _CLIENT],
        "env": [{"name": "CLIENT", "value": json.dumps(settings)}],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
