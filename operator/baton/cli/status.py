"""`baton status`: ModelServings with their pods by role, and ModelRoutes with what became of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from baton.api import labels
from baton.cli.cluster import cluster_options, in_cluster
from baton.controllers.snapshot import read_pods
from baton.kube.resources import MODEL_ROUTES, MODEL_SERVINGS
from baton.planning.status import PROGRESSING, UPDATE_IN_PROGRESS

if TYPE_CHECKING:
    from baton.kube.client import Client
    from baton.kube.types import JsonObject
    from baton.planning.model import PodView

_STAGES = frozenset({PROGRESSING, UPDATE_IN_PROGRESS})


@click.command
@cluster_options
@click.option("-A", "--all-namespaces", is_flag=True, help="Look into all namespaces.")
@click.option("--pods", "show_pods", is_flag=True, help="List every pod.")
def status(
    *, kubeconfig: str | None, context: str | None, namespace: str | None, all_namespaces: bool, show_pods: bool
) -> None:
    """Show how ModelServings and ModelRoutes are."""

    async def work(client: Client) -> list[str]:
        where = None if all_namespaces else namespace or client.namespace
        servings = (await client.list(MODEL_SERVINGS, where))["items"]
        routes = (await client.list(MODEL_ROUTES, where))["items"]
        pods = await read_pods(client, where, labels.NAME)
        lines = [*_servings(servings, pods, show_pods=show_pods), *_routes(routes)]
        return lines or [f"no ModelServing or ModelRoute in {where or 'any namespace'}"]

    click.echo("\n".join(in_cluster(kubeconfig, context, work)))


def _servings(servings: list[JsonObject], pods: list[PodView], *, show_pods: bool) -> list[str]:
    lines: list[str] = []
    for serving in servings:
        metadata, found = serving["metadata"], serving.get("status") or {}
        own = [pod for pod in pods if pod.owner_uid == metadata["uid"]]
        lines.append(
            f"ModelServing {metadata['namespace']}/{metadata['name']}: "
            f"{found.get('availableReplicas', 0)} of {serving['spec'].get('replicas', 1)} groups available"
        )
        lines += _conditions(found)
        lines += [f"  {text}" for text in _roles(own)]
        if show_pods:
            lines += [f"    {pod.name}  {_state(pod)}" for pod in own]
    return lines


def _roles(pods: list[PodView]) -> list[str]:
    total = Counter(pod.labels.get(labels.ROLE, "") for pod in pods)
    ready = Counter(pod.labels.get(labels.ROLE, "") for pod in pods if pod.ready)
    return [f"role {role}: {ready[role]} of {total[role]} pods ready" for role in sorted(total)]


def _state(pod: PodView) -> str:
    if pod.deleting:
        return "Terminating"
    return "Ready" if pod.ready else f"{pod.phase} {pod.problem}".rstrip()


def _routes(routes: list[JsonObject]) -> list[str]:
    lines: list[str] = []
    for route in routes:
        metadata, spec = route["metadata"], route["spec"]
        names = [spec["modelName"]] if spec.get("modelName") else spec.get("loraAdapters", [])
        lines.append(f"ModelRoute {metadata['namespace']}/{metadata['name']}: model {', '.join(names)}")
        lines += _conditions(route.get("status") or {})
    return lines


def _conditions(found: JsonObject) -> list[str]:
    """Return all conditions but those of a change that is over."""
    return [
        f"  {condition['type']}={condition['status']} {condition.get('reason', '')}: {condition.get('message', '')}"
        for condition in found.get("conditions") or []
        if condition["status"] == "True" or condition["type"] not in _STAGES
    ]
