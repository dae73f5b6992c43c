"""Read the documents people write: find the kind, and say for each fault which field it is in and what was meant.

Reads no files and asks no API server; what is wrong between fields is said by `baton.api.admission`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from baton.api.crd import DEFINITIONS, Definition, schema_of
from baton.api.meta import JsonObject, Kind, fault_of, field_path
from baton.api.problems import Problem

_BY_KIND: Final[Mapping[str, Definition]] = {definition.kind: definition for definition in DEFINITIONS}


class DocumentError(ValueError):
    """A document cannot be used; `problems` says why, one entry a fault."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def read_documents(text: str, *, strict: bool = False) -> list[Kind]:
    """Return the objects of Baton's kinds in a YAML text, in order. Those of other API groups are left out.

    Raises:
        DocumentError: the text is no YAML, or one of the objects cannot be used.

    """
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise DocumentError([Problem("document", f"is no YAML: {error}")]) from error
    return [read_document(document, strict=strict) for document in documents if not _is_foreign(document)]


def read_document(document: Any, *, strict: bool = False) -> Kind:
    """Return a document as the object its apiVersion and kind say it is.

    `strict` also refuses fields that the kind does not have, and numbers written as text, as `kubectl apply` does.

    Raises:
        DocumentError: the kind is not one of Baton's, or a field is wrong.

    """
    definition = _definition_of(document)
    try:
        return definition.model.read(document, strict=strict)
    except ValidationError as error:
        entries = error.errors(include_url=False)
        raise DocumentError([_problem(entry, definition) for entry in entries]) from error


def _is_foreign(document: Any) -> bool:
    """Whether a document belongs to another API group; one that nobody could place is ours to complain about."""
    if not isinstance(document, dict) or not document.get("apiVersion") or document.get("kind") in _BY_KIND:
        return False
    return str(document["apiVersion"]) not in {definition.api_version for definition in DEFINITIONS}


def _definition_of(document: Any) -> Definition:
    if not isinstance(document, dict):
        raise DocumentError([Problem("document", "should be an object with apiVersion, kind, metadata and spec")])
    missing = [Problem(name, "is required") for name in ("apiVersion", "kind") if not document.get(name)]
    if missing:
        raise DocumentError(missing)
    kind, version = str(document["kind"]), document["apiVersion"]
    definition = _BY_KIND.get(kind)
    if definition is None:
        raise DocumentError([Problem("kind", f"{kind!r} is no kind of Baton{_suggestion(kind, _BY_KIND)}")])
    if version != definition.api_version:
        raise DocumentError([Problem("apiVersion", f"of a {kind} should be {definition.api_version}, not {version!r}")])
    return definition


def _problem(entry: ErrorDetails, definition: Definition) -> Problem:
    location = entry["loc"]
    if entry["type"] != "extra_forbidden":
        return Problem(field_path(location), fault_of(entry))
    known = _fields(schema_of(definition.model), location[:-1])
    return Problem(field_path(location), f"is no field of this object{_suggestion(str(location[-1]), known)}")


def _fields(schema: JsonObject, location: Iterable[int | str]) -> list[str]:
    """Return the names of the fields that an object at a place of a schema can have."""
    for part in location:
        if isinstance(part, int):
            schema = schema.get("items", {})
        else:
            schema = schema.get("properties", {}).get(part) or schema.get("additionalProperties", {})
    return sorted(schema.get("properties", {}))


def _suggestion(name: str, known: Iterable[str]) -> str:
    """Name the nearest known name, whatever its case and separators; without a near one, name all."""
    plain = {re.sub(r"[-_]", "", entry).lower(): entry for entry in known}
    near = get_close_matches(re.sub(r"[-_]", "", name).lower(), plain, n=1)
    if near:
        return f"; did you mean {plain[near[0]]}?"
    return f"; there are {', '.join(plain.values())}" if plain else ""
