"""Where the API server is and what proves who asks. Sends nothing; kubeconfig.py reads kubeconfig files."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from baton.kube.errors import ConfigurationError
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

_logger = logging.getLogger(__name__)

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_LIFETIME = 60.0  # seconds; the kubelet replaces the file well before the old token ends
_SHORTEST_LIFETIME = 5.0  # seconds between two loads, however often the server refuses what was loaded


@dataclass(frozen=True, slots=True)
class Credentials:
    """The value of the Authorization header (None: send none) and after how many seconds to load it again."""

    header: str | None
    lifetime: float | None = None


class Authorization:
    """Caches what `load` returns, and loads it again when its time is over or the server has refused it.

    `loaded` are credentials that the caller has just loaded, if it had to anyway.
    """

    def __init__(self, load: Callable[[], Awaitable[Credentials]], *, loaded: Credentials | None = None) -> None:
        self._load = load
        self._lock = asyncio.Lock()
        self._credentials = loaded
        self._loaded_at = 0.0 if loaded is None else asyncio.get_running_loop().time()

    async def header(self) -> str | None:
        """Return the header to send. Raises ConfigurationError if the first load fails; later ones keep the last."""
        if self._is_due():
            async with self._lock:
                if self._is_due():
                    await self._reload()
        return None if self._credentials is None else self._credentials.header

    async def header_after_refusal(self, refused: str | None) -> str | None:
        """Return the header to try after the server refused this one: the same one if there is no better."""
        async with self._lock:
            current = None if self._credentials is None else self._credentials.header
            if current == refused and self._age() >= _SHORTEST_LIFETIME:
                await self._reload()
        return None if self._credentials is None else self._credentials.header

    def _age(self) -> float:
        return asyncio.get_running_loop().time() - self._loaded_at

    def _is_due(self) -> bool:
        if self._credentials is None:
            return True
        lifetime = self._credentials.lifetime
        return lifetime is not None and self._age() >= max(lifetime, _SHORTEST_LIFETIME)

    async def _reload(self) -> None:
        try:
            self._credentials = await self._load()
        except (ConfigurationError, OSError) as error:
            if self._credentials is None:
                raise ConfigurationError(f"credentials for the API server: {error}") from error
            event(_logger, logging.WARNING, "keeping the old credentials", error=error)
        self._loaded_at = asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class Access:
    """Address and credentials of an API server. The URL has no slash at its end."""

    url: str
    authorization: Authorization
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    """The name that the server's certificate has, if it is another than the URL's host."""
    proxy: str | None = None
    namespace: str = "default"
    """The namespace that is meant where none is named: that of the context, or of the pod."""


def open_access(url: str, token: str | None = None) -> Access:
    """Reach a server at this URL, with this bearer token if there is one; for development and tests."""

    async def load() -> Credentials:
        return Credentials(None if token is None else f"Bearer {token}")

    return Access(url=url.rstrip("/"), authorization=Authorization(load))


def in_cluster_access(
    *, environment: Mapping[str, str] = os.environ, service_account: Path = _SERVICE_ACCOUNT
) -> Access:
    """Reach the API server of the cluster this process runs in, with the pod's service account.

    Reads the token file again each minute: the kubelet rotates it. This is written here, not taken from
    kubernetes_asyncio, because importing that one takes 75 MB, which every router would pay.
    """
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise ConfigurationError("not inside a cluster (no KUBERNETES_SERVICE_HOST): pass a kubeconfig")
    token_file, authority = service_account / "token", service_account / "ca.crt"
    if not token_file.exists():
        raise ConfigurationError(f"no {token_file}: the pod needs automountServiceAccountToken")

    async def load() -> Credentials:
        token = (await asyncio.to_thread(token_file.read_text)).strip()
        if not token:
            raise ConfigurationError(f"{token_file} is empty")
        return Credentials(f"Bearer {token}", lifetime=_TOKEN_LIFETIME)

    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    namespace_file = service_account / "namespace"
    namespace = namespace_file.read_text().strip() if namespace_file.exists() else ""
    return Access(
        url=url, authorization=Authorization(load), tls=tls_context(authority), namespace=namespace or "default"
    )


def tls_context(
    authority: Path | str | None,
    *,
    certificate: Path | str | None = None,
    key: Path | str | None = None,
    verify: bool = True,
) -> ssl.SSLContext:
    """Build the TLS settings: trust this authority (None: the system's), and show this client certificate."""
    try:
        context = ssl.create_default_context(cafile=authority)
        if certificate is not None:
            context.load_cert_chain(certificate, keyfile=key)
    except OSError as error:
        raise ConfigurationError(f"certificates {authority}, {certificate}: {error}") from error
    # Python 3.13 began to refuse authorities without a key identifier; clusters have had such for years.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
