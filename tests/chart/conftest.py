from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.dev.binaries import ensure_binaries
from baton.dev.kubectl import Kubectl
from baton.dev.local import LocalControlPlane
from baton.dev.pins import find_module, read_pins
from baton.dev.progress import ConsoleReport
from baton.dev.provider import ControlPlaneError
from chart.installation import Installation
from chart.rendering import NAMESPACE, VALUE_SETS, Chart, Objects
from helm import Helm, HelmError, ensure_helm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

NODES = 6


def showing(config: pytest.Config) -> AbstractContextManager[None]:
    """Let progress reach the terminal: the first build takes minutes, and nobody likes to wait unknowing."""
    manager = config.pluginmanager.getplugin("capturemanager")
    shown: AbstractContextManager[None] = manager.global_and_fixture_disabled()
    return shown


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Helm:
    try:
        with showing(pytestconfig):
            binary = ensure_helm(report=ConsoleReport())
    except HelmError as error:
        pytest.skip(str(error))
    return Helm(binary, tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def chart(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Chart:
    return Chart(helm, tmp_path_factory.mktemp("values"))


@pytest.fixture(params=VALUE_SETS)
def objects(chart: Chart, request: pytest.FixtureRequest) -> Objects:
    """What the chart renders to with each set of values in turn."""
    return chart.render(VALUE_SETS[request.param])


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[LocalControlPlane]:
    """A real API server whose pods are only said to run. Baton's CRDs are there, as `baton dev up` makes them."""
    try:
        with showing(pytestconfig):
            ensure_binaries(read_pins(find_module()), report=ConsoleReport())
    except ControlPlaneError as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        with LocalControlPlane(name="chart", nodes=NODES) as control_plane:
            yield control_plane


@pytest.fixture(scope="session")
def installation(control_plane: LocalControlPlane, helm: Helm, chart: Chart) -> Installation:
    """A way to install the chart, into a namespace that admits only pods of the restricted standard."""
    kubectl = Kubectl(control_plane.kubectl, control_plane.kubeconfig)
    for namespace in (NAMESPACE, "team-a", "team-b"):
        kubectl.run("create", "namespace", namespace)
    kubectl.run("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    return Installation(Helm(helm.binary, helm.home, control_plane.kubeconfig), kubectl, chart.scratch)
