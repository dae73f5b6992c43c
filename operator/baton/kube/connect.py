"""Chooses how to reach the API server: a kubeconfig that was named, the service account, or the default file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from baton.kube.access import in_cluster_access
from baton.kube.client import Client
from baton.kube.clock import SystemClock
from baton.kube.errors import ConfigurationError
from baton.kube.kubeconfig import kubeconfig_access

if TYPE_CHECKING:
    from collections.abc import Mapping

    from baton.kube.access import Access


async def find_access(
    kubeconfig: str | None, context: str | None = None, *, environment: Mapping[str, str] = os.environ
) -> Access:
    """Return address and credentials of the cluster that a user means.

    A named file or context wins; inside a cluster the service account follows; else $KUBECONFIG or ~/.kube/config.

    Raises:
        ConfigurationError: there is nothing usable; the message names the file and the cure.

    """
    if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in environment:
        return in_cluster_access(environment=environment)
    _check_file(kubeconfig, environment)
    return await kubeconfig_access(kubeconfig, context=context, clock=SystemClock())


async def connect(kubeconfig: str | None, context: str | None = None) -> Client:
    """Return a client for the same cluster. Raises ConfigurationError, too, also for credentials that are not there."""
    access = await find_access(kubeconfig, context)
    await access.authorization.header()
    return Client(access)


def _check_file(kubeconfig: str | None, environment: Mapping[str, str]) -> None:
    """Say clearly that there is no file; kubernetes_asyncio takes a missing file for an empty one."""
    if kubeconfig is not None:
        if not Path(kubeconfig).expanduser().is_file():
            raise ConfigurationError(f"kubeconfig {kubeconfig}: there is no such file")
        return
    places = environment.get("KUBECONFIG") or "~/.kube/config"
    if not any(Path(place).expanduser().is_file() for place in places.split(os.pathsep)):
        raise ConfigurationError(f"there is no kubeconfig at {places}: pass --kubeconfig, or set $KUBECONFIG")
