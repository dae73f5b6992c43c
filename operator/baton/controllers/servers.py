"""ModelServer: say in its status whether it can be used. What it means for traffic is compiled with its routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from baton.api import admission
from baton.api.meta import Condition, problems_of
from baton.api.problems import Severity
from baton.api.server import ModelServer
from baton.controllers.conditions import joined, with_conditions
from baton.kube.errors import NotFound
from baton.kube.resources import MODEL_SERVERS

if TYPE_CHECKING:
    from baton.common.clock import Clock
    from baton.kube.client import Client
    from baton.kube.store import Store
    from baton.kube.types import JsonObject, Key


class ServerReconciler:
    """Writes the Accepted condition of one ModelServer."""

    def __init__(self, *, client: Client, servers: Store[JsonObject], clock: Clock) -> None:
        self._client = client
        self._servers = servers
        self._clock = clock

    async def __call__(self, key: Key) -> None:
        """Reconcile one object."""
        raw = self._servers.get(key)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            return
        conditions = with_conditions(raw, [_accepted(raw)], now=self._clock.now())
        status = {"observedGeneration": raw["metadata"].get("generation", 0), "conditions": conditions}
        if status == (raw.get("status") or {}):
            return
        try:
            written = await self._client.patch_status(MODEL_SERVERS, *key, status)
        except NotFound:
            return
        self._servers.offer("MODIFIED", written)


def _accepted(raw: JsonObject) -> Condition:
    try:
        problems: list[object] = [
            problem for problem in admission.check_server(ModelServer.read(raw)) if problem.severity is Severity.ERROR
        ]
    except ValidationError as error:
        problems = [*problems_of(error)]
    if problems:
        return Condition(type="Accepted", status="False", reason="Invalid", message=joined(problems))
    return Condition(type="Accepted", status="True", reason="Accepted", message="The spec is valid")
