"""The admission webhook: an HTTPS server, and the certificates it serves with. What it answers is in admission_review.

It runs beside the reconcilers and never stops them: whatever fails is logged, shown by /readyz and tried again.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import random
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import orjson
from aiohttp import web

from baton.kube.backoff import delay_after
from baton.kube.errors import AlreadyExists, ApiError, ConfigurationError, Conflict, Fenced, NotFound
from baton.kube.resources import SECRETS, VALIDATING_WEBHOOK_CONFIGURATIONS
from baton.manager.admission_review import ReviewError, answer
from baton.manager.certificates import (
    Certificate,
    CertificateError,
    expiry,
    issue,
    reason_to_issue,
    service_names,
    trusted,
)
from baton.telemetry.logs import event

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from pathlib import Path

    from baton.common.clock import Clock
    from baton.kube.client import Client
    from baton.kube.types import JsonObject
    from baton.manager.settings import OperatorSettings

_logger = logging.getLogger(__name__)

PATH: Final = "/validate"
_PERIOD: Final = 300.0
"""Seconds between two looks at the certificate."""
_FIRST_RETRY: Final = 1.0
_LAST_RETRY: Final = 60.0
_SPREAD: Final = 5.0
"""Seconds that API servers get to learn of a new authority, by their watch, before its certificate is served."""
_RACES: Final = 4
"""How often a look is begun again at once because somebody else has just written the same object."""
_BODY_LIMIT: Final = 8 * 2**20
"""Bytes of a review: the object and the one it replaces, each at most the 3 MiB that API servers take."""
_BODY_TIME: Final = 10.0
"""Seconds to receive a review; what API servers wait for an answer by default."""
_KEEP_TIME: Final = 120.0
"""Seconds that an idle connection is kept: longer than the API server's 90, so that it is not cut while in use."""
_CLOSE_TIME: Final = 2.0
"""Seconds that running reviews may take at exit."""


class CertificateSource(Protocol):
    """Where the certificate to serve comes from."""

    async def current(self) -> Certificate:
        """Return the certificate to serve now. Raises ApiError, OSError or CertificateError."""
        ...


class FileCertificate:
    """The files `tls.crt` and `tls.key` of a directory, which somebody else, such as cert-manager, renews."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def current(self) -> Certificate:
        """Read the files. A certificate and a key of different age don't fit, and the next look finds both new."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> Certificate:
        texts = [(self._directory / name).read_text(errors="replace") for name in ("tls.crt", "tls.key")]
        certificate = Certificate(*texts)
        try:
            expiry(certificate)
        except CertificateError as error:
            raise CertificateError(f"{self._directory}/tls.crt and tls.key: {error}") from error
        return certificate


class SecretCertificate:
    """A certificate of our own in a Secret, whose authority API servers are told to trust.

    Whoever of several operators writes the Secret first decides; the others take what is there. One whose client may
    not write, because another leads, serves what that one has written and API servers trust. `spread` is the seconds
    between telling API servers a new authority and serving its certificate.
    """

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        secret: str,
        service: str,
        configuration: str,
        clock: Clock,
        spread: float = _SPREAD,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._secret = secret
        self._names = service_names(service, namespace)
        self._configuration = configuration
        self._clock = clock
        self._spread = spread

    async def current(self) -> Certificate:
        """Issue the certificate if that is due, and make sure that API servers trust it."""
        for _ in range(_RACES):
            with suppress(AlreadyExists, Conflict):  # another operator was faster: take what it wrote
                return await self._settle()
        return await self._settle()

    async def _settle(self) -> Certificate:
        certificate = await self._agree()
        await self._publish(certificate)
        return certificate

    async def _agree(self) -> Certificate:
        try:
            found = await self._client.get(SECRETS, self._namespace, self._secret)
        except NotFound:
            found = None
        present = _certificate_of(found)
        reason = reason_to_issue(present, names=self._names, now=self._clock.now())
        if not reason:
            return present
        certificate = issue(self._names, now=self._clock.now())
        try:
            await self._write(found, certificate)
        except Fenced as error:
            if not present.certificate:
                raise CertificateError("the operator that leads has not issued a certificate yet") from error
            return present
        secret = f"{self._namespace}/{self._secret}"
        event(_logger, logging.INFO, "webhook certificate issued", secret=secret, reason=f"the certificate {reason}")
        return certificate

    async def _write(self, found: JsonObject | None, certificate: Certificate) -> None:
        data = {
            "tls.crt": _encoded(certificate.certificate),
            "tls.key": _encoded(certificate.key),
            "ca.crt": _encoded(certificate.authority),
        }
        if found is None:
            metadata = {"namespace": self._namespace, "name": self._secret}
            await self._client.create(SECRETS, {"metadata": metadata, "type": "kubernetes.io/tls", "data": data})
        else:
            patch = {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}, "data": data}
            await self._client.patch(SECRETS, self._namespace, self._secret, patch)

    async def _publish(self, certificate: Certificate) -> None:
        """Put the authority into each webhook of the configuration, and wait until API servers know of a change."""
        found = await self._client.get(VALIDATING_WEBHOOK_CONFIGURATIONS, None, self._configuration)
        present = found.get("webhooks") or []
        wanted = [self._trusting(webhook, certificate) for webhook in present]
        if wanted == present:
            return
        patch = {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}, "webhooks": wanted}
        try:
            await self._client.patch(VALIDATING_WEBHOOK_CONFIGURATIONS, None, self._configuration, patch)
        except Fenced:
            bundles = [_decoded(webhook["clientConfig"].get("caBundle")) for webhook in present]
            if all(certificate.authority in bundle for bundle in bundles):
                return
            raise
        event(_logger, logging.INFO, "webhook authority published", configuration=self._configuration)
        if any(webhook["clientConfig"].get("caBundle") for webhook in present):
            await asyncio.sleep(self._spread)

    def _trusting(self, webhook: JsonObject, certificate: Certificate) -> JsonObject:
        present = _decoded(webhook["clientConfig"].get("caBundle"))
        bundle = trusted(certificate, present, now=self._clock.now())
        return {**webhook, "clientConfig": {**webhook["clientConfig"], "caBundle": _encoded(bundle)}}


class Webhook:
    """Serves reviews over HTTPS with the certificate of a source, and takes up the next one while connections last."""

    def __init__(
        self,
        source: CertificateSource,
        *,
        host: str,
        port: int,
        clock: Clock,
        period: float = _PERIOD,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Look at the source every `period` seconds. Port 0 takes a free one."""
        self._source = source
        self._host = host
        self._port = port
        self._clock = clock
        self._period = period
        self._jitter = jitter
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._served: Certificate | None = None
        self._expiry: dt.datetime | None = None
        self._trouble = ""
        app = web.Application(client_max_size=_BODY_LIMIT)
        app.add_routes([web.post(PATH, _validate)])
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=_KEEP_TIME, shutdown_timeout=_CLOSE_TIME)

    @property
    def port(self) -> int | None:
        """The port it listens on, None while it does not listen."""
        addresses = self._runner.addresses
        return addresses[0][1] if addresses else None

    def problem(self) -> str:
        """Say why reviews cannot be answered; empty if they can, even if the last look at the certificate failed."""
        if self._expiry is None or self.port is None:
            return self._trouble or "it has not started yet"
        if self._clock.now() < self._expiry:
            return ""
        return f"the certificate ended at {self._expiry:%Y-%m-%d %H:%M} UTC. {self._trouble}".rstrip()

    async def run(self) -> None:
        """Serve until cancelled; the server starts once there is a certificate."""
        failures = 0
        await self._runner.setup()
        try:
            while True:
                try:
                    await self._look()
                except Exception as error:  # noqa: BLE001 # the root of a task: the reconcilers must go on without it
                    failures += 1
                    self._complain(error)
                    await asyncio.sleep(
                        delay_after(failures, base=_FIRST_RETRY, cap=_LAST_RETRY, jitter=self._jitter())
                    )
                else:
                    if self._trouble:
                        event(_logger, logging.INFO, "webhook has recovered")
                    failures, self._trouble = 0, ""
                    await asyncio.sleep(self._period)
        finally:
            await self._runner.cleanup()

    async def _look(self) -> None:
        certificate = await self._source.current()
        if certificate != self._served:
            until = expiry(certificate)
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate)  # what OpenSSL refuses must not spoil the other
            _load(self._tls, certificate)
            self._served, self._expiry = certificate, until
            event(_logger, logging.INFO, "webhook certificate loaded", until=until.isoformat())
        if self.port is None:
            await self._listen()

    async def _listen(self) -> None:
        site = web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls)
        try:
            await site.start()
        except OSError:
            await site.stop()
            raise
        event(_logger, logging.INFO, "webhook listens", address=f"https://{self._host}:{self.port}{PATH}")

    def _complain(self, error: Exception) -> None:
        """Log a failure once, however often it comes."""
        trouble = str(error) or repr(error)
        if trouble == self._trouble:
            return
        self._trouble = trouble
        is_expected = isinstance(error, (ApiError, ConfigurationError, OSError, CertificateError))
        level = logging.ERROR if self.problem() else logging.WARNING
        event(_logger, level, "webhook has a problem", error=trouble, exc_info=None if is_expected else error)


def webhook_of(settings: OperatorSettings, client: Client, *, clock: Clock) -> Webhook | None:
    """Return the webhook that the settings ask for, or None."""
    if not settings.webhook_port:
        return None
    source: CertificateSource
    if settings.webhook_certificate is not None:
        source = FileCertificate(settings.webhook_certificate)
    else:
        source = SecretCertificate(
            client,
            namespace=settings.webhook_namespace,
            secret=settings.webhook_secret,
            service=settings.webhook_service,
            configuration=settings.webhook_configuration,
            clock=clock,
        )
    return Webhook(source, host=settings.webhook_host, port=settings.webhook_port, clock=clock)


async def _validate(request: web.Request) -> web.Response:
    try:
        async with asyncio.timeout(_BODY_TIME):
            body = await request.read()
    except TimeoutError:
        return web.Response(status=408, text=f"the review took more than {_BODY_TIME:.0f} s to arrive\n")
    try:
        answered = answer(orjson.loads(body))
    except (orjson.JSONDecodeError, ReviewError) as error:
        return web.Response(status=400, text=f"no AdmissionReview: {error}\n")
    return web.Response(body=orjson.dumps(answered), content_type="application/json")


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Load a certificate through a file in memory: OpenSSL reads files only, and the root file system is read-only."""
    with os.fdopen(os.memfd_create("webhook-certificate"), "w") as file:
        file.write(certificate.key + certificate.certificate)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")


def _certificate_of(secret: JsonObject | None) -> Certificate:
    data = (secret or {}).get("data") or {}
    return Certificate(
        certificate=_decoded(data.get("tls.crt")),
        key=_decoded(data.get("tls.key")),
        authority=_decoded(data.get("ca.crt")),
    )


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str | None) -> str:
    return base64.b64decode(text or "").decode(errors="replace")
