"""One namespace of a cluster, looked at and changed with kubectl. Knows no program of Baton's."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from baton.dev.kubectl import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.dev.kubectl import Kubectl

PATIENCE = 30.0


@dataclass(frozen=True)
class Namespace:
    """The namespace `namespace` of a real API server."""

    kubectl: Kubectl
    namespace: str

    def run(self, *arguments: str, standard_input: str | None = None, deadline: float = DEADLINE) -> str:
        return self.kubectl.run(
            "--namespace", self.namespace, *arguments, standard_input=standard_input, deadline=deadline
        )

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

    def wait_for(self, what: str, *names: str, patience: float = PATIENCE) -> None:
        """Wait as `kubectl wait --for=WHAT` does."""
        self.run("wait", f"--for={what}", *names, f"--timeout={patience:.0f}s", deadline=patience + DEADLINE)

    def wait_available(self, name: str, *, patience: float = PATIENCE) -> None:
        self.wait_for("condition=Available", f"modelserving/{name}", patience=patience)

    def until(self, is_true: Callable[[], bool], what: str, *, patience: float = PATIENCE, pause: float = 0.05) -> None:
        """Look again after each `pause` until it is true; fail after `patience`. Both are seconds."""
        deadline = time.monotonic() + patience
        while not is_true():
            assert time.monotonic() < deadline, f"waited {patience} s in vain until {what}"
            time.sleep(pause)
