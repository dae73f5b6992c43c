"""Chooses how to reach the API server: a kubeconfig that was named, the service account, or the default file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from baton.kube.access import in_cluster_access
from baton.kube.client import CONNECTIONS, Client
from baton.kube.clock import SystemClock
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
    return await kubeconfig_access(kubeconfig, context=context, clock=SystemClock())


async def connect(kubeconfig: str | None, context: str | None = None, *, connections: int = CONNECTIONS) -> Client:
    """Return a client for the same cluster. Raises ConfigurationError, too, also for credentials that are not there."""
    access = await find_access(kubeconfig, context)
    await access.authorization.header()
    return Client(access, connections=connections)
