"""Carries out planned actions against the API server, a bounded number at a time. Decides nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from baton.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from baton.kube.resources import CONFIG_MAPS, PODS, SERVICES
from baton.planning.model import Action, ChildKind, Create, Delete

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from baton.kube.client import Client
    from baton.kube.store import Store
    from baton.kube.types import JsonObject

_RESOURCES = {ChildKind.POD: PODS, ChildKind.SERVICE: SERVICES, ChildKind.CONFIG_MAP: CONFIG_MAPS}
_AT_ONCE = 64
"""Calls in flight for one object; beyond that the server's own flow control would only queue them."""


class ChildWriter:
    """Creates and deletes children, and shows its own writes to the stores at once.

    Without that a second plan could be made from a cache that has not heard of the first one's deletes, and choose
    other victims.
    """

    def __init__(self, client: Client, stores: Mapping[ChildKind, Store[Any]]) -> None:
        self._client = client
        self._stores = stores

    async def carry_out(self, namespace: str, owner_uid: str, actions: Iterable[Action]) -> list[ApiError]:
        """Carry out one stage; return what failed. A failure does not stop the other actions of the stage."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(action: Action) -> ApiError | None:
            async with gate:
                try:
                    await self._act(namespace, owner_uid, action)
                except ApiError as error:
                    return error
            return None

        results = await asyncio.gather(*(one(action) for action in actions))
        return [error for error in results if error is not None]

    async def _act(self, namespace: str, owner_uid: str, action: Action) -> None:
        match action:
            case Create():
                await self._create(namespace, owner_uid, action)
            case Delete():
                await self._delete(namespace, action)

    async def _create(self, namespace: str, owner_uid: str, action: Create) -> None:
        resource = _RESOURCES[action.kind]
        try:
            created = await self._client.create(resource, action.object)
        except AlreadyExists:
            created = await self._client.get(resource, namespace, action.name)
            if not _belongs_to(created, owner_uid):
                message = f"{action.kind} {action.name} exists and belongs to somebody else; delete or rename it"
                raise Conflict(409, "NameTaken", message) from None
        self._stores[action.kind].offer("ADDED", created)

    async def _delete(self, namespace: str, action: Delete) -> None:
        try:
            answer = await self._client.delete(_RESOURCES[action.kind], namespace, action.name, uid=action.uid)
        except (NotFound, Conflict):
            return  # gone, or replaced by its successor: what was decided to go is no longer there
        leaving = answer.get("metadata", {}).get("deletionTimestamp")
        if answer.get("kind") == action.kind and leaving:
            self._stores[action.kind].offer("MODIFIED", answer)


def _belongs_to(found: JsonObject, owner_uid: str) -> bool:
    return any(reference.get("uid") == owner_uid for reference in found["metadata"].get("ownerReferences") or [])
