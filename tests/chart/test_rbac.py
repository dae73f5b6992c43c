from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

import pytest

from baton.dev.system import HOST, Program, System, free_ports, simulated_engines
from chart.calls import CERTIFICATE, ELECTION, OPERATOR, ROUTER, SECRET, Call, calls
from chart.rendering import NAMESPACE
from cluster import Cluster, example

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from baton.dev.local import LocalControlPlane
    from chart.installation import Installation

pytestmark = pytest.mark.controlplane

ENGINE_PORT = 7300
"""Not the example's: other test runs on this machine may have engines there."""
FORBIDDEN = frozenset[Call]().union(
    calls("", "secrets", "get list watch create update delete"),
    calls("", "pods/exec pods/eviction nodes serviceaccounts/token", "create delete"),
    calls("", "pods services configmaps", "update deletecollection"),
    calls("apps", "deployments", "create patch delete"),
    calls("coordination.k8s.io", "leases", "get list watch update patch delete"),
    calls(
        "rbac.authorization.k8s.io", "clusterroles clusterrolebindings roles rolebindings", "create patch escalate bind"
    ),
    calls("admissionregistration.k8s.io", "validatingwebhookconfigurations", "list create patch delete"),
    calls("apiextensions.k8s.io", "customresourcedefinitions", "get patch delete"),
    calls("workload.serving.volcano.sh", "modelservings", "create update patch delete"),
)


def allowed(installation: Installation, account: str, asked: Iterable[Call], *, namespace: str) -> set[Call]:
    """Return which of the calls the API server's authorizer allows a service account."""
    asked = sorted(asked)
    reviews = []
    for call in asked:
        resource, _, subresource = call.resource.partition("/")
        attributes = {"group": call.group, "resource": resource, "subresource": subresource, "verb": call.verb}
        attributes |= {"name": call.name, "namespace": namespace}
        spec = {"user": f"system:serviceaccount:{NAMESPACE}:{account}", "resourceAttributes": attributes}
        reviews.append({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
    answers = installation.create(reviews, '--output=jsonpath={.status.allowed}{"\\n"}').splitlines()
    return {call for call, answer in zip(asked, answers, strict=True) if answer == "true"}


def kubeconfig_of(account: str, installation: Installation, directory: Path) -> Path:
    """Write a kubeconfig that holds the token of a service account, and nothing of the administrator's."""
    document = json.loads(installation.kubectl.kubeconfig.read_text())
    token = installation.kubectl.run("create", "token", account, f"--namespace={NAMESPACE}")
    document["users"] = [{"name": user["name"], "user": {"token": token.strip()}} for user in document["users"]]
    path = directory / account
    path.write_text(json.dumps(document))
    return path


def arguments_of(installation: Installation, component: str) -> list[str]:
    """Return the command line that the chart gives to a component, without the program's name."""
    workload = installation.get("deployment", f"baton-{component}", f"--namespace={NAMESPACE}")
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return [*container["command"][1:], *container["args"]]


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """Free ports: of the router's clients, of the webhook, and of each component's probes and metrics."""
    return dict(zip(("clients", "webhook", "operator", "router"), free_ports(4), strict=True))


@pytest.fixture(scope="module")
def cluster(
    control_plane: LocalControlPlane,
    installation: Installation,
    ports: dict[str, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """The chart's programs, started as its Deployments say, with its service accounts' tokens."""
    installation.install("--take-ownership")
    directory = tmp_path_factory.mktemp("kubeconfigs")
    listen = {
        "operator": {
            "probe-host": HOST,
            "probe-port": ports["operator"],
            "webhook-host": HOST,
            "webhook-port": ports["webhook"],
        },
        "router": {"host": HOST, "port": ports["clients"], "admin-host": HOST, "admin-port": ports["router"]},
    }
    system = System(control_plane)
    system.start(simulated_engines(ports=f"{ENGINE_PORT}-{ENGINE_PORT + 15}", rate=0))
    for component, options in listen.items():
        own = {"kubeconfig": kubeconfig_of(f"baton-{component}", installation, directory), **options}
        arguments = [*arguments_of(installation, component), *(f"--{key}={value}" for key, value in own.items())]
        system.start(Program(f"baton-{component}", tuple(arguments), ports[component], "/readyz"))
    installation.kubectl.run("create", "namespace", "rbac")
    yield Cluster(installation.kubectl, "rbac", system, ports["clients"])
    for component in ("router", "operator", "sim"):
        system.stop(f"baton-{component}")


@pytest.fixture(scope="module")
def model(cluster: Cluster) -> str:
    """The example, with engines on ports of this test's own."""
    serving, *_ = example("deepseek-v4-flash-pd-a3/modelserving.yaml")
    serving["spec"]["template"]["engine"]["ports"] = {"api": ENGINE_PORT}
    cluster.apply(serving, *example("deepseek-v4-flash-pd-a3/modelroute.yaml"))
    return "dsv4"


def metrics_of(port: int) -> str:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_the_authorizer_allows_what_the_programs_need(installation: Installation, cluster: Cluster) -> None:
    assert (
        allowed(installation, "baton-operator", OPERATOR | CERTIFICATE, namespace="anywhere") == OPERATOR | CERTIFICATE
    )
    assert allowed(installation, "baton-operator", SECRET | ELECTION, namespace=NAMESPACE) == SECRET | ELECTION
    assert allowed(installation, "baton-router", ROUTER, namespace="anywhere") == ROUTER


def test_the_authorizer_refuses_what_they_do_not_need(installation: Installation, cluster: Cluster) -> None:
    for namespace in (NAMESPACE, "anywhere"):
        assert allowed(installation, "baton-operator", FORBIDDEN, namespace=namespace) == set()
        assert allowed(installation, "baton-router", (FORBIDDEN | OPERATOR) - ROUTER, namespace=namespace) == set()
    assert allowed(installation, "baton-operator", SECRET | ELECTION, namespace="anywhere") == set()


def test_a_model_is_available_and_served_with_the_charts_service_accounts(cluster: Cluster, model: str) -> None:
    cluster.wait_available(model)

    answer = cluster.until_served(model)

    assert "dsv4-0-prefill-0-0" in answer.prefill
    assert "dsv4-0-decode-0-0" in answer.decode
    cluster.until(lambda: cluster.condition("modelroute", model, "Programmed").get("status") == "True", "it is routed")
    cluster.until(lambda: bool(cluster.get("events")["items"]), "events are written")


def test_the_operator_writes_its_certificate_and_an_upgrade_keeps_it(
    installation: Installation, cluster: Cluster
) -> None:
    def written() -> tuple[dict[str, str], str]:
        secret = installation.get("secret", "baton-webhook", f"--namespace={NAMESPACE}")
        (webhook,) = installation.get("validatingwebhookconfiguration", "baton-webhook")["webhooks"]
        return secret.get("data") or {}, webhook["clientConfig"].get("caBundle", "")

    cluster.until(lambda: all(written()), "certificate and authority are written")
    before = written()
    assert before[0]["ca.crt"] == before[1]

    installation.install("--set=router.replicas=3")

    assert written() == before


def test_nobody_was_ever_refused_anything(cluster: Cluster, model: str, ports: dict[str, int]) -> None:
    cluster.wait_available(model)
    for component in ("operator", "router"):
        answers = [line for line in metrics_of(ports[component]).splitlines() if "rest_client_requests_total{" in line]
        assert any('code="200"' in line for line in answers)
        assert [line for line in answers if 'code="401"' in line or 'code="403"' in line] == []
        assert "forbidden" not in cluster.system.log(f"baton-{component}").read_text().lower()  # kopf counts nothing


def test_a_missing_rule_is_told_and_an_upgrade_brings_it_back(
    installation: Installation, cluster: Cluster, model: str
) -> None:
    cluster.wait_available(model)
    role = installation.get("clusterrole", "baton-operator")
    rest = [rule for rule in role["rules"] if "pods" not in rule["resources"]]
    assert len(rest) == len(role["rules"]) - 1

    installation.merge("clusterrole", "baton-operator", {"rules": rest})
    replicas: list[dict[str, Any]] = [{"op": "replace", "path": "/spec/template/roles/1/replicas", "value": 2}]
    cluster.run("patch", "modelserving", model, "--type=json", f"--patch={json.dumps(replicas)}")

    def is_told() -> bool:
        told = cluster.condition("modelserving", model, "Reconciled")
        return told.get("status") == "False" and "forbidden" in told["message"]

    cluster.until(is_told, "the status says what is forbidden")
    assert "dsv4-0-decode-1-0" not in cluster.pods(name=model)
    cluster.until_served(model)

    installation.install()
    cluster.until_served(model, by="dsv4-0-decode-1-0")
