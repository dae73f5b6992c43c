"""Mirrors a kind that the cluster may or may not have, and follows its CRD as it comes and goes.

Needs to list and watch that one CRD and the kind. What it may not look at counts as absent.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Generic, TypeVar

from baton.kube.errors import ApiError, Forbidden, NotFound
from baton.kube.reflector import Reflector
from baton.kube.resources import CUSTOM_RESOURCE_DEFINITIONS
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.kube.reflector import ListWatcher
    from baton.kube.store import Changed, Store
    from baton.kube.types import JsonObject, Resource

T = TypeVar("T")

_logger = logging.getLogger(__name__)

_NOT_ALLOWED = 300.0
"""Seconds until the next look at what RBAC forbids."""
_NOT_SERVED = 0.5
"""Seconds until the next look at a kind that the server announces and does not serve yet."""


class OptionalKind(Generic[T]):
    """The objects of a kind while the cluster has it; without it, none.

    It may stand wherever a Reflector is a source of events. `project` is that of baton.kube.store.Store.
    """

    def __init__(self, client: ListWatcher, resource: Resource, *, project: Callable[[JsonObject], T]) -> None:
        self.name = resource.plural
        self.fields: frozenset[str] | None = None
        """Fields of `spec` that the installed version has; None while there is no such kind, or it is not listed."""
        self._client = client
        self._resource = resource
        self._selector = f"metadata.name={resource.plural}.{resource.group}"
        self._objects = Reflector(client, resource, project=project)
        self._definitions = Reflector(
            client,
            CUSTOM_RESOURCE_DEFINITIONS,
            project=lambda found: spec_fields(found, resource.version),
            field_selector=self._selector,
            name=f"{resource.plural}-crd",
        )
        self._redefined = asyncio.Event()
        self._definitions.subscribe(lambda _old, _new: self._redefined.set())
        self._hears: list[Callable[[], None]] = []

    @property
    def store(self) -> Store[T]:
        """The objects. It stays the same one however often the kind comes and goes."""
        return self._objects.store

    @property
    def synced(self) -> asyncio.Event:
        """Set once it is known whether the kind exists, and if so, all its objects are."""
        return self.store.synced

    def subscribe(self, changed: Changed[T]) -> None:
        """Call `changed` for every object that is there, and for every change from now on."""
        self.store.subscribe(changed)

    def unsubscribe(self, changed: Changed[T]) -> None:
        """Call `changed`, which was subscribed, no more."""
        self.store.unsubscribe(changed)

    def on_definition(self, hear: Callable[[], None]) -> None:
        """Call `hear` whenever `fields` has changed. It must not raise."""
        self._hears.append(hear)

    def off_definition(self, hear: Callable[[], None]) -> None:
        """Call `hear`, which `on_definition` was given, no more."""
        self._hears.remove(hear)

    async def run(self) -> None:
        """Follow for ever; cancel it to stop."""
        await self._wait_for(CUSTOM_RESOURCE_DEFINITIONS, field_selector=self._selector)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._definitions.run(), name=f"reflector-{self._definitions.name}")
            group.create_task(self._follow(), name=f"optional-{self.name}")

    async def _wait_for(self, resource: Resource, *, field_selector: str | None = None) -> None:
        """Wait until the server answers a list: a reflector would complain of what is to be expected here."""
        while True:
            try:
                async with aclosing(self._client.list_pages(resource, field_selector=field_selector, limit=1)) as pages:
                    await anext(pages)
            except Forbidden as error:
                event(_logger, logging.INFO, "may not look, so it counts as absent", kind=self.name, error=error)
                self.synced.set()
                await asyncio.sleep(_NOT_ALLOWED)
            except NotFound:
                await asyncio.sleep(_NOT_SERVED)
            except ApiError:
                return  # the reflector meets it too, tells it and tries again
            else:
                return

    async def _follow(self) -> None:
        await self._definitions.synced.wait()
        while True:
            if self._defined() is None:
                self.synced.set()
            else:
                async with asyncio.TaskGroup() as group:
                    mirror = group.create_task(self._mirror(), name=f"mirror-{self.name}")
                    await self._until_gone()
                    mirror.cancel()
                self._set_fields(None)
                self.store.keep_only(())
            await self._redefinition()

    async def _mirror(self) -> None:
        await self._wait_for(self._resource)
        self.synced.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._objects.run(), name=f"reflector-{self.name}")
            await self.synced.wait()
            self._set_fields(self._defined())

    async def _until_gone(self) -> None:
        while (fields := self._defined()) is not None:
            if self.fields is not None:
                self._set_fields(fields)
            await self._redefinition()

    async def _redefinition(self) -> None:
        await self._redefined.wait()
        self._redefined.clear()

    def _defined(self) -> frozenset[str] | None:
        return next(iter(self._definitions.store.values()), None)

    def _set_fields(self, fields: frozenset[str] | None) -> None:
        if fields == self.fields:
            return
        if (fields is None) != (self.fields is None):
            event(_logger, logging.INFO, "optional kind", kind=self.name, present=fields is not None)
        self.fields = fields
        for hear in self._hears:
            hear()


def spec_fields(definition: JsonObject, version: str) -> frozenset[str] | None:
    """Return the fields of `spec` in a version that a CRD serves, None if it does not or is on its way out."""
    conditions = (definition.get("status") or {}).get("conditions") or []
    is_established = any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)
    if not is_established or "deletionTimestamp" in definition["metadata"]:
        return None
    for entry in definition["spec"]["versions"]:
        if entry["name"] == version and entry["served"]:
            properties = ((entry.get("schema") or {}).get("openAPIV3Schema") or {}).get("properties") or {}
            return frozenset((properties.get("spec") or {}).get("properties") or {})
    return None
