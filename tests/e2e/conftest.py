"""What the end-to-end tests need: a cluster, the images on its nodes, and the chart installed.

BATON_E2E_KUBECONFIG names the cluster, BATON_E2E_LOAD is the command that hands an image to its nodes; without both a
kind cluster is made where Docker runs. BATON_E2E_BUILD builds an image, by default with Docker; BATON_E2E_REGISTRY is
the beginning of the images' names.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from baton.dev.kind import KindControlPlane
from baton.dev.kubeconfig import KubeconfigControlPlane
from baton.dev.kubectl import Kubectl
from baton.dev.progress import ConsoleReport
from baton.dev.provider import ControlPlaneError
from chart.installation import Installation
from chart.rendering import NAMESPACE, ROOT
from e2e.devices import offering_devices
from e2e.images import DOCKER_BUILD, Images, Shell, make_images
from e2e.steps import Steps
from helm import Helm, HelmError, ensure_helm
from namespace import Namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODELS = "baton-e2e"
CRD = "modelservings.workload.serving.volcano.sh"
PATIENCE = 240


@pytest.fixture(scope="session")
def steps() -> Steps:
    return Steps()


@dataclass(frozen=True)
class Site:
    """A cluster that runs containers, and how an image gets to its nodes."""

    kubectl: Kubectl
    load: Callable[[str], None]


@pytest.fixture(scope="session")
def site(steps: Steps) -> Iterator[Site]:
    kubeconfig, load = os.environ.get("BATON_E2E_KUBECONFIG"), os.environ.get("BATON_E2E_LOAD")
    if bool(kubeconfig) != bool(load):
        pytest.fail("BATON_E2E_KUBECONFIG and BATON_E2E_LOAD go together: give both or none")
    report = ConsoleReport()
    if kubeconfig and load:
        given = KubeconfigControlPlane(Path(kubeconfig), report=report)
        given.up()
        yield Site(Kubectl(given.kubectl, given.kubeconfig), lambda image: Shell(load).run(IMAGE=image))
        return
    kind = KindControlPlane(name="e2e", report=report)
    try:
        with steps.timed("kind cluster"):
            kind.up()
    except ControlPlaneError as error:
        pytest.skip(f"BATON_E2E_KUBECONFIG and BATON_E2E_LOAD are not set, and there is no kind cluster: {error}")
    with kind:
        yield Site(Kubectl(kind.kubectl, kind.kubeconfig), kind.load_image)


@pytest.fixture(scope="session")
def kubectl(site: Site) -> Kubectl:
    return site.kubectl


@pytest.fixture(scope="session")
def images(site: Site, steps: Steps) -> Images:
    build = Shell(os.environ.get("BATON_E2E_BUILD", DOCKER_BUILD))
    registry = os.environ.get("BATON_E2E_REGISTRY", "localhost")
    with steps.timed("both images are built and on the nodes"):
        return make_images(registry=registry, tag=f"e2e-{uuid.uuid4().hex[:8]}", build=build, load=site.load)


@pytest.fixture(scope="session")
def installation(
    kubectl: Kubectl, images: Images, steps: Steps, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """The chart with its own service accounts, in a namespace that admits only pods of the restricted standard."""
    try:
        helm = Helm(ensure_helm(report=ConsoleReport()), tmp_path_factory.mktemp("helm"), kubectl.kubeconfig)
    except HelmError as error:
        pytest.skip(str(error))
    if CRD in kubectl.run("get", "crds", "--output=name"):
        pytest.fail("this cluster has ModelServings already, and the suite would remove them: take another")
    for namespace in (NAMESPACE, MODELS):
        kubectl.run("create", "namespace", namespace)
    kubectl.run("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    installation = Installation(helm, kubectl, tmp_path_factory.mktemp("values"), patience=PATIENCE)
    try:
        with steps.timed("helm install"):
            installation.install(*values(images))
        yield installation
    except HelmError:
        explain(kubectl, steps)
        raise
    finally:
        with steps.timed("the cluster is as it was"):
            clear(installation)


@pytest.fixture(scope="session")
def models(installation: Installation, kubectl: Kubectl) -> Iterator[Namespace]:
    """The namespace of the users' models, on nodes that have devices for them."""
    with offering_devices(kubectl):
        yield Namespace(kubectl, MODELS)


def clear(installation: Installation) -> None:
    """Take away what the suite and the chart made, models first."""
    kubectl, where = installation.kubectl, ("--namespace", MODELS)
    if CRD in kubectl.run("get", "crds", "--output=name"):
        kubectl.run("delete", "modelservings", "--all", *where)
        # A namespace that is deleted with its pods waits for half of their grace period, whenever they end.
        kubectl.run("wait", "--for=delete", "pods", "--all", *where, f"--timeout={PATIENCE}s", deadline=PATIENCE + 30)
    kubectl.run("delete", "namespace", MODELS, deadline=PATIENCE)
    if installation.helm.run("list", "--short", "--namespace", NAMESPACE):
        installation.uninstall()
    kubectl.run("delete", "namespace", NAMESPACE, deadline=PATIENCE)
    kubectl.run("delete", "--filename", str(ROOT / "crds"), "--ignore-not-found", deadline=PATIENCE)


@pytest.fixture(autouse=True)
def _explain(request: pytest.FixtureRequest, steps: Steps) -> Iterator[None]:
    """After a failure, print what the cluster has to say, before it is cleaned up."""
    print()  # pytest ends no line after a test's name
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed and "kubectl" in request.fixturenames:
        explain(request.getfixturevalue("kubectl"), steps)


def explain(kubectl: Kubectl, steps: Steps) -> None:
    for arguments in (
        ("get", "pods", "--all-namespaces", "--output=wide"),
        ("get", "modelservings,modelroutes", "--namespace", MODELS, "--output=yaml"),
        ("get", "events", "--namespace", MODELS, "--sort-by=.lastTimestamp"),
        ("logs", "deployment/baton-operator", "--namespace", NAMESPACE, "--tail=40"),
        ("logs", "--selector=app.kubernetes.io/component=router", "--namespace", NAMESPACE, "--tail=40"),
    ):
        try:
            steps.say(f"$ kubectl {' '.join(arguments)}\n{kubectl.run(*arguments)}")
        except ControlPlaneError as error:
            steps.say(str(error))


def values(images: Images, *more: str) -> list[str]:
    """Return the chart's values: the image, and requests and time limits for a small machine."""
    repository, _, tag = images.baton.rpartition(":")
    chosen = (f"image.repository={repository}", f"image.tag={tag}", "router.resources.requests.cpu=50m")
    return [f"--set={value}" for value in (*chosen, "router.drainTimeoutSeconds=60", *more)]
