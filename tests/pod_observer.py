"""Watches all pods of a namespace for itself, event by event, and keeps what broke a rule at any moment."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from baton.kube.errors import Transient
from baton.kube.resources import PODS
from invariants import doubles, is_leaving, is_ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.kube.client import Client
    from invariants import JsonObject, Pods

_RETRY = 0.5
"""Seconds before a watch that broke is opened again."""

_SHOWN_BREACHES = 10
_SHOWN_EVENTS = 200


class PodObserver:
    """Sees every state that the pods of a namespace go through: a watch leaves out nothing, and starts where it ended.

    `check` gets all pods by name after each event, and returns what is wrong with them. No two live pods for one slot
    is looked at here.
    """

    def __init__(self, client: Client, namespace: str, check: Callable[[Pods], list[str]]) -> None:
        self.pods: Pods = {}
        self.created: list[str] = []
        """Names in order, with repeats."""
        self.broken: list[str] = []
        self.trace: list[str] = []
        """One line an event, for whoever has to understand a failure."""
        self._client = client
        self._namespace = namespace
        self._check = check

    async def run(self) -> None:
        """Observe until cancelled."""
        page = await self._client.list(PODS, self._namespace)
        self.pods = {item["metadata"]["name"]: item for item in page["items"]}
        version = page["metadata"]["resourceVersion"]
        while True:
            try:
                async with aclosing(self._client.watch(PODS, self._namespace, resource_version=version)) as events:
                    async for event in events:
                        assert event["type"] != "ERROR", event["object"]
                        version = event["object"]["metadata"]["resourceVersion"]
                        if event["type"] != "BOOKMARK":
                            self._see(event["type"], event["object"])
            except Transient:
                await asyncio.sleep(_RETRY)

    def report(self) -> str:
        """Return what broke a rule first, and what happened last."""
        return "\n".join([*self.broken[:_SHOWN_BREACHES], "last events:", *self.trace[-_SHOWN_EVENTS:]])

    def _see(self, kind: str, pod: JsonObject) -> None:
        name = pod["metadata"]["name"]
        if kind == "ADDED":
            self.created.append(name)
        if kind == "DELETED":
            self.pods.pop(name, None)
        else:
            self.pods[name] = pod
        state = "leaving" if is_leaving(pod) else "ready" if is_ready(pod) else "not ready"
        self.trace.append(f"{pod['metadata']['resourceVersion']} {kind} {name} {state}")
        for breach in (*doubles(self.pods.values()), *self._check(self.pods)):
            self.broken.append(f"{self.trace[-1]}: {breach}")
