"""Lists our own kinds at the start and now and then: kopf never reports what vanished while it was listing itself."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from baton.kube.errors import ApiError, NotFound
from baton.kube.store import is_newer
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from baton.kube.reflector import ListWatcher
    from baton.kube.store import Store
    from baton.kube.types import Resource

_logger = logging.getLogger(__name__)

_PERIOD = 600.0
"""Seconds between two lists."""
_SPREAD = 0.2
"""The period varies by this share, so that the kinds do not list at once for ever."""
_RETRY = 15.0
"""Seconds until the next try after a failure."""
_FIRST_RETRY = 1.0
"""The same while there was no success yet: nothing is reconciled before."""


class Listing:
    """Keeps one store complete, whatever its watch missed."""

    def __init__(
        self, client: ListWatcher, resource: Resource, store: Store[Any], *, random: Callable[[], float]
    ) -> None:
        self._client = client
        self._resource = resource
        self._store = store
        self._random = random
        self._newest = ""
        self._told = ""

    async def run(self) -> None:
        """List for ever; the first success marks the store as synced."""
        while True:
            try:
                await self._list()
            except ApiError as error:
                self._complain(error)
                await asyncio.sleep(_RETRY if self._store.synced.is_set() else _FIRST_RETRY)
                continue
            self._told = ""
            self._store.synced.set()
            await asyncio.sleep(_PERIOD * (1 + _SPREAD * (2 * self._random() - 1)))

    async def _list(self) -> None:
        listed = set()
        version = ""
        async for page in self._client.list_pages(self._resource):
            version = page["metadata"]["resourceVersion"]
            if is_newer(self._newest, version):
                self._store.forget_versions()  # the server's database was restored
            self._newest = version
            for item in page["items"]:
                item.setdefault("apiVersion", self._resource.api_version)
                item.setdefault("kind", self._resource.kind)
                listed.add(self._store.offer(None, item))
        self._store.keep_only(listed, at=version)

    def _complain(self, error: ApiError) -> None:
        """Log a failure once, however often it comes."""
        text = (
            f"{error}; install the CRDs: baton crds | kubectl apply -f -" if isinstance(error, NotFound) else str(error)
        )
        level = logging.DEBUG if text == self._told else logging.WARNING
        self._told = text
        event(_logger, level, "cannot list, trying again", kind=self._resource.plural, error=text)


def listings(
    client: ListWatcher, stores: Mapping[Resource, Store[Any]], *, random: Callable[[], float]
) -> list[Listing]:
    """Return a listing for each kind."""
    return [Listing(client, resource, store, random=random) for resource, store in stores.items()]
