"""The demo: the whole main job on a local control plane, told step by step. It only uses what users use."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from baton.dev.assets import find_asset
from baton.dev.chat import Answer, RefusedError, stream_chat
from baton.dev.kubectl import Kubectl
from baton.dev.progress import Report, Stopwatch
from baton.dev.provider import ControlPlaneError
from baton.dev.system import HOST, System, free_ports, operator, router, simulated_engines

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.dev.local import LocalControlPlane

NAME = "demo"
"""Name of the demo's control plane."""
_SERVING = "dsv4"
_MODEL = "dsv4"
_PATIENCE = 120.0
"""Seconds to wait for pods; simulated ones need about two."""
_TRIES = 200
"""Requests after which the new pod must have been chosen; the least loaded of two is chosen at random."""
_ENGINE_PORTS = "7100-7115"
_RATE = 40.0
"""Tokens a second of a simulated engine: slow enough to watch."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demo talks: `say` for its own lines, `write` for pieces of a streamed answer."""

    say: Callable[[str], None]
    write: Callable[[str], None]


class Demo:
    """One run of the demo on a control plane that is up."""

    def __init__(self, control_plane: LocalControlPlane, *, stage: Stage, report: Report) -> None:
        self._control_plane = control_plane
        self._stage = stage
        self._system = System(control_plane, report=report)
        self._kubectl = Kubectl(control_plane.kubectl, control_plane.kubeconfig)
        self._example = find_asset("_examples", checkout="examples") / "deepseek-v4-flash-pd-a3"
        self.port, self._admin_port, self._probe_port = free_ports(3)

    def run(self) -> None:
        """Show everything. Raises ControlPlaneError as soon as something is not as it should be."""
        self._start()
        self._apply()
        self._chat()
        self._scale()
        self._chat_with("decode-1")

    def _start(self) -> None:
        self._title("Starting simulated engines, the operator and the router")
        kubeconfig = self._control_plane.kubeconfig
        self._system.start(simulated_engines(ports=_ENGINE_PORTS, rate=_RATE))
        self._system.start(operator(kubeconfig, probe_port=self._probe_port))
        self._system.start(router(kubeconfig, port=self.port, admin_port=self._admin_port))

    def _apply(self) -> None:
        self._title("One prefill (DP4 TP4) and one decode (DP16 TP1) of DeepSeek-V4-Flash on Atlas A3 nodes")
        watch = Stopwatch()
        self._show("apply", "-f", str(_relative(self._example)))
        self._show("wait", "--for=condition=Available", f"modelserving/{_SERVING}", f"--timeout={_PATIENCE:.0f}s")
        self._stage.say(f"Available after {watch}")
        self._pods()

    def _chat(self) -> None:
        self._title("A streamed chat through the router: prefill → KV hand-over → decode")
        self._stage.say(f'$ curl -N http://{HOST}:{self.port}/v1/chat/completions -d \'{{"model": "{_MODEL}", …}}\'')
        watch = Stopwatch()
        answer = self._ask("Tell me about the river.", tokens=40, show=self._stage.write)
        self._stage.write("\n")
        self._stage.say(f"{answer.chunks} chunks in {watch}; prefill by {answer.prefill}, decode by {answer.decode}")

    def _ask(self, prompt: str, *, tokens: int, show: Callable[[str], None] = lambda _: None) -> Answer:
        """Ask once the route is in force: the router follows the cluster within a second."""
        watch = Stopwatch()
        while True:
            try:
                return stream_chat(HOST, self.port, model=_MODEL, prompt=prompt, max_tokens=tokens, show=show)
            except RefusedError:
                if watch.seconds > _PATIENCE:
                    raise
                time.sleep(0.2)

    def _scale(self) -> None:
        self._title("Twice the decode capacity, while everything runs")
        patch = '[{"op": "replace", "path": "/spec/template/roles/1/replicas", "value": 2}]'
        self._show("patch", "modelserving", _SERVING, "--type=json", "-p", patch)
        watch = Stopwatch()
        selector = f"modelserving.volcano.sh/name={_SERVING},modelserving.volcano.sh/role-id=decode-1"
        self._until(lambda: bool(self._kubectl.run("get", "pods", "-l", selector, "-o", "name")), "the new pod exists")
        self._show("wait", "--for=condition=Ready", "pod", "-l", selector, f"--timeout={_PATIENCE:.0f}s")
        self._stage.say(f"Ready after {watch}")
        self._pods()

    def _chat_with(self, role_id: str) -> None:
        self._title("Requests reach the new pod without a restart")
        watch = Stopwatch()
        for count in range(1, _TRIES + 1):
            answer = self._ask("Who serves me?", tokens=1)
            if f"-{role_id}-0" in answer.decode:
                self._stage.say(f"request {count} ({watch}): prefill by {answer.prefill}, decode by {answer.decode}")
                return
        raise ControlPlaneError(f"none of {_TRIES} requests was served by {role_id}")

    def _pods(self) -> None:
        labels = "modelserving.volcano.sh/role,modelserving.volcano.sh/group-name"
        self._show("get", "pods", "-l", f"modelserving.volcano.sh/name={_SERVING}", "-L", labels, "-o", "wide")

    def _show(self, *arguments: str) -> None:
        """Run kubectl as a user would, and show both what is typed and what is answered."""
        self._stage.say("$ kubectl " + " ".join(f"'{word}'" if " " in word else word for word in arguments))
        answer = self._kubectl.run(*arguments, deadline=_PATIENCE + 5)
        self._stage.say(answer.rstrip())

    def _until(self, is_true: Callable[[], bool], what: str) -> None:
        watch = Stopwatch()
        while not is_true():
            if watch.seconds > _PATIENCE:
                raise ControlPlaneError(f"waited {watch} in vain until {what}")
            time.sleep(0.1)

    def _title(self, text: str) -> None:
        self._stage.say(f"\n== {text}")


def _relative(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
