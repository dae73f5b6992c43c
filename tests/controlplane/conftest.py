from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from baton.dev.binaries import ensure_binaries
from baton.dev.kubectl import Kubectl
from baton.dev.local import LocalControlPlane
from baton.dev.pins import find_module, read_pins
from baton.dev.progress import ConsoleReport
from baton.dev.provider import ControlPlaneError
from baton.dev.system import System, free_ports, operator, router, simulated_engines
from cluster import Cluster, example

if TYPE_CHECKING:
    from collections.abc import Iterator

NODES = 16


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
            system.start(operator(control_plane.kubeconfig, "--leader-worker-sets", probe_port=probe_port))
            system.start(router(control_plane.kubeconfig, port=port, admin_port=admin_port))
            kubectl = Kubectl(control_plane.kubectl, control_plane.kubeconfig)
            yield Cluster(kubectl, "default", system, port)


@pytest.fixture
def cluster(programs: Cluster, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster with a namespace of this test alone, which is empty again before the next test."""
    namespace = request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[:60].strip("-").lower()
    programs.run("create", "namespace", namespace)
    yield Cluster(programs.kubectl, namespace, programs.system, programs.router_port)
    programs.run("delete", "modelservings,modelroutes,modelservers", "--all", f"--namespace={namespace}")
    programs.kubectl.run("delete", "namespace", namespace, "--wait=false")
    programs.until(
        lambda: not programs.get("pods", f"--namespace={namespace}")["items"], f"the pods of {namespace} are gone"
    )


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
