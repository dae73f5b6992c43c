"""Reads kubeconfig files through kubernetes_asyncio: tokens, client certificates, exec plugins. Sends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from baton.kube.access import Access, Authorization, Credentials, tls_context
from baton.kube.errors import ConfigurationError

if TYPE_CHECKING:
    import datetime as dt

    from kubernetes_asyncio.client import Configuration

    from baton.common.clock import Clock

_HEADER = "BearerToken"  # where kubernetes_asyncio keeps the whole value of the Authorization header


async def kubeconfig_access(path: str | None, *, context: str | None, clock: Clock) -> Access:
    """Reach the API server of a kubeconfig's context (None: its current one).

    Without a path the file is that of $KUBECONFIG, or ~/.kube/config. Token files and exec plugins are asked again when
    their token ends or is refused. Client certificates are read once.
    """
    configuration, credentials, namespace = await _load(path, context, clock)

    async def load() -> Credentials:
        return (await _load(path, context, clock))[1]

    url = (configuration.host or "").rstrip("/")
    tls = None
    if url.startswith("https"):
        tls = tls_context(
            configuration.ssl_ca_cert,
            certificate=configuration.cert_file,
            key=configuration.key_file,
            verify=configuration.verify_ssl,
        )
    return Access(
        url=url,
        authorization=Authorization(load, loaded=credentials),
        tls=tls,
        server_name=configuration.tls_server_name,
        proxy=configuration.proxy,
        namespace=namespace,
    )


async def _load(path: str | None, context: str | None, clock: Clock) -> tuple[Configuration, Credentials, str]:
    from kubernetes_asyncio import config  # noqa: PLC0415 # takes 75 MB and a second, wasted inside a cluster
    from kubernetes_asyncio.client import Configuration  # noqa: PLC0415

    configuration = Configuration()
    try:
        loader = await config.load_kube_config(
            config_file=path, context=context, client_configuration=configuration, persist_config=False
        )
    except (config.ConfigException, OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{_name(path)}: {error}") from error
    except (TypeError, ValueError, AttributeError, AssertionError) as error:
        # What kubernetes_asyncio makes of a part that is missing or of the wrong kind.
        raise ConfigurationError(f"{_name(path)}: needs clusters, users, and contexts that name both") from error
    ends: dt.datetime | None = getattr(loader, "exec_plugin_expiry", None)
    lifetime = None if ends is None else (ends - clock.now()).total_seconds() * 0.8
    meant = (loader.current_context or {}).get("context") or {}
    credentials = Credentials(configuration.api_key.get(_HEADER), lifetime=lifetime)
    return configuration, credentials, meant.get("namespace") or "default"


def _name(path: str | None) -> str:
    return "the kubeconfig of $KUBECONFIG or ~/.kube/config" if path is None else f"kubeconfig {path}"
