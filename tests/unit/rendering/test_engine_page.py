"""docs/engine.md against the schema: its table names every field of the engine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from baton.api.engine import Engine
from baton.api.meta import ApiModel
from rendering_builders import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (ROOT / "docs" / "engine.md").read_text()


def _fields(model: type[ApiModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        nested = [kind for kind in getattr(field.annotation, "__args__", ()) if isinstance(kind, type)]
        below = [kind for kind in nested if issubclass(kind, ApiModel)]
        yield from _fields(below[0], f"{path}.") if below else [path]


def test_the_table_names_every_field_and_no_other() -> None:
    table = PAGE.partition("## From a parameter to flags and variables")[2].partition("\nAlways:")[0]
    named = {
        name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.partition("|")[2].partition("|")[0])
    }

    assert named == set(_fields(Engine))
