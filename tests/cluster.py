"""A real API server with Baton's programs beside it, as the control plane tests use it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from baton.dev.chat import Answer, RefusedError, stream_chat
from baton.dev.provider import ControlPlaneError
from baton.dev.system import HOST
from namespace import PATIENCE, Namespace

if TYPE_CHECKING:
    from baton.dev.system import System

EXAMPLES = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True)
class Cluster(Namespace):
    """A real API server with simulated nodes, and Baton's programs beside it."""

    system: System
    router_port: int

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
