"""Reads a cluster once, without caches: what `baton plan` and `baton status` look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from baton.api import labels
from baton.controllers.projection import child_record, pod_group_record, pod_record, revision_record
from baton.kube.errors import Forbidden, NotFound
from baton.kube.optional import spec_fields
from baton.kube.resources import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    CUSTOM_RESOURCE_DEFINITIONS,
    MODEL_SERVINGS,
    NODES,
    POD_GROUPS,
    PODS,
    SERVICES,
)
from baton.planning.model import Observed, PodGroups

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from baton.kube.client import Client
    from baton.kube.types import JsonObject, Resource
    from baton.planning.model import PodView


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A ModelServing as it is in the cluster (None: not there), its children, and the data of its launch ConfigMaps."""

    serving: JsonObject | None
    observed: Observed
    launches: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Room:
    """All nodes, and of all pods what bears on capacity, as documents."""

    nodes: tuple[JsonObject, ...]
    pods: tuple[JsonObject, ...]


async def read_snapshot(client: Client, namespace: str, name: str, *, now: datetime) -> Snapshot:
    """Read a ModelServing and everything that carries its name."""
    try:
        serving: JsonObject | None = await client.get(MODEL_SERVINGS, namespace, name)
    except NotFound:
        serving = None
    selector = f"{labels.NAME}={name}"
    services = [child_record(item).view for item in await _items(client, SERVICES, namespace, selector)]
    revisions = await _items(client, CONTROLLER_REVISIONS, namespace, selector)
    files = await _items(client, CONFIG_MAPS, namespace, f"{selector},{labels.LAUNCH}")
    return Snapshot(
        serving,
        Observed(
            now=now,
            pods=tuple(await read_pods(client, namespace, selector)),
            services=tuple(services),
            config_maps=tuple(child_record(item).view for item in files),
            pod_groups=await _read_pod_groups(client, namespace, selector),
            revisions=tuple(revision_record(item).view for item in revisions),
        ),
        launches={item["metadata"]["name"]: item.get("data") or {} for item in files},
    )


async def _read_pod_groups(client: Client, namespace: str, selector: str) -> PodGroups | None:
    """Read the PodGroups; None where there is no such kind, or we may not look."""
    try:
        name = f"{POD_GROUPS.plural}.{POD_GROUPS.group}"
        fields = spec_fields(await client.get(CUSTOM_RESOURCE_DEFINITIONS, None, name), POD_GROUPS.version)
        if fields is None:
            return None
        found = await _items(client, POD_GROUPS, namespace, selector)
    except (Forbidden, NotFound):
        return None
    return PodGroups(tuple(pod_group_record(item).view for item in found), "subGroupPolicy" in fields)


async def read_pods(client: Client, namespace: str | None, selector: str) -> list[PodView]:
    """Read the pods a selector matches, sorted by name."""
    views = [pod_record(item).view for item in await _items(client, PODS, namespace, selector)]
    return sorted(views, key=lambda pod: (pod.namespace, pod.name))


async def read_templates(client: Client, namespace: str, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Read the ConfigMaps of these names that have the label of templates; others are left out."""
    found: dict[str, dict[str, str]] = {}
    for name in sorted(names):
        try:
            document = await client.get(CONFIG_MAPS, namespace, name)
        except NotFound:
            continue
        if labels.TEMPLATES in (document["metadata"].get("labels") or {}):
            found[name] = document.get("data") or {}
    return found


async def read_room(client: Client) -> Room:
    """Read the nodes and what the pods of all namespaces take of them. Raises Forbidden to whom that is not allowed."""
    nodes = await _items(client, NODES, None, None)
    pages = client.list_pages(PODS)
    return Room(tuple(nodes), tuple([_taking(item) async for page in pages for item in page["items"]]))


def _taking(pod: JsonObject) -> JsonObject:
    """Return what a pod takes of its node; whole pods of a large cluster are gigabytes."""
    spec, metadata = pod.get("spec") or {}, pod["metadata"]
    containers = [
        {key: container[key] for key in ("resources", "ports") if key in container}
        for container in spec.get("containers") or []
    ]
    kept = {key: spec[key] for key in ("nodeName", "hostNetwork", "nodeSelector", "tolerations") if key in spec}
    return {
        "metadata": {key: metadata[key] for key in ("name", "uid", "deletionTimestamp") if key in metadata},
        "spec": kept | {"containers": containers},
        "status": {"phase": (pod.get("status") or {}).get("phase")},
    }


async def _items(client: Client, resource: Resource, namespace: str | None, selector: str | None) -> list[JsonObject]:
    pages = client.list_pages(resource, namespace, label_selector=selector)
    return [item async for page in pages for item in page["items"]]
