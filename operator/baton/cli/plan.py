"""`baton plan FILE`: what the operator would do if the file were applied now. Changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from baton.cli.cluster import cluster_options, in_cluster
from baton.cli.manifest import read_manifest
from baton.cli.preview import preview_of, shortages_of, stored_serving
from baton.controllers.snapshot import read_room, read_snapshot, read_templates
from baton.kube.clock import SystemClock
from baton.kube.errors import Forbidden
from baton.planning.model import Create, Delete
from baton.planning.plan import is_deleting
from baton.rendering import template_config_maps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from baton.api.serving import ModelServing
    from baton.cli.manifest import Manifest
    from baton.cli.preview import Preview, RoleChange
    from baton.controllers.snapshot import Room
    from baton.kube.client import Client
    from baton.planning.capacity import Shortage
    from baton.planning.forecast import Forecast
    from baton.planning.model import Action

_REFUSED = 1
_SHORT = 3
_EXIT_STATUS = (
    "Exit status: 0 if it can be done, also when there is nothing to do; 1 if it is refused, or file or cluster cannot "
    "be read; 2 for wrong usage; 3 if it can be done, but a pod finds no node."
)


@click.command(epilog=_EXIT_STATUS)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@cluster_options
def plan(*, file: Path, output: str, kubeconfig: str | None, context: str | None, namespace: str | None) -> None:
    """Show what applying FILE would do in the cluster: which pods restart, start and stop, why, and what differs.

    FILE is YAML; - is standard input. Templates come from its ConfigMaps, else from those of the cluster. All of a
    roll-out is shown, on the assumption that every pod becomes ready, and first what would be done at once.
    """
    manifest = read_manifest(file)

    async def work(client: Client) -> tuple[list[Preview], Room | Forbidden]:
        placed = manifest.placed(namespace or client.namespace)
        previews = [await _preview(client, placed, serving) for serving in placed.servings]
        try:
            return previews, await read_room(client)
        except Forbidden as error:
            return previews, error

    previews, room = in_cluster(kubeconfig, context, work)
    shortages = None if isinstance(room, Forbidden) else shortages_of(previews, room)
    unknown = str(room) if isinstance(room, Forbidden) else ""
    if output == "json":
        click.echo(json.dumps(_document(previews, shortages, unknown), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join([*_lines(previews), *_capacity(shortages, unknown)]))
    if any(preview.is_refused for preview in previews):
        raise click.exceptions.Exit(_REFUSED)
    if shortages:
        raise click.exceptions.Exit(_SHORT)


async def _preview(client: Client, manifest: Manifest, serving: ModelServing) -> Preview:
    namespace = serving.metadata.namespace
    snapshot = await read_snapshot(client, namespace, serving.metadata.name, now=SystemClock().now())
    stored = stored_serving(snapshot.serving)
    names = template_config_maps(serving) | (template_config_maps(stored) if stored else frozenset())
    old = await read_templates(client, namespace, names)
    return preview_of(serving, snapshot, old=old, new={**old, **manifest.config_maps_of(serving)})


def _document(previews: Sequence[Preview], shortages: Sequence[Shortage] | None, unknown: str) -> dict[str, object]:
    found = [{"pod": shortage.pod, "reason": shortage.reason} for shortage in shortages or ()]
    capacity = {"checked": shortages is not None, "problem": unknown, "shortages": found}
    return {"servings": [preview.document() for preview in previews], "capacity": capacity}


def _capacity(shortages: Sequence[Shortage] | None, unknown: str) -> Iterator[str]:
    if shortages is None:
        yield f"Capacity was not checked, which needs to list nodes and all pods: {unknown}"
    elif shortages:
        yield "Capacity: these pods find no node"
        yield from (f"  {shortage.pod}: {shortage.reason}" for shortage in shortages)
    else:
        yield "Capacity: every pod finds a node (devices, host ports, labels and taints)"


def _lines(previews: Sequence[Preview]) -> Iterator[str]:
    for preview in previews:
        yield f"ModelServing {preview.serving.metadata.namespace}/{preview.serving.metadata.name}"
        for problem in preview.problems:
            yield f"  {problem.severity}: {problem}"
        if is_deleting(preview.serving):
            yield "  is being deleted; apply it again once it is gone"
        elif preview.forecast is not None:
            yield from (f"  {line}" for line in _story(preview, preview.forecast))


def _story(preview: Preview, forecast: Forecast) -> Iterator[str]:
    for change in preview.changes:
        yield from _change(change)
    if not forecast.steps:
        yield "nothing to do"
        return
    yield _summary(forecast)
    if len(forecast.steps) > 1:
        yield from (f"  restart {name}: {action.reason}" for name, action in forecast.restarts.items())
        yield from (f"  stop {name}: {action.reason}" for name, action in forecast.stops.items())
        yield from (f"  start {name}" for name in forecast.starts)
        yield "of this at once:"
    for stage in forecast.steps[0]:
        yield from (f"  {_described(action)}" for action in stage)


def _change(change: RoleChange) -> Iterator[str]:
    left = f"; pods that keep the old one: {change.left}" if change.left else ""
    if change.is_outdated:
        yield f"role {change.role}: its template changed{left}"
    else:
        yield f"role {change.role}: nothing restarts for this, but pods that start later differ"
    if not change.differences:
        yield "  what changed cannot be seen in the launch, nor in the pod as it was applied last"
    for name, lines in change.differences.items():
        yield f"  {name}"
        yield from (f"    {line}" for line in lines)


def _summary(forecast: Forecast) -> str:
    kinds = {"restart": forecast.restarts, "stop": forecast.stops, "start": forecast.starts, "stay": forecast.stays}
    counts = ", ".join(f"{len(pods)} {what}" for what, pods in kinds.items())
    most = f"; at most {forecast.most_at_once} are stopped at once" if forecast.most_at_once else ""
    endless = "" if forecast.is_complete else "; this does not come to rest"
    return f"pods: {counts}{most}{endless}"


def _described(action: Action) -> str:
    if isinstance(action, Create):
        return f"create {action.kind} {action.name}"
    return f"{'delete' if isinstance(action, Delete) else 'change'} {action.kind} {action.name}: {action.reason}"
