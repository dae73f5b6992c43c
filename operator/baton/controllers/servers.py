"""ModelServer: say in its status whether it can be used. What it means for traffic is compiled with its routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.controllers.conditions import accepted, with_conditions, write_status
from baton.kube.resources import MODEL_SERVERS

if TYPE_CHECKING:
    from baton.api.server import ModelServer
    from baton.common.clock import Clock
    from baton.controllers.projection import KindRecord
    from baton.kube.client import Client
    from baton.kube.store import Store
    from baton.kube.types import Key


class ServerReconciler:
    """Writes the Accepted condition of one ModelServer."""

    def __init__(self, *, client: Client, servers: Store[KindRecord[ModelServer]], clock: Clock) -> None:
        self._client = client
        self._servers = servers
        self._clock = clock

    async def __call__(self, key: Key) -> None:
        """Reconcile one object."""
        record = self._servers.get(key)
        if record is None or record.is_deleting:
            return
        raw = record.raw
        status = {
            "observedGeneration": raw["metadata"].get("generation", 0),
            "conditions": with_conditions(raw, [accepted(record.problems)], now=self._clock.now()),
        }
        await write_status(self._client, MODEL_SERVERS, self._servers, raw, status)
