"""Run kubectl against one control plane, with a time limit and readable errors.

It knows no object; who calls it says what to run.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.dev.provider import ControlPlaneError, Node

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE = 30.0


@dataclass(frozen=True, slots=True)
class Kubectl:
    """A kubectl binary and the kubeconfig that it uses. `cache` is where it keeps what it discovers, or its default."""

    binary: Path
    kubeconfig: Path
    cache: Path | None = None

    def run(self, *arguments: str, standard_input: str | None = None, deadline: float = DEADLINE) -> str:
        """Return what kubectl prints. Raises `ControlPlaneError` with its complaint, or after `deadline` seconds."""
        cache = [f"--cache-dir={self.cache}"] if self.cache else []
        command = [str(self.binary), f"--kubeconfig={self.kubeconfig}", *cache, *arguments]
        try:
            done = subprocess.run(
                command,
                input=standard_input,
                capture_output=True,
                text=True,
                timeout=deadline,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ControlPlaneError(f"kubectl {' '.join(arguments)}: no answer in {deadline:.0f} s") from None
        except OSError as error:
            raise ControlPlaneError(f"kubectl does not start: {error}") from None
        if done.returncode != 0:
            raise ControlPlaneError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get_nodes(self, *, deadline: float = DEADLINE) -> tuple[Node, ...]:
        """Return the nodes of the cluster."""
        items = json.loads(self.run("get", "nodes", "--output=json", deadline=deadline))["items"]
        return tuple(
            Node(
                name=item["metadata"]["name"],
                is_ready=any(
                    condition["type"] == "Ready" and condition["status"] == "True"
                    for condition in item["status"].get("conditions", ())
                ),
            )
            for item in items
        )
