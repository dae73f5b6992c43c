"""`baton render`: print what typed engines become, without a cluster."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from baton.api.admission import check_serving
from baton.api.problems import Severity
from baton.cli.assignments import Assignment
from baton.cli.manifest import read_manifest
from baton.rendering import Expanded, RankLaunch, RolePlan, expand, launches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from baton.api.serving import ModelServing
    from baton.cli.manifest import Manifest


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--role", help="Only this role.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "dir"]),
    default="text",
    help="text: scripts and a summary; json: one entry a rank; dir: files under --output.",
)
@click.option(
    "--set",
    "changes",
    metavar="PATH=VALUE",
    multiple=True,
    help="Change a field of every ModelServing first, as in spec.template.roles[prefill].replicas=2; may be repeated.",
)
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Directory for --format dir.")
def render(*, file: Path, role: str | None, form: str, changes: tuple[str, ...], output: Path | None) -> None:
    """Print the launch of every ModelServing in FILE (YAML; - is standard input).

    ConfigMaps in FILE with the label for it are those that templates of an engine may name. What is wrong goes to
    standard error with its path and cure. With an error nothing is rendered and the exit status is 1.
    """
    if (form == "dir") != (output is not None):
        raise click.UsageError("--format dir and --output DIRECTORY go together")
    manifest = read_manifest(file, [Assignment.parse(change) for change in changes])
    _check_role(manifest.servings, role)
    expanded = [
        (serving, expand(serving, config_maps=manifest.config_maps_of(serving))) for serving in manifest.servings
    ]
    refused = [serving.metadata.name for serving, result in expanded if _has_errors(serving, result)]
    if refused:
        raise click.ClickException(f"refused: {', '.join(refused)}")
    if form == "json":
        ranks = [rank.document() for serving in manifest.servings for rank in _ranks(manifest, serving, role)]
        click.echo(json.dumps(ranks, indent=2, ensure_ascii=False))
    for serving, result in expanded:
        if form == "text":
            click.echo("\n".join(_text(serving, result, role)))
        elif output is not None:
            ranks_of = partial(_ranks, manifest, serving)
            _write(serving, result, role, output=output, ranks_of=ranks_of)


def _has_errors(serving: ModelServing, result: Expanded) -> bool:
    """Report what is wrong with a ModelServing, and say whether it is refused."""
    problems = [*check_serving(serving), *result.problems]
    for problem in problems:
        click.echo(f"{problem.severity}: {serving.metadata.name}: {problem}", err=True)
    return any(problem.severity is Severity.ERROR for problem in problems)


def _check_role(servings: Sequence[ModelServing], role: str | None) -> None:
    known = [each.name for serving in servings for each in serving.spec.template.roles]
    if role is not None and role not in known:
        raise click.ClickException(f"there is no role {role}; there are {', '.join(known)}")


def _ranks(manifest: Manifest, serving: ModelServing, role: str | None) -> list[RankLaunch]:
    ranks = launches(serving, config_maps=manifest.config_maps_of(serving))
    return [rank for rank in ranks if role in {None, rank.role}]


def _text(serving: ModelServing, result: Expanded, role: str | None) -> Iterator[str]:
    plans = {plan.role: plan for plan in result.plans}
    yield f"# ModelServing {serving.metadata.name}: {serving.spec.replicas} x ServingGroup of"
    for each in serving.spec.template.roles:
        if role in {None, each.name}:
            plan = plans.get(each.name)
            what = _summary(plan) if plan else "raw template"
            yield f"#   {each.name}: {each.replicas} x {what}"
    for config_map in result.config_maps:
        if role in {None, config_map.role}:
            for name, text in config_map.data.items():
                yield f"\n# ===== {config_map.name}/{name}\n{text}".rstrip("\n")


def _summary(plan: RolePlan) -> str:
    ports = ", ".join(
        f"{use} {first}-{first + count - 1}" if count > 1 else f"{use} {first}"
        for use, (first, count) in plan.ports.items()
    )
    sizes = f"DP{plan.sizes.data} TP{plan.sizes.tensor} PP{plan.sizes.pipeline}"
    part = f"a part of a rank ({plan.nodes_per_rank})" if plan.spans_nodes else f"{plan.ranks_per_node} rank(s)"
    return (
        f"{plan.phase} {sizes}: {plan.nodes} pod(s) with {part} on {plan.devices_per_pod} {plan.resource_name}; "
        f"ports {ports}"
    )


def _write(
    serving: ModelServing,
    result: Expanded,
    role: str | None,
    *,
    output: Path,
    ranks_of: Callable[[str], list[RankLaunch]],
) -> None:
    """Write `SERVING/ROLE/launch.sh`, `ready.sh`, `role.yaml` and `ranks.json` below a directory."""
    for each in result.roles:
        if role not in {None, each.name}:
            continue
        directory = output / serving.metadata.name / each.name
        ranks = [rank.document() for rank in ranks_of(each.name)]
        files = {
            name: text for files in result.config_maps if files.role == each.name for name, text in files.data.items()
        }
        files["role.yaml"] = yaml.safe_dump(each.document(), sort_keys=False)
        files["ranks.json"] = json.dumps(ranks, indent=2, ensure_ascii=False) + "\n"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (directory / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"cannot write to {directory}: {error}") from error
        click.echo(f"{directory}: {', '.join(files)}")
