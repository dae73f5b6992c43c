"""A real API server with Baton's programs beside it, as the control plane tests use it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from baton.dev.chat import Answer, RefusedError, stream_chat
from baton.dev.provider import ControlPlaneError
from baton.dev.system import HOST

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.dev.kubectl import Kubectl
    from baton.dev.system import System

PATIENCE = 30.0
EXAMPLES = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True)
class Cluster:
    """A real API server with simulated nodes, and Baton's programs beside it."""

    kubectl: Kubectl
    system: System
    router_port: int
    namespace: str

    def run(self, *arguments: str, standard_input: str | None = None) -> str:
        return self.kubectl.run("--namespace", self.namespace, *arguments, standard_input=standard_input)

    def apply(self, *documents: dict[str, Any]) -> None:
        self.run("apply", "--filename=-", standard_input=yaml.safe_dump_all(documents))

    def get(self, *arguments: str) -> Any:
        return json.loads(self.run("get", *arguments, "--output=json"))

    def pods(self, **labels: str) -> dict[str, dict[str, Any]]:
        """Return the pods that are not on their way out, by name."""
        selector = ",".join(f"modelserving.volcano.sh/{key.replace('_', '-')}={value}" for key, value in labels.items())
        items = self.get("pods", f"--selector={selector}")["items"]
        return {item["metadata"]["name"]: item for item in items if "deletionTimestamp" not in item["metadata"]}

    def condition(self, kind: str, name: str, condition: str) -> dict[str, Any]:
        found = self.get(kind, name).get("status", {}).get("conditions", [])
        return next((entry for entry in found if entry["type"] == condition), {})

    def wait_available(self, name: str) -> None:
        self.run("wait", "--for=condition=Available", f"modelserving/{name}", f"--timeout={PATIENCE:.0f}s")

    def until(self, is_true: Callable[[], bool], what: str, *, patience: float = PATIENCE) -> None:
        deadline = time.monotonic() + patience
        while not is_true():
            assert time.monotonic() < deadline, f"waited {patience} s in vain until {what}"
            time.sleep(0.05)

    def chat(self, model: str, *, tokens: int = 8) -> Answer:
        return stream_chat(HOST, self.router_port, model=model, prompt="Who are you?", max_tokens=tokens)

    def until_served(self, model: str, *, by: str = "") -> Answer:
        """Ask until a decode endpoint whose name contains `by` answers."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer = self.chat(model)
            except RefusedError:
                if time.monotonic() > deadline:
                    raise
            else:
                if by in answer.decode:
                    return answer
                assert time.monotonic() < deadline, f"no request was served by {by}; the last one by {answer.decode}"
            time.sleep(0.05)

    def until_refused(self, model: str, *, status: int) -> None:
        """Ask until the router answers with an error of this status."""

        def is_refused() -> bool:
            try:
                self.chat(model)
            except ControlPlaneError as error:
                return f"answers {status}" in str(error)
            return False

        self.until(is_refused, f"{model} is answered with {status}")


def example(name: str) -> list[dict[str, Any]]:
    """Return the documents of an example."""
    return [document for document in yaml.safe_load_all((EXAMPLES / name).read_text()) if document]
