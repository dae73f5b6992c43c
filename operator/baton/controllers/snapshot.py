"""Reads one ModelServing and its children once, without caches: what `baton plan` and `baton status` look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.api import labels
from baton.controllers.projection import child_record, pod_record
from baton.kube.errors import NotFound
from baton.kube.resources import CONFIG_MAPS, MODEL_SERVINGS, PODS, SERVICES
from baton.planning.model import Observed

if TYPE_CHECKING:
    from datetime import datetime

    from baton.kube.client import Client
    from baton.kube.types import JsonObject, Resource
    from baton.planning.model import PodView


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A ModelServing as it is in the cluster (None: not there) and its children."""

    serving: JsonObject | None
    observed: Observed


async def read_snapshot(client: Client, namespace: str, name: str, *, now: datetime) -> Snapshot:
    """Read a ModelServing and everything that carries its name."""
    try:
        serving: JsonObject | None = await client.get(MODEL_SERVINGS, namespace, name)
    except NotFound:
        serving = None
    selector = f"{labels.NAME}={name}"
    services = [child_record(item).view for item in await _items(client, SERVICES, namespace, selector)]
    files = await _items(client, CONFIG_MAPS, namespace, f"{selector},{labels.LAUNCH}")
    return Snapshot(
        serving,
        Observed(
            now=now,
            pods=tuple(await read_pods(client, namespace, selector)),
            services=tuple(services),
            config_maps=tuple(child_record(item).view for item in files),
        ),
    )


async def read_pods(client: Client, namespace: str | None, selector: str) -> list[PodView]:
    """Read the pods a selector matches, sorted by name."""
    views = [pod_record(item).view for item in await _items(client, PODS, namespace, selector)]
    return sorted(views, key=lambda pod: (pod.namespace, pod.name))


async def _items(client: Client, resource: Resource, namespace: str | None, selector: str) -> list[JsonObject]:
    pages = client.list_pages(resource, namespace, label_selector=selector)
    return [item async for page in pages for item in page["items"]]
