"""Lists our own kinds at the start and now and then: kopf never reports what vanished while it was listing itself."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from baton.kube.errors import ApiError
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from baton.kube.client import Client
    from baton.kube.store import Store
    from baton.kube.types import JsonObject, Resource

_logger = logging.getLogger(__name__)

_PERIOD = 600.0
"""Seconds between two lists."""
_SPREAD = 0.2
"""The period varies by this share, so that the kinds do not list at once for ever."""
_FIRST_RETRY = 1.0
"""Seconds until the next try while the first list has not succeeded; 15 times that afterwards."""


class Listing:
    """Keeps one store complete, whatever its watch missed."""

    def __init__(
        self, client: Client, resource: Resource, store: Store[JsonObject], *, random: Callable[[], float]
    ) -> None:
        self._client = client
        self._resource = resource
        self._store = store
        self._random = random

    async def run(self) -> None:
        """List for ever; the first success marks the store as synced."""
        while True:
            try:
                await self._list()
            except ApiError as error:
                event(_logger, logging.WARNING, "cannot list", kind=self._resource.plural, error=error)
                await asyncio.sleep(_FIRST_RETRY if not self._store.synced.is_set() else 15 * _FIRST_RETRY)
                continue
            self._store.synced.set()
            await asyncio.sleep(_PERIOD * (1 + _SPREAD * (2 * self._random() - 1)))

    async def _list(self) -> None:
        listed = set()
        version: str | None = None
        async for page in self._client.list_pages(self._resource):
            version = page["metadata"]["resourceVersion"]
            for item in page["items"]:
                item.setdefault("apiVersion", self._resource.api_version)
                item.setdefault("kind", self._resource.kind)
                listed.add(self._store.offer(None, item))
        self._store.keep_only(listed, at=version)


def listings(
    client: Client, stores: Mapping[Resource, Store[JsonObject]], *, random: Callable[[], float]
) -> list[Listing]:
    """Return a listing for each kind."""
    return [Listing(client, resource, store, random=random) for resource, store in stores.items()]
