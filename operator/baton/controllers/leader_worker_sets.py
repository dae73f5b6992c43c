"""LeaderWorkerSet: keeps a ModelServing of the same name as the set asks for it, and tells its status back.

The ModelServing goes with the set by its owner reference. One that somebody else made is never touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.api.admission import check_serving
from baton.api.meta import Condition
from baton.api.problems import Problem, Severity
from baton.api.serving import ModelServing
from baton.controllers.conditions import joined, with_conditions, write_status
from baton.kube.resources import LEADER_WORKER_SETS, MODEL_SERVINGS
from baton.planning.leader_worker_sets import (
    BRIDGED,
    bridged,
    conditions_of,
    counters_of,
    is_current,
    serving_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from baton.api.leader_worker_set import LeaderWorkerSet
    from baton.common.clock import Clock
    from baton.controllers.projection import KindRecord
    from baton.kube.client import Client
    from baton.kube.store import Store
    from baton.kube.types import JsonObject, Key


class LeaderWorkerSetReconciler:
    """Brings the ModelServing of one LeaderWorkerSet up to date."""

    def __init__(
        self,
        *,
        client: Client,
        sets: Store[KindRecord[LeaderWorkerSet]],
        servings: Store[KindRecord[ModelServing]],
        clock: Clock,
    ) -> None:
        self._client = client
        self._sets = sets
        self._servings = servings
        self._clock = clock

    async def __call__(self, key: Key) -> float | None:
        """Reconcile one object; only a change makes a difference afterwards."""
        record = self._sets.get(key)
        if record is None or record.is_deleting:
            return None
        if record.value is None:
            await self._refuse(record.raw, "Invalid", record.problems)
            return None
        document = serving_of(record.value)
        wanted = ModelServing.read(document)
        errors = [problem for problem in check_serving(wanted) if problem.severity is Severity.ERROR]
        if errors:
            await self._refuse(record.raw, "Invalid", errors)
            return None
        present = self._servings.get(key)
        if present is not None and not _is_of(present, record.value):
            message = "exists and is not this set's; delete it, or use another name"
            await self._refuse(record.raw, "NameTaken", [Problem(f"ModelServing {key[1]}", message)])
            return None
        if present is None or not present.is_deleting:
            await self._write(document, wanted, present)
        await self._tell(record.raw, record.value)
        return None

    async def _write(
        self, document: JsonObject, wanted: ModelServing, present: KindRecord[ModelServing] | None
    ) -> None:
        if present is None:
            written = await self._client.create(MODEL_SERVINGS, document)
        elif present.value is None or not is_current(present.value, wanted):
            patch = {"metadata": {"uid": present.raw["metadata"]["uid"]}, "spec": document["spec"]}
            key = wanted.metadata.namespace, wanted.metadata.name
            written = await self._client.patch(MODEL_SERVINGS, *key, patch)
        else:
            return
        self._servings.offer("MODIFIED", written)

    async def _tell(self, raw: JsonObject, value: LeaderWorkerSet) -> None:
        present = self._servings.get((value.metadata.namespace, value.metadata.name))
        serving = present.value if present is not None else None
        told = [bridged(value), *(conditions_of(serving) if serving else ())]
        counters = counters_of(serving) if serving else {}
        await self._write_status(raw, counters, told)

    async def _refuse(self, raw: JsonObject, reason: str, problems: Iterable[Problem]) -> None:
        condition = Condition(type=BRIDGED, status="False", reason=reason, message=joined(problems))
        await self._write_status(raw, {}, [condition])

    async def _write_status(self, raw: JsonObject, counters: JsonObject, told: Iterable[Condition]) -> None:
        conditions = with_conditions(raw, told, now=self._clock.now())
        status = {**counters, "conditions": conditions}
        await write_status(self._client, LEADER_WORKER_SETS, self._sets, raw, status)


def _is_of(present: KindRecord[ModelServing], value: LeaderWorkerSet) -> bool:
    owners = present.raw["metadata"].get("ownerReferences") or []
    return any(owner.get("controller") and owner["uid"] == value.metadata.uid for owner in owners)
