"""`baton plan FILE`: what the operator would do if the file were applied now. Changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from baton.api.documents import DocumentError, read_documents
from baton.api.serving import ModelServing
from baton.cli.cluster import cluster_options, in_cluster
from baton.controllers.desire import desired_of
from baton.controllers.snapshot import read_snapshot
from baton.kube.clock import SystemClock
from baton.planning.model import Create
from baton.planning.plan import is_deleting
from baton.planning.plan import plan as plan_step

if TYPE_CHECKING:
    from baton.controllers.snapshot import Snapshot
    from baton.kube.client import Client
    from baton.kube.types import JsonObject
    from baton.planning.model import Action


@click.command
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@cluster_options
def plan(*, file: Path, kubeconfig: str | None, context: str | None, namespace: str) -> None:
    """Show what applying FILE would create and delete in the cluster, step by step as far as one look can tell."""
    servings = _read(file, namespace)

    async def work(client: Client) -> list[Snapshot]:
        now = SystemClock().now()
        return [
            await read_snapshot(client, serving.metadata.namespace, serving.metadata.name, now=now)
            for serving in servings
        ]

    refused = False
    for serving, snapshot in zip(servings, in_cluster(kubeconfig, context, work), strict=True):
        refused |= not _show(serving, snapshot)
    if refused:
        raise click.exceptions.Exit(1)


def _read(file: Path, namespace: str) -> list[ModelServing]:
    try:
        objects = read_documents(file.read_text(encoding="utf-8"), strict=True)
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"cannot read {file}: {error}") from error
    except DocumentError as error:
        raise click.ClickException(f"{file} cannot be used\n{error}") from error
    servings = [_placed(item, namespace) for item in objects if isinstance(item, ModelServing)]
    if not servings:
        raise click.ClickException(f"there is no ModelServing in {file}")
    return servings


def _placed(serving: ModelServing, namespace: str) -> ModelServing:
    """Put a ModelServing that names no namespace into this one."""
    if "namespace" in serving.metadata.model_fields_set:
        return serving
    return serving.model_copy(update={"metadata": serving.metadata.model_copy(update={"namespace": namespace})})


def _show(wanted: ModelServing, snapshot: Snapshot) -> bool:
    serving = _as_stored(wanted, snapshot.serving)
    desired, problems = desired_of(serving)
    click.echo(f"ModelServing {serving.metadata.namespace}/{serving.metadata.name}")
    for problem in problems:
        click.echo(f"  {problem.severity}: {problem}")
    if desired is None:
        return False
    if is_deleting(serving):
        click.echo("  is being deleted; apply it again once it is gone")
        return True
    made = plan_step(desired, snapshot.observed)
    for action in made.actions:
        click.echo(f"  {_described(action)}")
    if not made.actions:
        click.echo("  nothing to do")
    return True


def _as_stored(wanted: ModelServing, stored: JsonObject | None) -> ModelServing:
    """Return the ModelServing as it would be after `kubectl apply`: the new spec on the present object."""
    if stored is None:
        return wanted
    present = {"metadata": stored["metadata"], "status": stored.get("status") or {}, "spec": wanted.document()["spec"]}
    return ModelServing.read(present)


def _described(action: Action) -> str:
    if isinstance(action, Create):
        return f"create {action.kind} {action.name}"
    return f"delete {action.kind} {action.name}: {action.reason}"
