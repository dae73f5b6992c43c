"""`baton render`: print what typed engines become, without a cluster."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from baton.api.admission import check_serving
from baton.api.documents import DocumentError, read_documents
from baton.api.problems import Problem, Severity
from baton.api.serving import ModelServing
from baton.cli.assignments import Assignment
from baton.rendering import ConfigMaps, Expanded, RankLaunch, RolePlan, expand, launches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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

    ConfigMaps in FILE are those that templates of an engine may name. What is wrong goes to standard error with its
    path and cure. With an error nothing is rendered and the exit status is 1.
    """
    if (form == "dir") != (output is not None):
        raise click.UsageError("--format dir and --output DIRECTORY go together")
    servings, config_maps = _read(file, [Assignment.parse(change) for change in changes])
    _check_role(servings, role)
    expanded = [(serving, expand(serving, config_maps=config_maps)) for serving in servings]
    refused = [serving.metadata.name for serving, result in expanded if _has_errors(serving, result)]
    if refused:
        raise click.ClickException(f"refused: {', '.join(refused)}")
    if form == "json":
        ranks = [rank.document() for serving in servings for rank in _ranks(serving, role, config_maps)]
        click.echo(json.dumps(ranks, indent=2, ensure_ascii=False))
    for serving, result in expanded:
        if form == "text":
            click.echo("\n".join(_text(serving, result, role)))
        elif output is not None:
            ranks_of = partial(_ranks, serving, config_maps=config_maps)
            _write(serving, result, role, output=output, ranks_of=ranks_of)


def _read(file: Path, changes: list[Assignment]) -> tuple[list[ModelServing], ConfigMaps]:
    """Return the ModelServings of a file, changed, and the data of its ConfigMaps by name."""
    is_input = str(file) == "-"
    name = "standard input" if is_input else str(file)
    try:
        documents = _changed(sys.stdin.read() if is_input else file.read_text(encoding="utf-8"), changes)
        objects = read_documents(yaml.safe_dump_all(documents), strict=True)
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"cannot read {name}: {error}") from error
    except DocumentError as error:
        lines = "\n".join(f"error: {problem}" for problem in error.problems)
        raise click.ClickException(f"{name} cannot be used\n{lines}") from error
    servings = [item for item in objects if isinstance(item, ModelServing)]
    if not servings:
        raise click.ClickException(f"there is no ModelServing in {name}")
    config_maps = {
        document["metadata"]["name"]: document.get("data") or {} for document in documents if _is_config_map(document)
    }
    return servings, config_maps


def _changed(text: str, changes: list[Assignment]) -> list[Any]:
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise DocumentError([Problem("document", f"is no YAML: {error}")]) from error
    for change in changes:
        for document in documents:
            if isinstance(document, dict) and document.get("kind") == "ModelServing":
                change.apply(document)
    return documents


def _is_config_map(document: Any) -> bool:
    if not isinstance(document, dict) or document.get("kind") != "ConfigMap":
        return False
    return isinstance(document.get("metadata"), dict) and "name" in document["metadata"]


def _has_errors(serving: ModelServing, result: Expanded) -> bool:
    """Report what is wrong with a ModelServing, and say whether it is refused."""
    problems = [*check_serving(serving), *result.problems]
    for problem in problems:
        click.echo(f"{problem.severity}: {serving.metadata.name}: {problem}", err=True)
    return any(problem.severity is Severity.ERROR for problem in problems)


def _check_role(servings: list[ModelServing], role: str | None) -> None:
    known = [each.name for serving in servings for each in serving.spec.template.roles]
    if role is not None and role not in known:
        raise click.ClickException(f"there is no role {role}; there are {', '.join(known)}")


def _ranks(serving: ModelServing, role: str | None, config_maps: ConfigMaps) -> list[RankLaunch]:
    return [rank for rank in launches(serving, config_maps=config_maps) if role in {None, rank.role}]


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
    return (
        f"{plan.phase} {sizes}: {plan.nodes} pod(s) with {plan.ranks_per_node} rank(s) on "
        f"{plan.devices_per_pod} {plan.resource_name}; ports {ports}"
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
