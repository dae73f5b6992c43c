"""Reads the files that `baton render` and `baton plan` are given: ModelServings, ConfigMaps with their templates."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import click
import yaml

from baton.api import labels
from baton.api.documents import DocumentError, read_documents
from baton.api.problems import Problem
from baton.api.serving import ModelServing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from baton.cli.assignments import Assignment
    from baton.rendering import ConfigMaps


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file holds; `templates` has the data of its ConfigMaps by namespace (empty: none is named) and name."""

    servings: tuple[ModelServing, ...]
    templates: Mapping[tuple[str, str], Mapping[str, str]]

    def placed(self, namespace: str) -> Self:
        """Put what names no namespace into this one."""
        return replace(
            self,
            servings=tuple(_placed(serving, namespace) for serving in self.servings),
            templates={(place or namespace, name): data for (place, name), data in self.templates.items()},
        )

    def config_maps_of(self, serving: ModelServing) -> ConfigMaps:
        """Return the ConfigMaps that a ModelServing can name; those without a namespace may be in any."""
        places = {"", serving.metadata.namespace}
        return {name: data for (place, name), data in self.templates.items() if place in places}


def read_manifest(file: Path, changes: Sequence[Assignment] = ()) -> Manifest:
    """Read a file, `-` being standard input, and apply changes to its ModelServings.

    Raises:
        click.ClickException: it cannot be read or used, or holds no ModelServing.

    """
    is_input = str(file) == "-"
    name = "standard input" if is_input else str(file)
    try:
        documents = _changed(sys.stdin.read() if is_input else file.read_text(encoding="utf-8"), changes)
        objects = read_documents(yaml.safe_dump_all(documents), strict=True)
        templates = dict(_templates(document) for document in documents if _has_templates(document))
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"cannot read {name}: {error}") from error
    except DocumentError as error:
        lines = "\n".join(f"error: {problem}" for problem in error.problems)
        raise click.ClickException(f"{name} cannot be used\n{lines}") from error
    servings = tuple(item for item in objects if isinstance(item, ModelServing))
    if not servings:
        raise click.ClickException(f"there is no ModelServing in {name}")
    return Manifest(servings, templates)


def _changed(text: str, changes: Sequence[Assignment]) -> list[Any]:
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise DocumentError([Problem("document", f"is no YAML: {error}")]) from error
    for change in changes:
        for document in documents:
            if isinstance(document, dict) and document.get("kind") == "ModelServing":
                change.apply(document)
    return documents


def _has_templates(document: Any) -> bool:
    """Whether the operator would take a document for a ConfigMap with templates."""
    if not isinstance(document, dict) or document.get("kind") != "ConfigMap":
        return False
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or "name" not in metadata:
        return False
    return isinstance(metadata.get("labels"), dict) and labels.TEMPLATES in metadata["labels"]


def _templates(document: Any) -> tuple[tuple[str, str], Mapping[str, str]]:
    metadata, data = document["metadata"], document.get("data") or {}
    fields = data.items() if isinstance(data, dict) else [("", data)]
    wrong = [f"data.{key}".rstrip(".") for key, value in fields if not isinstance(value, str) or not key]
    if wrong:
        raise DocumentError(
            [Problem(path, f"of ConfigMap {metadata['name']} should be text by name") for path in wrong]
        )
    return (metadata.get("namespace") or "", metadata["name"]), data


def _placed(serving: ModelServing, namespace: str) -> ModelServing:
    if "namespace" in serving.metadata.model_fields_set:
        return serving
    return serving.model_copy(update={"metadata": serving.metadata.model_copy(update={"namespace": namespace})})
