from __future__ import annotations

import asyncio
import base64
import datetime as dt
import io
import logging
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from baton.kube.client import Client
from baton.kube.clock import SystemClock
from baton.kube.errors import Forbidden, NotFound
from baton.kube.resources import SECRETS, VALIDATING_WEBHOOK_CONFIGURATIONS
from baton.manager.certificates import Certificate, issue, service_names
from baton.manager.webhooks import PATH, CertificateSource, SecretCertificate, Webhook
from builders import pod_template, serving
from fake_api_server import FakeApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

JsonObject = dict[str, Any]

NAMESPACE = "baton-system"
SERVER_NAME = f"webhook.{NAMESPACE}.svc"
NAMES = service_names("webhook", NAMESPACE)
SECRET_COLLECTION = "/api/v1/secrets"
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
DAY = dt.timedelta(days=1)


class SettableClock:
    def __init__(self) -> None:
        self.time = SystemClock().now()

    def now(self) -> dt.datetime:
        return self.time


class Shelf:
    """A source whose certificate the test replaces."""

    def __init__(self, certificate: Certificate | Exception) -> None:
        self.certificate = certificate

    async def current(self) -> Certificate:
        if isinstance(self.certificate, Exception):
            raise self.certificate
        return self.certificate


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as running:
        yield running


@pytest.fixture
async def client(server: FakeApiServer) -> AsyncIterator[Client]:
    async with Client.from_url(server.url) as client:
        yield client


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


def configure(server: FakeApiServer, *bundles: str) -> None:
    """Put the ValidatingWebhookConfiguration there, with a webhook for each bundle."""
    webhooks = [
        {"name": f"{number}.baton", "failurePolicy": "Ignore", "clientConfig": {"caBundle": encoded(bundle)}}
        for number, bundle in enumerate(bundles)
    ]
    server.put(CONFIGURATIONS, "baton", namespace="", webhooks=webhooks)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def published(client: Client) -> list[str]:
    """Return the authorities that API servers trust, for each webhook of the configuration."""
    found = await client.get(VALIDATING_WEBHOOK_CONFIGURATIONS, None, "baton")
    return [base64.b64decode(webhook["clientConfig"]["caBundle"]).decode() for webhook in found["webhooks"]]


def source(client: Client, clock: SettableClock, *, spread: float = 0.0) -> SecretCertificate:
    return SecretCertificate(
        client,
        namespace=NAMESPACE,
        secret="certificate",
        service="webhook",
        configuration="baton",
        clock=clock,
        spread=spread,
    )


@asynccontextmanager
async def serving_with(source: CertificateSource, *, port: int = 0, clock: Any = None) -> AsyncIterator[Webhook]:
    webhook = Webhook(source, host="127.0.0.1", port=port, clock=clock or SystemClock(), period=0.01)
    running = asyncio.ensure_future(webhook.run())
    try:
        yield webhook
    finally:
        running.cancel()
        await asyncio.wait([running])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 # what is waited for happens in the webhook's own task
            await asyncio.sleep(0.005)


def trusting(certificate: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=certificate.authority)


async def post(webhook: Webhook, body: bytes, *, tls: ssl.SSLContext, path: str = PATH) -> tuple[int, Any]:
    """Send a review as an API server does; return the status, and the answer if it is JSON."""
    url = f"https://127.0.0.1:{webhook.port}{path}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=io.BytesIO(body), ssl=tls, server_hostname=SERVER_NAME) as response,
    ):
        is_json = response.content_type == "application/json"
        return response.status, await (response.json() if is_json else response.text())


async def until_shown(webhook: Webhook, certificate: Certificate) -> None:
    """Wait until a new connection is shown this certificate."""
    address = "127.0.0.1", webhook.port or 0
    async with asyncio.timeout(10):
        while await asyncio.to_thread(ssl.get_server_certificate, address) != certificate.certificate:  # noqa: ASYNC110 # it is asked over the network
            await asyncio.sleep(0.005)


def weak_certificate() -> Certificate:
    """Return a certificate whose key is too short for OpenSSL's defaults."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
    now = SystemClock().now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Certificate(certificate.public_bytes(serialization.Encoding.PEM).decode(), secret.decode())


def review(image: str = "engine:1") -> bytes:
    new = serving().role("server", entryTemplate=pod_template(image)).document()
    request = {"uid": "u", "operation": "CREATE", "kind": {"kind": new["kind"]}, "object": new}
    return orjson.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})


async def test_the_first_operator_makes_the_secret_and_tells_every_webhook_whom_to_trust(
    server: FakeApiServer, client: Client, clock: SettableClock
) -> None:
    configure(server, "", "placeholder")

    certificate = await source(client, clock).current()

    secret = await client.get(SECRETS, NAMESPACE, "certificate")
    assert secret["type"] == "kubernetes.io/tls"
    assert secret["data"] == {
        "tls.crt": encoded(certificate.certificate),
        "tls.key": encoded(certificate.key),
        "ca.crt": encoded(certificate.authority),
    }
    assert await published(client) == [certificate.authority] * 2
    configuration = await client.get(VALIDATING_WEBHOOK_CONFIGURATIONS, None, "baton")
    assert [webhook["failurePolicy"] for webhook in configuration["webhooks"]] == ["Ignore", "Ignore"]


async def test_a_secret_that_is_there_but_empty_is_filled(
    server: FakeApiServer, client: Client, clock: SettableClock
) -> None:
    configure(server, "")
    server.put(SECRET_COLLECTION, "certificate", namespace=NAMESPACE, uid="of-the-chart", type="Opaque")

    certificate = await source(client, clock).current()

    secret = await client.get(SECRETS, NAMESPACE, "certificate")
    assert secret["metadata"]["uid"] == "of-the-chart"
    assert secret["data"]["tls.crt"] == encoded(certificate.certificate)


@pytest.mark.parametrize("begins", ["with nothing", "with an old certificate"])
async def test_operators_that_start_at_once_agree(
    server: FakeApiServer, client: Client, clock: SettableClock, begins: str
) -> None:
    configure(server, "")
    if begins == "with an old certificate":
        await source(client, clock).current()
        clock.time += 300 * DAY

    found = await asyncio.gather(*(source(client, clock).current() for _ in range(3)))

    assert found[0] == found[1] == found[2]
    secret = await client.get(SECRETS, NAMESPACE, "certificate")
    assert secret["data"]["tls.key"] == encoded(found[0].key)
    assert (await published(client))[0].startswith(found[0].authority)


async def test_nothing_is_written_while_all_is_well(
    server: FakeApiServer, client: Client, clock: SettableClock
) -> None:
    configure(server, "")
    first = await source(client, clock).current()
    server.requests.clear()

    assert await source(client, clock).current() == first

    assert {seen.verb for seen in server.requests} == {"get"}


async def test_a_renewal_keeps_the_old_authority_for_a_day(
    server: FakeApiServer, client: Client, clock: SettableClock
) -> None:
    configure(server, "")
    old = await source(client, clock).current()

    clock.time += 300 * DAY
    new = await source(client, clock).current()
    assert new != old
    assert await published(client) == [new.authority + old.authority]

    clock.time += DAY
    assert await source(client, clock).current() == new
    assert await published(client) == [new.authority]


async def test_a_lost_secret_is_replaced_while_the_old_certificate_stays_trusted(
    server: FakeApiServer, client: Client, clock: SettableClock
) -> None:
    configure(server, "")
    old = await source(client, clock).current()
    server.remove(SECRET_COLLECTION, "certificate", namespace=NAMESPACE)

    new = await source(client, clock).current()

    assert await published(client) == [new.authority + old.authority]


async def test_a_new_certificate_is_not_served_before_its_authority_could_be_published(
    server: FakeApiServer, client: Client, clock: SettableClock
) -> None:
    configure(server, "")
    old = await source(client, clock).current()
    async with serving_with(source(client, clock), clock=clock) as webhook:
        await until(lambda: webhook.port is not None)
        clock.time += 300 * DAY
        server.fail("patch", 403, skip=1, times=1)
        await until(lambda: not server.faults or not server.faults[-1].times)

        assert webhook.problem() == ""
        assert (await post(webhook, review(), tls=trusting(old)))[0] == 200


async def test_api_servers_get_time_to_learn_of_a_new_authority(
    server: FakeApiServer, client: Client, clock: SettableClock
) -> None:
    configure(server, "")
    old = await source(client, clock, spread=600).current()  # nobody trusted anything before: no reason to wait

    clock.time += 300 * DAY
    renewal = asyncio.ensure_future(source(client, clock, spread=600).current())
    async with asyncio.timeout(10):
        while await published(client) == [old.authority]:
            assert not renewal.done()
    done, _ = await asyncio.wait([renewal], timeout=0.05)

    assert not done
    renewal.cancel()


async def test_without_the_right_or_the_configuration_it_says_so(
    server: FakeApiServer, client: Client, clock: SettableClock
) -> None:
    with pytest.raises(NotFound, match="baton"):
        await source(client, clock).current()
    server.fail("get", 403)
    with pytest.raises(Forbidden):
        await source(client, clock).current()


async def test_reviews_are_answered() -> None:
    certificate = issue(NAMES, now=SystemClock().now())
    async with serving_with(Shelf(certificate)) as webhook:
        await until(lambda: webhook.port is not None)
        tls = trusting(certificate)

        assert webhook.problem() == ""
        status, answered = await post(webhook, review(), tls=tls)
        assert (status, answered["response"]) == (200, {"uid": "u", "allowed": True})
        status, answered = await post(webhook, review(image=""), tls=tls)
        assert (status, answered["response"]["allowed"]) == (200, False)


@pytest.mark.parametrize(
    ("body", "path", "status", "text"),
    [
        (b"", PATH, 400, "no AdmissionReview: "),
        (b'{"kind":', PATH, 400, "no AdmissionReview: "),
        (b"{}", PATH, 400, "no AdmissionReview: apiVersion: is required"),
        (b"x" * (8 * 2**20 + 1), PATH, 413, ""),
        (b"{}", "/", 404, ""),
    ],
)
async def test_what_cannot_be_read_is_an_error_of_the_client(body: bytes, path: str, status: int, text: str) -> None:
    certificate = issue(NAMES, now=SystemClock().now())
    async with serving_with(Shelf(certificate)) as webhook:
        await until(lambda: webhook.port is not None)

        answered = await post(webhook, body, tls=trusting(certificate), path=path)

        assert answered[0] == status
        assert text in answered[1]


async def test_a_new_certificate_is_served_while_old_connections_go_on() -> None:
    old, new = (issue(NAMES, now=SystemClock().now()) for _ in range(2))
    shelf = Shelf(old)
    async with serving_with(shelf) as webhook:
        await until(lambda: webhook.port is not None)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1, ssl=trusting(old))) as session:
            url = f"https://127.0.0.1:{webhook.port}{PATH}"
            async with session.post(url, data=review(), server_hostname=SERVER_NAME) as response:
                await response.read()

            shelf.certificate = new
            await until_shown(webhook, new)

            # A new connection would not trust what is served now.
            async with session.post(url, data=review(), server_hostname=SERVER_NAME) as response:
                assert response.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await post(webhook, review(), tls=trusting(old))


async def test_a_failing_source_leaves_the_certificate_in_use_until_it_ends() -> None:
    clock = SettableClock()
    shelf = Shelf(issue(NAMES, now=clock.now()))
    async with serving_with(shelf, clock=clock) as webhook:
        await until(lambda: webhook.port is not None)

        shelf.certificate = OSError("the disk is gone")
        assert webhook.problem() == ""
        clock.time += 365 * DAY
        await until(lambda: webhook.problem().endswith("the disk is gone"))
        assert "the certificate ended at " in webhook.problem()


async def test_a_certificate_that_openssl_refuses_leaves_the_one_in_use(caplog: pytest.LogCaptureFixture) -> None:
    good = issue(NAMES, now=SystemClock().now())
    shelf = Shelf(good)
    async with serving_with(shelf) as webhook:
        await until(lambda: webhook.port is not None)

        shelf.certificate = weak_certificate()
        await until(lambda: "webhook has a problem" in caplog.text)

        assert (await post(webhook, review(), tls=trusting(good)))[0] == 200


async def test_a_port_that_is_taken_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        async with serving_with(Shelf(issue(NAMES, now=SystemClock().now())), port=port) as webhook:
            await until(lambda: "webhook has a problem" in caplog.text)
            assert "address already in use" in webhook.problem()

            holder.close()
            await until(lambda: webhook.port == port)
            await until(lambda: "webhook has recovered" in caplog.text)
            assert webhook.problem() == ""
