from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from baton.dev.binaries import ensure_binaries
from baton.dev.chat import Answer, stream_chat
from baton.dev.kubectl import Kubectl
from baton.dev.local import LocalControlPlane
from baton.dev.pins import find_module, read_pins
from baton.dev.progress import ConsoleReport
from baton.dev.provider import ControlPlaneError
from baton.dev.system import HOST, System, free_ports, operator, router, simulated_engines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 30.0
NODES = 16


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
            except ControlPlaneError:
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


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    try:
        ensure_binaries(read_pins(find_module()), report=ConsoleReport())
    except ControlPlaneError as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        with LocalControlPlane(name="test", nodes=NODES) as control_plane:
            system = System(control_plane)
            port, admin_port, probe_port = free_ports(3)
            system.start(simulated_engines(ports="7100-7115", rate=0))
            system.start(operator(control_plane.kubeconfig, probe_port=probe_port))
            system.start(router(control_plane.kubeconfig, port=port, admin_port=admin_port))
            kubectl = Kubectl(control_plane.kubectl, control_plane.kubeconfig)
            yield Cluster(kubectl, system, port, "default")


@pytest.fixture
def cluster(programs: Cluster, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster with a namespace of this test alone, which is empty again before the next test."""
    namespace = request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[:60].strip("-").lower()
    programs.run("create", "namespace", namespace)
    yield Cluster(programs.kubectl, programs.system, programs.router_port, namespace)
    programs.run("delete", "modelservings,modelroutes,modelservers", "--all", f"--namespace={namespace}")
    programs.kubectl.run("delete", "namespace", namespace, "--wait=false")
    programs.until(
        lambda: not programs.get("pods", f"--namespace={namespace}")["items"], f"the pods of {namespace} are gone"
    )


def example(name: str) -> list[dict[str, Any]]:
    """Return the documents of an example."""
    return [document for document in yaml.safe_load_all((EXAMPLES / name).read_text()) if document]


@pytest.fixture
def deepseek() -> list[dict[str, Any]]:
    """The typed example: its ModelServing, then its ModelRoute."""
    return [
        *example("deepseek-v4-flash-pd-a3/modelserving.yaml"),
        *example("deepseek-v4-flash-pd-a3/modelroute.yaml"),
    ]


@pytest.fixture
def article() -> list[dict[str, Any]]:
    """The seed article's files: ConfigMap, ModelServing, then ModelServer and ModelRoute."""
    return [
        *example("article/config.yaml"),
        *example("article/deepseek-serv.yaml"),
        *example("article/modelRoute.yaml"),
    ]
