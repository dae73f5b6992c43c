"""ModelServing: observe, plan, apply, write the status. All decisions are in planning and rendering."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from baton.api.meta import Condition, problems_of
from baton.api.problems import Problem, Severity
from baton.api.serving import ModelServing
from baton.controllers.children import ChildWriter
from baton.controllers.conditions import joined, with_conditions
from baton.controllers.desire import desired_of
from baton.kube.errors import ApiError, NotFound
from baton.kube.resources import MODEL_SERVINGS
from baton.kube.types import ObjectReference
from baton.planning.model import ChildKind, Desired, NoteReason, Observed
from baton.planning.plan import is_deleting, plan
from baton.planning.status import ACCEPTED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from baton.common.clock import Clock
    from baton.controllers.projection import ChildRecord, PodRecord
    from baton.kube.client import Client
    from baton.kube.events import EventRecorder
    from baton.kube.store import Store
    from baton.kube.types import JsonObject, Key
    from baton.planning.model import Note

RECONCILED = "Reconciled"
"""Condition that is False while a child cannot be created or deleted, with the server's words."""

OWNER = "owner"
"""Index of the child stores: the uid of the ModelServing a child belongs to."""


@dataclass(frozen=True, slots=True)
class ServingStores:
    """The caches a reconcile reads; those of children are indexed by their owner's uid under `OWNER`."""

    servings: Store[JsonObject]
    pods: Store[PodRecord]
    services: Store[ChildRecord]
    config_maps: Store[ChildRecord]

    def index_owners(self) -> None:
        """Make the indices that observing needs."""
        self.pods.add_index(OWNER, lambda record: (record.view.owner_uid,))
        self.services.add_index(OWNER, lambda record: (record.view.owner_uid,))
        self.config_maps.add_index(OWNER, lambda record: (record.view.owner_uid,))


class ServingReconciler:
    """Brings one ModelServing a step closer to its spec.

    Keeps only caches that may be dropped: the rendering of the present generation, and the events already told.
    """

    def __init__(self, *, client: Client, stores: ServingStores, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._stores = stores
        self._clock = clock
        self._recorder = recorder
        self._rendered: dict[Key, tuple[tuple[str, int], Desired | None, tuple[Problem, ...]]] = {}
        self._told: dict[Key, frozenset[Note]] = {}
        self._writer = ChildWriter(
            client,
            {
                ChildKind.POD: stores.pods,
                ChildKind.SERVICE: stores.services,
                ChildKind.CONFIG_MAP: stores.config_maps,
            },
        )

    async def __call__(self, key: Key) -> float | None:
        """Reconcile one object; return after how many seconds time alone makes a difference."""
        raw = self._stores.servings.get(key)
        if raw is None:
            self._rendered.pop(key, None)
            self._told.pop(key, None)
            return None
        try:
            serving = ModelServing.read(raw)
        except ValidationError as error:
            await self._refuse(raw, problems_of(error))
            return None
        if is_deleting(serving):
            return None
        desired, problems = self._desire(key, serving)
        if desired is None:
            await self._refuse(raw, [problem for problem in problems if problem.severity is Severity.ERROR])
            return None
        return await self._step(key, raw, desired, warnings=problems)

    def _desire(self, key: Key, serving: ModelServing) -> tuple[Desired | None, tuple[Problem, ...]]:
        """Check and render the spec, once a generation; the status moves within one, and planning reads it."""
        version = serving.metadata.uid, serving.metadata.generation
        known = self._rendered.get(key)
        if known is None or known[0] != version:
            known = (version, *desired_of(serving))
            self._rendered[key] = known
        _, desired, problems = known
        return desired and replace(desired, serving=serving), problems

    async def _step(
        self, key: Key, raw: JsonObject, desired: Desired, *, warnings: tuple[Problem, ...]
    ) -> float | None:
        serving = desired.serving
        made = plan(desired, self._observe(serving))
        failures: list[ApiError] = []
        for stage in made.stages:
            failures = await self._writer.carry_out(serving.metadata.namespace, serving.metadata.uid, stage)
            if failures:
                break
        status = made.status.document()
        extra = [*_warned(warnings), *_outcome(raw, failures)]
        merged = {"status": status, "metadata": raw["metadata"]}
        status["conditions"] = with_conditions(merged, extra, now=self._clock.now())
        await self._write_status(raw, status)
        self._tell(key, serving, made.notes)
        if failures:
            raise failures[0]
        return made.requeue_after

    def _observe(self, serving: ModelServing) -> Observed:
        uid = serving.metadata.uid
        stores = self._stores
        return Observed(
            now=self._clock.now(),
            pods=tuple(sorted((record.view for record in stores.pods.by_index(OWNER, uid)), key=lambda pod: pod.name)),
            services=tuple(record.view for record in stores.services.by_index(OWNER, uid)),
            config_maps=tuple(record.view for record in stores.config_maps.by_index(OWNER, uid)),
        )

    async def _refuse(self, raw: JsonObject, problems: Iterable[object]) -> None:
        """Say in the status why the spec is not acted upon; pods that run are left as they are."""
        refused = Condition(type=ACCEPTED, status="False", reason="Invalid", message=joined(problems))
        status = dict(raw.get("status") or {})
        status["conditions"] = with_conditions(raw, [refused], now=self._clock.now())
        await self._write_status(raw, status)

    async def _write_status(self, raw: JsonObject, status: JsonObject) -> None:
        if status == (raw.get("status") or {}):
            return
        metadata = raw["metadata"]
        try:
            written = await self._client.patch_status(MODEL_SERVINGS, metadata["namespace"], metadata["name"], status)
        except NotFound:
            return
        self._stores.servings.offer("MODIFIED", written)

    def _tell(self, key: Key, serving: ModelServing, notes: tuple[Note, ...]) -> None:
        before = self._told.get(key)
        self._told[key] = frozenset(notes)
        known = (
            frozenset(note for note in notes if note.reason is NoteReason.ROLE_RUNNING) if before is None else before
        )
        about = ObjectReference(
            api_version=MODEL_SERVINGS.api_version,
            kind=MODEL_SERVINGS.kind,
            namespace=serving.metadata.namespace,
            name=serving.metadata.name,
            uid=serving.metadata.uid,
        )
        for note in notes:
            if note not in known:
                self._recorder.record(about, reason=note.reason, message=note.message)


def _warned(problems: tuple[Problem, ...]) -> list[Condition]:
    if not problems:
        return []
    message = f"The spec can be served; warnings: {joined(problems)}"
    return [Condition(type=ACCEPTED, status="True", reason="AcceptedWithWarnings", message=message)]


def _outcome(raw: JsonObject, failures: list[ApiError]) -> list[Condition]:
    if failures:
        return [Condition(type=RECONCILED, status="False", reason="ChildRefused", message=joined(failures[:3]))]
    known = {condition.get("type") for condition in (raw.get("status") or {}).get("conditions") or []}
    if RECONCILED in known:
        return [Condition(type=RECONCILED, status="True", reason="Reconciled", message="All children could be written")]
    return []
