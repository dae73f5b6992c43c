"""ModelServing: observe, plan, apply, write the status. All decisions are in planning and rendering."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from baton.api import labels
from baton.api.meta import Condition
from baton.controllers.children import ChildWriter
from baton.controllers.conditions import accepted, joined, with_conditions, write_status
from baton.controllers.desire import desired_of
from baton.kube.resources import MODEL_SERVINGS
from baton.kube.types import ObjectReference, key_of
from baton.planning.conditions import update_conditions
from baton.planning.history import restore
from baton.planning.model import ChildKind, Desired, Note, NoteReason, Observed, PodGroups, RevisionView
from baton.planning.plan import plan
from baton.planning.podgroups import conditions as gang_conditions
from baton.rendering import template_config_maps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from baton.api.problems import Problem
    from baton.api.serving import ModelServing
    from baton.common.clock import Clock
    from baton.controllers.projection import (
        ChildRecord,
        KindRecord,
        PodGroupRecord,
        PodRecord,
        RevisionRecord,
        TemplateRecord,
    )
    from baton.kube.client import Client
    from baton.kube.errors import ApiError
    from baton.kube.events import EventRecorder
    from baton.kube.optional import OptionalKind
    from baton.kube.store import Store
    from baton.kube.types import JsonObject, Key
    from baton.planning.model import Action
    from baton.rendering import ConfigMaps

RECONCILED = "Reconciled"
"""Condition that is False while a child cannot be created or deleted, with the server's words."""

OWNER = "owner"
"""Index of the child stores: the uid of the ModelServing a child belongs to."""

TEMPLATES = "templates"
"""Index of the ModelServings: namespace and name of the ConfigMaps with templates that they name."""


@dataclass(frozen=True, slots=True)
class ServingStores:
    """The caches a reconcile reads; those of children are indexed by their owner's uid under `OWNER`."""

    servings: Store[KindRecord[ModelServing]]
    pods: Store[PodRecord]
    services: Store[ChildRecord]
    config_maps: Store[ChildRecord]
    templates: Store[TemplateRecord]
    pod_groups: OptionalKind[PodGroupRecord]
    revisions: Store[RevisionRecord]

    def index(self) -> None:
        """Make the indices that observing needs."""
        self.pods.add_index(OWNER, lambda record: (record.view.owner_uid,))
        self.services.add_index(OWNER, lambda record: (record.view.owner_uid,))
        self.config_maps.add_index(OWNER, lambda record: (record.view.owner_uid,))
        self.pod_groups.store.add_index(OWNER, lambda record: (record.view.owner_uid,))
        self.revisions.add_index(OWNER, lambda record: (record.view.owner_uid,))
        self.servings.add_index(TEMPLATES, lambda record: _templates_of(record.value))

    def servings_of_templates(self, record: TemplateRecord) -> Iterable[Key]:
        """Return the ModelServings that a ConfigMap with templates concerns."""
        return [key_of(serving.raw) for serving in self.servings.by_index(TEMPLATES, record.key)]

    def config_maps_of(self, serving: ModelServing | None) -> ConfigMaps:
        """Return the templates that a ModelServing names, as far as they exist."""
        found = [(key[1], self.templates.get(key)) for key in _templates_of(serving)]
        return {name: record.data for name, record in found if record is not None}


def _templates_of(serving: ModelServing | None) -> list[Key]:
    if serving is None:
        return []
    return [(serving.metadata.namespace, name) for name in sorted(template_config_maps(serving))]


@dataclass(slots=True)
class _Memory:
    """What may be forgotten about one ModelServing, identified by uid and generation: its rendering, the last notes.

    The rendering also depends on the users' templates.
    """

    version: tuple[str, int]
    config_maps: ConfigMaps
    desired: Desired | None
    problems: tuple[Problem, ...]
    notes: frozenset[Note] | None = None


class ServingReconciler:
    """Brings one ModelServing a step closer to its spec.

    Keeps only caches that may be dropped: the rendering of the present generation, and the events already told.
    """

    def __init__(
        self,
        *,
        client: Client,
        stores: ServingStores,
        is_routed: Callable[[PodRecord], bool],
        clock: Clock,
        recorder: EventRecorder,
    ) -> None:
        self._client = client
        self._is_pod_routed = is_routed
        self._stores = stores
        self._clock = clock
        self._recorder = recorder
        self._memories: dict[Key, _Memory] = {}
        self._writer = ChildWriter(
            client,
            {
                ChildKind.POD: stores.pods,
                ChildKind.SERVICE: stores.services,
                ChildKind.CONFIG_MAP: stores.config_maps,
                ChildKind.POD_GROUP: stores.pod_groups.store,
                ChildKind.REVISION: stores.revisions,
            },
        )

    async def __call__(self, key: Key) -> float | None:
        """Reconcile one object; return after how many seconds time alone makes a difference."""
        record = self._stores.servings.get(key)
        if record is None:
            if (memory := self._memories.pop(key, None)) is not None:
                self._writer.forget(memory.version[0])
            return None
        if record.is_deleting:
            return None
        memory = self._remember(key, record)
        if record.value is None or memory.desired is None:
            desired = restore(record.raw, self._revisions(record.raw["metadata"]["uid"]))
        else:
            desired = replace(memory.desired, serving=record.value)
        if desired is None:
            await self._refuse(record.raw, memory.problems)
            return None
        return await self._step(record.raw, desired, memory)

    def _remember(self, key: Key, record: KindRecord[ModelServing]) -> _Memory:
        """Check and render the spec once, until it or its templates change; the status moves, and planning reads it."""
        metadata = record.raw["metadata"]
        version = metadata["uid"], metadata["generation"]
        config_maps = self._stores.config_maps_of(record.value)
        known = self._memories.get(key)
        if known is None or (known.version, known.config_maps) != (version, config_maps):
            notes = known.notes if known is not None and known.version[0] == version[0] else None
            found = (None, record.problems) if record.value is None else desired_of(record.value, config_maps)
            known = self._memories[key] = _Memory(version, config_maps, *found, notes=notes)
        return known

    async def _step(self, raw: JsonObject, desired: Desired, memory: _Memory) -> float | None:
        await self._writer.settle(desired.serving.metadata.uid)
        observed = self._observe(desired.serving)
        made = plan(desired, observed)
        failures = await self._carry_out(desired.serving, made.stages)
        self._tell(raw, made.notes, memory)
        conditions = update_conditions(
            made.status.conditions,
            [
                accepted(memory.problems, instead=_instead(desired)),
                *gang_conditions(desired.serving, observed.pod_groups),
                *_outcome(desired.serving, failures),
            ],
            now=self._clock.now(),
            generation=raw["metadata"]["generation"],
        )
        await self._write_status(raw, made.status.model_copy(update={"conditions": conditions}).document())
        if failures:
            raise failures[0]
        return made.requeue_after

    async def _carry_out(self, serving: ModelServing, stages: Sequence[Sequence[Action]]) -> list[ApiError]:
        """Carry out the stages up to one that fails: a later one needs what an earlier one creates."""
        for stage in stages:
            failures = await self._writer.carry_out(serving.metadata.namespace, serving.metadata.uid, stage)
            if failures:
                return failures
        return []

    def _observe(self, serving: ModelServing) -> Observed:
        uid = serving.metadata.uid
        stores = self._stores
        return Observed(
            now=self._clock.now(),
            pods=tuple(sorted((record.view for record in stores.pods.by_index(OWNER, uid)), key=lambda pod: pod.name)),
            services=tuple(record.view for record in stores.services.by_index(OWNER, uid)),
            config_maps=tuple(record.view for record in stores.config_maps.by_index(OWNER, uid)),
            pod_groups=self._observe_pod_groups(uid),
            revisions=self._revisions(uid),
            is_routed=self._is_routed(uid),
        )

    def _observe_pod_groups(self, uid: str) -> PodGroups | None:
        kind = self._stores.pod_groups
        if kind.fields is None:
            return None
        return PodGroups(
            present=tuple(record.view for record in kind.store.by_index(OWNER, uid)),
            has_sub_groups="subGroupPolicy" in kind.fields,
        )

    def _is_routed(self, uid: str) -> bool:
        """Whether a route leads to pods of any role; the pods of one role have the same labels, as far as routes go."""
        roles = {record.view.labels.get(labels.ROLE): record for record in self._stores.pods.by_index(OWNER, uid)}
        return any(self._is_pod_routed(record) for record in roles.values())

    def _revisions(self, uid: str) -> tuple[RevisionView, ...]:
        return tuple(record.view for record in self._stores.revisions.by_index(OWNER, uid))

    async def _refuse(self, raw: JsonObject, problems: Sequence[Problem]) -> None:
        """Say in the status why the spec is not acted upon; pods that run are left as they are."""
        conditions = with_conditions(raw, [accepted(problems)], now=self._clock.now())
        await self._write_status(raw, {"conditions": conditions})

    async def _write_status(self, raw: JsonObject, status: JsonObject) -> None:
        await write_status(self._client, MODEL_SERVINGS, self._stores.servings, raw, status)

    def _tell(self, raw: JsonObject, notes: Sequence[Note], memory: _Memory) -> None:
        """Record what was not so at the last look. At the first one, what runs has done so before we looked."""
        known = memory.notes
        memory.notes = frozenset(notes)
        if known is None:
            known = frozenset(note for note in notes if note.reason is NoteReason.ROLE_RUNNING)
        about = ObjectReference.of(MODEL_SERVINGS, raw)
        for note in notes:
            if note not in known:
                self._recorder.record(about, reason=note.reason, message=note.message)


def _instead(desired: Desired) -> str:
    """Say what runs where the spec itself cannot."""
    return f"what runs is revision {desired.stored.revision}, the last that was accepted" if desired.stored else ""


def _outcome(serving: ModelServing, failures: Sequence[ApiError]) -> list[Condition]:
    """Return Reconciled: False with the server's words, and True again once it has been False."""
    if failures:
        return [Condition(type=RECONCILED, status="False", reason="ChildRefused", message=joined(failures[:3]))]
    if any(condition.type == RECONCILED for condition in serving.status.conditions):
        return [Condition(type=RECONCILED, status="True", reason="Reconciled", message="All children could be written")]
    return []
