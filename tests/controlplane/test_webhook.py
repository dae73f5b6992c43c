"""The admission webhook as the API server calls it: through a Service, by the certificate that the operator keeps."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import ssl
import subprocess
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from baton.dev.binaries import ensure_binaries
from baton.dev.kubectl import Kubectl
from baton.dev.local import LocalControlPlane
from baton.dev.pins import find_module, read_pins
from baton.dev.progress import ConsoleReport
from baton.dev.provider import ControlPlaneError
from baton.dev.system import HOST, System, free_ports, operator
from baton.kube.client import Client
from baton.kube.clock import SystemClock
from baton.kube.errors import ApiError, Invalid
from baton.kube.resources import MODEL_SERVINGS, SECRETS, VALIDATING_WEBHOOK_CONFIGURATIONS
from baton.manager.certificates import Certificate, issue, service_names
from baton.manager.webhooks import SecretCertificate, Webhook
from cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytestmark = pytest.mark.controlplane

JsonObject = dict[str, Any]
Documents = list[JsonObject]

NAMESPACE = "baton-system"
ROTATION = "rotation"
"""Namespace of the test of the rotation, which has a webhook of its own."""
PATH_OF_TENSOR = "spec.template.roles[0].engine.parallel.tensor"


def door(name: str, *, port: int, only_rotation: bool, failure_policy: str) -> Documents:
    """Return the Service and the ValidatingWebhookConfiguration by which the API server comes to this port.

    There is no proxy here, but an API server finds the address of an ExternalName itself.
    """
    operator = "In" if only_rotation else "NotIn"
    webhook = {
        "name": f"{name}.baton.serving.volcano.sh",
        "clientConfig": {"service": {"namespace": NAMESPACE, "name": name, "path": "/validate", "port": port}},
        "rules": [
            {
                "apiGroups": ["workload.serving.volcano.sh", "networking.serving.volcano.sh"],
                "apiVersions": ["v1alpha1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["modelservings", "modelroutes", "modelservers"],
            }
        ],
        "namespaceSelector": {
            "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": operator, "values": [ROTATION]}]
        },
        "failurePolicy": failure_policy,
        "sideEffects": "None",
        "timeoutSeconds": 10,
        "admissionReviewVersions": ["v1"],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [webhook],
        },
    ]


def namespace(name: str) -> JsonObject:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane of this module alone, and an operator with a webhook."""
    try:
        ensure_binaries(read_pins(find_module()), report=ConsoleReport())
    except ControlPlaneError as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        with LocalControlPlane(name="webhook", nodes=2) as control_plane:
            kubectl = Kubectl(control_plane.kubectl, control_plane.kubeconfig)
            system = System(control_plane)
            cluster = Cluster(kubectl, NAMESPACE, system, router_port=0)
            port, probe_port = free_ports(2)
            cluster.apply(namespace(NAMESPACE), namespace(ROTATION))
            cluster.apply(*door("webhook", port=port, only_rotation=False, failure_policy="Ignore"))
            program = operator(control_plane.kubeconfig, probe_port=probe_port)
            system.start(replace(program, arguments=(*program.arguments, *webhook_options(port))))
            yield cluster


def webhook_options(port: int) -> tuple[str, ...]:
    options = {
        "host": HOST,
        "port": str(port),
        "namespace": NAMESPACE,
        "secret": "webhook-certificate",
        "service": "webhook",
        "configuration": "webhook",
    }
    return tuple(part for name, value in options.items() for part in (f"--webhook-{name}", value))


@pytest.fixture
def serving(deepseek: Documents) -> JsonObject:
    return deepseek[0]


@pytest.fixture
def bad_serving(deepseek: Documents) -> JsonObject:
    """A ModelServing with several prefill ranks in a replica that are each larger than a node."""
    role = deepseek[0]["spec"]["template"]["roles"][0]
    role["engine"]["parallel"]["tensor"] = 32
    return deepseek[0]


def said_on_apply(cluster: Cluster, document: JsonObject) -> str:
    """Return what kubectl says beside its result, such as warnings."""
    kubectl = cluster.kubectl
    done = subprocess.run(
        [kubectl.binary, f"--kubeconfig={kubectl.kubeconfig}", f"--namespace={cluster.namespace}", "apply", "-f-"],
        input=yaml.safe_dump(document),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stderr


def tensor_patch(size: int) -> tuple[str, ...]:
    patch = [{"op": "replace", "path": "/spec/template/roles/0/engine/parallel/tensor", "value": size}]
    return "patch", "modelserving", "dsv4", "--type=json", "-p", json.dumps(patch)


def test_a_bad_object_is_refused_with_the_field_and_the_cure(cluster: Cluster, bad_serving: JsonObject) -> None:
    with pytest.raises(ControlPlaneError) as refused:
        cluster.apply(bad_serving)

    assert f'The ModelServing "dsv4" is invalid: {PATH_OF_TENSOR}: ' in str(refused.value)
    assert "a node has 16, and of ranks that span nodes a replica holds one, not 4; set parallel.data to 1" in str(
        refused.value
    )
    assert cluster.get("modelservings")["items"] == []


def test_a_bad_change_is_refused_and_the_old_object_stays(cluster: Cluster, serving: JsonObject) -> None:
    cluster.apply(serving)

    with pytest.raises(ControlPlaneError) as refused:
        cluster.run(*tensor_patch(32))

    assert PATH_OF_TENSOR in str(refused.value)
    roles = cluster.get("modelserving", "dsv4")["spec"]["template"]["roles"]
    assert roles[0]["engine"]["parallel"]["tensor"] == 4


def test_routes_and_servers_are_checked_too(cluster: Cluster, article: Documents) -> None:
    server = next(document for document in article if document["kind"] == "ModelServer")
    route = next(document for document in article if document["kind"] == "ModelRoute")
    cluster.apply(server, route)

    server["spec"]["workloadSelector"]["matchLabels"] = {"app": "not a label"}
    with pytest.raises(ControlPlaneError, match=r"spec\.workloadSelector\.matchLabels: 'not a label'"):
        cluster.apply(server)
    route["spec"]["trafficPolicy"] = {"timeout": "0s"}
    with pytest.raises(ControlPlaneError, match=r"spec\.trafficPolicy\.timeout: is 0"):
        cluster.apply(route)


def test_doubts_are_warnings_that_kubectl_shows(cluster: Cluster, serving: JsonObject) -> None:
    labels = {"modelserving.volcano.sh/role": "mine"}
    serving["spec"]["template"]["roles"][0]["entryTemplate"] = {"metadata": {"labels": labels}}

    said = said_on_apply(cluster, serving)

    assert "Warning: spec.template.roles[0].entryTemplate.metadata.labels: modelserving.volcano.sh/role" in said
    assert len(cluster.get("modelservings")["items"]) == 1


def test_a_generated_name_is_known_by_then(cluster: Cluster, serving: JsonObject) -> None:
    serving["metadata"] = {"generateName": "made-"}

    cluster.run("create", "--filename=-", standard_input=yaml.safe_dump(serving))

    assert [item["metadata"]["name"][:5] for item in cluster.get("modelservings")["items"]] == ["made-"]


def test_what_passed_while_the_operator_was_down_is_refused_in_the_status(
    cluster: Cluster, bad_serving: JsonObject
) -> None:
    leaving = {**bad_serving, "metadata": {"name": "leaving", "finalizers": ["example.com/kept"]}}
    cluster.system.stop("baton-operator")
    cluster.apply(bad_serving, leaving)
    cluster.system.restart("baton-operator")
    cluster.until(
        lambda: cluster.condition("modelserving", "dsv4", "Accepted").get("status") == "False", "it is refused"
    )

    assert PATH_OF_TENSOR in cluster.condition("modelserving", "dsv4", "Accepted")["message"]
    assert cluster.pods(name="dsv4") == {}
    cluster.run("label", "modelserving", "dsv4", "team=a")
    with pytest.raises(ControlPlaneError, match="is invalid"):
        cluster.run(*tensor_patch(64))
    cluster.run(*tensor_patch(4))
    cluster.wait_available("dsv4")
    cluster.run("delete", "modelserving", "leaving", "--wait=false")
    cluster.run("patch", "modelserving", "leaving", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    cluster.until(lambda: len(cluster.get("modelservings")["items"]) == 1, "the other one is gone")


def test_a_restarted_operator_keeps_the_certificate(cluster: Cluster) -> None:
    def versions() -> list[str]:
        secret = cluster.get("secret", "webhook-certificate", f"--namespace={NAMESPACE}")
        configuration = cluster.get("validatingwebhookconfiguration", "webhook")
        return [found["metadata"]["resourceVersion"] for found in (secret, configuration)]

    before = versions()
    cluster.system.restart("baton-operator")

    assert versions() == before


class SettableClock:
    def __init__(self, time: dt.datetime) -> None:
        self.time = time

    def now(self) -> dt.datetime:
        return self.time


class Writer:
    """Sends one bad object after the other; each has to be refused by the webhook."""

    def __init__(self, client: Client, document: JsonObject) -> None:
        self._client = client
        self._document = {**document, "metadata": {"name": "dsv4", "namespace": ROTATION}}
        self.refused = 0

    async def until_refused(self) -> None:
        """Wait until the API server knows the webhook and trusts it."""
        metadata = self._document["metadata"]
        async with asyncio.timeout(30):
            while True:
                try:
                    await self._client.create(MODEL_SERVINGS, self._document)
                except Invalid:
                    return
                except ApiError:
                    await asyncio.sleep(0.02)
                else:
                    await self._client.delete(MODEL_SERVINGS, metadata["namespace"], metadata["name"])

    async def run(self) -> None:
        while True:
            with pytest.raises(Invalid, match="validation failed"):
                await self._client.create(MODEL_SERVINGS, self._document)
            self.refused += 1


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 # what is waited for happens in other tasks
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(*works: Any) -> AsyncIterator[None]:
    """Run these beside the block, and fail when one of them does."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        yield
        for task in tasks:
            task.cancel()


async def put_certificate(client: Client, certificate: Certificate) -> None:
    texts = {"tls.crt": certificate.certificate, "tls.key": certificate.key, "ca.crt": certificate.authority}
    data = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
    await client.create(SECRETS, {"metadata": {"name": ROTATION, "namespace": NAMESPACE}, "data": data})


async def shown(port: int) -> str:
    """Return the certificate that a new connection is shown."""
    return await asyncio.to_thread(ssl.get_server_certificate, (HOST, port))


async def until_replaced(port: int, old: Certificate) -> None:
    async with asyncio.timeout(30):
        while await shown(port) == old.certificate:  # noqa: ASYNC110 # it is asked over the network
            await asyncio.sleep(0.02)


async def test_a_rotation_lets_no_write_fail(programs: Cluster, bad_serving: JsonObject) -> None:
    today = SystemClock().now()
    (port,) = free_ports(1)
    programs.apply(*door(ROTATION, port=port, only_rotation=True, failure_policy="Fail"))
    # Valid all the time, but due when the operator's clock jumps from 60 days ago to now.
    old = issue(service_names(ROTATION, NAMESPACE), now=today - dt.timedelta(days=280))
    clock = SettableClock(today - dt.timedelta(days=60))
    async with await Client.from_kubeconfig(str(programs.kubectl.kubeconfig)) as client:
        await put_certificate(client, old)
        source = SecretCertificate(
            client,
            namespace=NAMESPACE,
            secret=ROTATION,
            service=ROTATION,
            configuration=ROTATION,
            clock=clock,
            spread=1.0,
        )
        webhook = Webhook(source, host=HOST, port=port, clock=clock, period=0.1)
        writer = Writer(client, bad_serving)
        async with running(webhook.run()):
            await until(lambda: webhook.problem() == "")
            await writer.until_refused()
            async with running(writer.run()):
                await until(lambda: writer.refused > 5)
                assert await shown(port) == old.certificate

                clock.time = today
                await until_replaced(port, old)
                refused = writer.refused
                await until(lambda: writer.refused > refused + 20)

        found = await client.get(VALIDATING_WEBHOOK_CONFIGURATIONS, None, ROTATION)
        bundle = base64.b64decode(found["webhooks"][0]["clientConfig"]["caBundle"]).decode()
        assert bundle.count("BEGIN CERTIFICATE") == 2
        assert bundle.endswith(old.authority)
