"""`baton crds`: print the CustomResourceDefinitions, or write one file each. Applies nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import yaml

from baton.api.crd import DEFINITIONS, manifest_of

_HEADER = "# Generated from operator/baton/api by `make generate`. Do not edit.\n"


class _PlainDumper(yaml.SafeDumper):
    """YAML without anchors, which not every reader of manifests understands."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Write equal values out each time."""
        return True


@click.command()
@click.option(
    "--output",
    "directories",
    type=click.Path(file_okay=False, path_type=Path),
    multiple=True,
    help="Directory to write one file per CustomResourceDefinition to, instead of printing them; may be repeated.",
)
def crds(directories: tuple[Path, ...]) -> None:
    """Print the CustomResourceDefinitions as YAML, ready for kubectl apply."""
    manifests = {
        f"{definition.plural}.yaml": yaml.dump(manifest_of(definition), Dumper=_PlainDumper, width=120)
        for definition in DEFINITIONS
    }
    if not directories:
        click.echo("---\n".join(manifests.values()), nl=False)
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in manifests.items():
            (directory / name).write_text(_HEADER + text, encoding="utf-8")
