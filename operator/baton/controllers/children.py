"""Carries out planned actions against the API server, a bounded number at a time. Decides nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from baton.controllers.projection import child_record
from baton.kube.errors import NOT_SENT, AlreadyExists, ApiError, Conflict, Invalid, NotFound, Transient
from baton.kube.resources import CONFIG_MAPS, CONTROLLER_REVISIONS, POD_GROUPS, PODS, SERVICES
from baton.planning.model import Action, ChildKind, Create, Delete, Update

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from baton.kube.client import Client
    from baton.kube.store import Store

_RESOURCES = {
    ChildKind.POD: PODS,
    ChildKind.SERVICE: SERVICES,
    ChildKind.CONFIG_MAP: CONFIG_MAPS,
    ChildKind.POD_GROUP: POD_GROUPS,
    ChildKind.REVISION: CONTROLLER_REVISIONS,
}
_AT_ONCE = 64
"""Calls in flight for one object; beyond that the server's own flow control would only queue them."""
_MOST_FAILURES = 64
"""Failures after which a stage is given up: so many have one cause, such as a quota, and the others share it."""


class ChildWriter:
    """Creates, changes and deletes children, and shows its own writes to the stores at once.

    Without that a second plan could be made from a cache that has not heard of the first one's deletes, and choose
    other victims. A delete whose answer was lost is looked at before the next plan, see `settle`.
    """

    def __init__(self, client: Client, stores: Mapping[ChildKind, Store[Any]]) -> None:
        self._client = client
        self._stores = stores
        self._doubts: dict[str, dict[str, tuple[str, Delete]]] = {}  # by the owner's uid, then by the child's

    async def settle(self, owner_uid: str) -> None:
        """Show the stores what became of deletes without an answer. To be called before a plan; raises ApiError."""
        for namespace, action in list(self._doubts.get(owner_uid, {}).values()):
            try:
                event, found = "MODIFIED", await self._client.get(_RESOURCES[action.kind], namespace, action.name)
            except NotFound:
                gone = {"namespace": namespace, "name": action.name, "uid": action.uid, "resourceVersion": ""}
                event, found = "DELETED", {"metadata": gone}
            self._stores[action.kind].offer(event, found)
            del self._doubts[owner_uid][action.uid]
        self._doubts.pop(owner_uid, None)

    def forget(self, owner_uid: str) -> None:
        """Keep nothing of an owner that is gone."""
        self._doubts.pop(owner_uid, None)

    async def carry_out(self, namespace: str, owner_uid: str, actions: Sequence[Action]) -> list[ApiError]:
        """Carry out one stage; return what failed. A failure does not stop the other actions, very many do."""
        waiting = iter(actions)
        failures: list[ApiError] = []

        async def work() -> None:
            for action in waiting:
                try:
                    await self._act(namespace, owner_uid, action)
                except ApiError as error:
                    failures.append(error)
                if len(failures) >= _MOST_FAILURES:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in actions[:_AT_ONCE]:
                group.create_task(work())
        return failures

    async def _act(self, namespace: str, owner_uid: str, action: Action) -> None:
        match action:
            case Create():
                await self._create(namespace, owner_uid, action)
            case Update():
                await self._update(namespace, action)
            case Delete():
                await self._delete(namespace, owner_uid, action)

    async def _create(self, namespace: str, owner_uid: str, action: Create) -> None:
        resource = _RESOURCES[action.kind]
        try:
            found = await self._client.create(resource, action.object)
        except AlreadyExists:
            found = await self._client.get(resource, namespace, action.name)
            if child_record(found).view.owner_uid != owner_uid:
                raise name_taken(action.kind, action.name) from None
        self._stores[action.kind].offer("ADDED", found)

    async def _update(self, namespace: str, action: Update) -> None:
        """Merge a patch; the uid in it makes the server refuse the successor of what was looked at."""
        patch = {**action.patch, "metadata": {**action.patch.get("metadata", {}), "uid": action.uid}}
        try:
            found = await self._client.patch(_RESOURCES[action.kind], namespace, action.name, patch)
        except (NotFound, Conflict):
            return  # gone, or replaced by its successor
        except Invalid as error:
            if "metadata.uid" in str(error):
                return  # replaced by its successor, in the words of a merge patch
            raise
        self._stores[action.kind].offer("MODIFIED", found)

    async def _delete(self, namespace: str, owner_uid: str, action: Delete) -> None:
        try:
            answer = await self._client.delete(_RESOURCES[action.kind], namespace, action.name, uid=action.uid)
        except (NotFound, Conflict):
            return  # gone, or replaced by its successor: what was decided to go is no longer there
        except Transient as error:
            if error.reason != NOT_SENT:
                self._doubts.setdefault(owner_uid, {})[action.uid] = namespace, action
            raise
        leaving = answer.get("metadata", {}).get("deletionTimestamp")
        if answer.get("kind") == action.kind and leaving:
            self._stores[action.kind].offer("MODIFIED", answer)


def name_taken(kind: str, name: str) -> Conflict:
    """Return the error of a child whose name an object that we did not make has."""
    message = f"{kind} {name} exists and belongs to somebody else; delete it, or use another name for this object"
    return Conflict(409, "NameTaken", message)
