"""Chooses how to reach the API server: a kubeconfig that was named, the service account, or the default file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from baton.kube.client import CONNECTIONS, Client

if TYPE_CHECKING:
    from collections.abc import Mapping


async def connect(
    kubeconfig: str | None,
    context: str | None = None,
    *,
    connections: int = CONNECTIONS,
    environment: Mapping[str, str] = os.environ,
) -> Client:
    """Return a client for the cluster that a user means.

    A named file or context wins; inside a cluster the service account follows; else $KUBECONFIG or ~/.kube/config.

    Raises:
        ConfigurationError: there is nothing usable; the message names the file and the cure.

    """
    if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in environment:
        return Client.in_cluster(connections=connections)
    return await Client.from_kubeconfig(kubeconfig, context, connections=connections)
