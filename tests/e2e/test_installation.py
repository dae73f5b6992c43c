"""Baton as a user installs it: the chart on a cluster that runs containers.

BATON_E2E_KUBECONFIG names the cluster, BATON_E2E_IMAGE the image (repository:tag) its nodes already have; kubectl is
taken from PATH.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from baton.dev.kubectl import Kubectl
from baton.dev.progress import keep_silent
from baton.dev.provider import ControlPlaneError
from helm import Helm, ensure_helm

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

CHART = Path(__file__).parents[2] / "charts" / "baton"
EXAMPLE = Path(__file__).parents[2] / "examples" / "deepseek-v4-flash-pd-a3"
NAMESPACE = "baton-system"


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """A cluster with the chart installed, and without it afterwards."""
    kubeconfig, image = os.environ.get("BATON_E2E_KUBECONFIG"), os.environ.get("BATON_E2E_IMAGE")
    binary = shutil.which("kubectl")
    if not kubeconfig or not image or binary is None:
        pytest.skip("set BATON_E2E_KUBECONFIG and BATON_E2E_IMAGE, and have kubectl on PATH, to run this on a cluster")
    repository, _, tag = image.rpartition(":")
    values = f"image.repository={repository},image.tag={tag},router.resources.requests.cpu=50m"
    where = ("--namespace", NAMESPACE)
    helm = Helm(ensure_helm(report=keep_silent), tmp_path_factory.mktemp("helm"), Path(kubeconfig))
    helm.run("install", "baton", str(CHART), "--create-namespace", "--wait", "--timeout", "3m", "--set", values, *where)
    yield Kubectl(Path(binary), Path(kubeconfig))
    helm.run("uninstall", "baton", "--wait", *where)


def pods(kubectl: Kubectl) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(kubectl.run("get", "pods", f"--namespace={NAMESPACE}", "--output=json"))[
        "items"
    ]
    return items


def test_operator_and_router_run_without_privileges(kubectl: Kubectl) -> None:
    ready = [pod for pod in pods(kubectl) if all(entry["ready"] for entry in pod["status"]["containerStatuses"])]

    assert len(ready) == 4, "two operators and two routers"
    for pod in ready:
        (container,) = pod["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True


def test_the_webhook_refuses_a_bad_model_with_the_field(kubectl: Kubectl) -> None:
    text = (EXAMPLE / "modelserving.yaml").read_text().replace("tensor: 4", "tensor: 32")

    with pytest.raises(ControlPlaneError, match=r"spec\.template\.roles\[0\]\.engine\.parallel"):
        kubectl.run("apply", "--filename=-", standard_input=text)


def test_the_operator_makes_the_pods_of_a_model(kubectl: Kubectl) -> None:
    kubectl.run("apply", f"--filename={EXAMPLE}")
    try:
        kubectl.run("wait", "--for=condition=Accepted", "modelserving/dsv4", "--timeout=20s")
        kubectl.run("wait", "--for=condition=Programmed", "modelroute/dsv4", "--timeout=20s")
        kubectl.run("wait", "--for=create", "pod/dsv4-0-prefill-0-0", "pod/dsv4-0-decode-0-0", "--timeout=20s")
    finally:
        kubectl.run("delete", f"--filename={EXAMPLE}", "--wait=false")
