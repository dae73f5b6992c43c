from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from chart.rendering import CHART, NAMESPACE, RELEASE, ROOT, VALUE_SETS
from helm import HelmError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chart.installation import Installation
    from chart.rendering import Chart

pytestmark = pytest.mark.controlplane

EXAMPLE = ROOT / "examples" / "deepseek-v4-flash-pd-a3"
CRDS = {path.stem for path in (ROOT / "crds").iterdir()}


@pytest.fixture
def team(installation: Installation) -> Iterator[dict[str, str]]:
    """Users' objects as `users_objects` tells them: a model, its route, and a pod and a file that belong to them."""
    installation.kubectl.run("apply", f"--filename={EXAMPLE}", "--namespace=team-a")
    serving = installation.get("modelserving", "dsv4", "--namespace=team-a")
    owner = {key: serving["metadata"][key] for key in ("name", "uid")} | {
        "apiVersion": serving["apiVersion"],
        "kind": serving["kind"],
        "blockOwnerDeletion": True,
    }
    metadata = {"name": "child", "namespace": "team-a", "ownerReferences": [owner]}
    pod = {"containers": [{"name": "engine", "image": "engine:1"}]}
    installation.create(
        [
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}},
        ]
    )
    yield users_objects(installation)
    installation.kubectl.run("delete", "modelservings,modelroutes,pods,configmaps", "--all", "--namespace=team-a")


def users_objects(installation: Installation) -> dict[str, str]:
    """Return the uid of each of the users' objects; with the generation, where there is one."""
    found = installation.get("modelservings,modelroutes,pods,configmaps", "--namespace=team-a")["items"]
    return {
        f"{item['kind']} {item['metadata']['name']}": f"{item['metadata']['uid']} {item['metadata'].get('generation')}"
        for item in found
    }


def crds(installation: Installation) -> dict[str, Any]:
    items = installation.get("customresourcedefinitions")["items"]
    return {item["spec"]["names"]["plural"]: item for item in items if item["spec"]["names"]["plural"] in CRDS}


def changed_chart(directory: Path) -> Path:
    """Return a copy of the chart whose ModelServers have a short name."""
    copy = shutil.copytree(CHART, directory / "baton")
    path = copy / "files" / "crds" / "modelservers.yaml"
    definition = yaml.safe_load(path.read_text())
    definition["spec"]["names"]["shortNames"] = ["msv"]
    path.write_text("# Changed.\n" + yaml.safe_dump(definition, sort_keys=False))
    return copy


@pytest.mark.parametrize("values", ["defaults", "little", "everything"])
def test_the_api_server_knows_every_field(installation: Installation, chart: Chart, values: str) -> None:
    documents = yaml.safe_dump_all(chart.render(VALUE_SETS[values]))

    arguments = ("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "--filename=-")
    installation.kubectl.run("apply", *arguments, standard_input=documents)


def test_a_release_comes_changes_and_goes_and_users_objects_stay(
    installation: Installation, team: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(HelmError, match="invalid ownership metadata"):
        installation.install()  # the CRDs are somebody else's, here those of `baton dev up`
    notes = installation.install("--take-ownership")
    assert "kubectl apply -f examples/deepseek-v4-flash-pd-a3" in notes
    ready = {
        item["metadata"]["name"]: item["status"]["readyReplicas"]
        for item in installation.get("deployments", f"--namespace={NAMESPACE}")["items"]
    }
    assert ready == {"baton-operator": 2, "baton-router": 2}

    # What the operator or cert-manager writes is there after an upgrade, and the CRDs are the new chart's.
    known = json.loads(installation.kubectl.kubeconfig.read_text())["clusters"][0]["cluster"]
    authority = known["certificate-authority-data"]
    configuration = installation.get("validatingwebhookconfiguration", "baton-webhook")
    configuration["webhooks"][0]["clientConfig"]["caBundle"] = authority
    installation.merge("validatingwebhookconfiguration", "baton-webhook", {"webhooks": configuration["webhooks"]})
    installation.merge("secret", "baton-webhook", {"data": {"tls.crt": "MQ=="}})
    installation.install("--set=router.replicas=3,webhook.timeoutSeconds=7", chart=changed_chart(tmp_path))
    (webhook,) = installation.get("validatingwebhookconfiguration", "baton-webhook")["webhooks"]
    assert (webhook["timeoutSeconds"], webhook["clientConfig"]["caBundle"]) == (7, authority)
    assert installation.get("secret", "baton-webhook", f"--namespace={NAMESPACE}")["data"] == {"tls.crt": "MQ=="}
    assert crds(installation)["modelservers"]["spec"]["names"]["shortNames"] == ["msv"]
    assert users_objects(installation) == team

    installation.install("--set=crds.install=false")
    assert crds(installation).keys() == CRDS
    assert users_objects(installation) == team

    installation.install()
    installation.uninstall()
    kinds = (
        "deployments,services,secrets,leases,serviceaccounts,poddisruptionbudgets,roles,rolebindings,clusterroles,"
        "clusterrolebindings,validatingwebhookconfigurations"
    )
    left = installation.get(kinds, "--all-namespaces", f"--selector=app.kubernetes.io/instance={RELEASE}")["items"]
    assert left == []
    assert crds(installation).keys() == CRDS
    assert users_objects(installation) == team

    installation.install()  # it takes up the CRDs it left
    assert users_objects(installation) == team
    assert (
        json.loads(installation.helm.run("list", "--namespace", NAMESPACE, "--output=json"))[0]["status"] == "deployed"
    )
