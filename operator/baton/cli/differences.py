"""What differs between two renderings of a role, in lines that begin with - or +, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import unified_diff
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baton.kube.types import JsonObject


def text_differences(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the changed lines of each file that differs, without context."""
    return {
        name: lines
        for name in sorted(old.keys() | new.keys())
        if (lines := list(_changed_lines(old.get(name, ""), new.get(name, ""))))
    }


def field_differences(old: JsonObject, new: JsonObject) -> list[str]:
    """Return the fields that differ; items of lists are told apart by their names where they have some."""
    before, after = dict(_fields(old)), dict(_fields(new))
    lines: list[str] = []
    for path in dict.fromkeys((*before, *after)):
        if before.get(path) != after.get(path):
            lines += [f"{sign} {path}: {side[path]}" for sign, side in (("-", before), ("+", after)) if path in side]
    return lines


def _changed_lines(old: str, new: str) -> Iterator[str]:
    for number, line in enumerate(unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm="")):
        if number > 1 and not line.startswith("@@"):
            yield f"{line[0]} {line[1:].strip()}"


def _fields(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key in value:
            yield from _fields(value[key], f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for place, item in enumerate(value):
            name = item.get("name", place) if isinstance(item, Mapping) else place
            yield from _fields(item, f"{path}[{name}]")
    else:
        yield path, str(value)
