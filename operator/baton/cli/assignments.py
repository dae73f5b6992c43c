"""`--set PATH=VALUE`: changes a document before it is read. Knows no kinds; what it makes is checked like any file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Self

import click
import yaml

_STEP: Final = re.compile(r"(?:^|\.)([^.\[\]]+)|\[([^\[\]]+)\]")


@dataclass(frozen=True, slots=True)
class Assignment:
    """A field, as messages write it, and its new value; None removes it."""

    path: str
    steps: tuple[str, ...]
    value: Any

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `spec.template.roles[prefill].replicas=2`; the value is YAML.

        Raises:
            click.BadParameter: it is no path, no value, or no YAML.

        """
        path, equals, value = text.partition("=")
        steps = tuple(first or second for first, second in _STEP.findall(path))
        if not equals or "".join(match.group() for match in _STEP.finditer(path)) != path or not steps:
            raise click.BadParameter(f"{text!r} is not of the form spec.template.roles[prefill].replicas=2")
        try:
            return cls(path, steps, yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise click.BadParameter(f"the value of {path} is no YAML: {error}") from error

    def apply(self, document: Any) -> None:
        """Change a document in place; objects on the way are made, items of lists must be there.

        Raises:
            click.BadParameter: the path leads nowhere.

        """
        *way, last = self.steps
        for step in way:
            place = self._place(document, step)
            if isinstance(document, dict) and document.get(place) is None:
                document[place] = {}
            document = document[place]
        place = self._place(document, last)
        if self.value is None and isinstance(document, dict):
            document.pop(place, None)
        else:
            document[place] = self.value

    def _place(self, value: Any, step: str) -> Any:
        """Return the key or index of a step: an item of a list is meant by its index or its name."""
        if isinstance(value, dict):
            return step
        if isinstance(value, list):
            names = [item.get("name") if isinstance(item, dict) else None for item in value]
            if step in names:
                return names.index(step)
            if step.isdecimal() and int(step) < len(value):
                return int(step)
            known = ", ".join(str(name) for name in names if name)
            raise click.BadParameter(f"{self.path}: there is no item {step}; there are {known or len(value)}")
        raise click.BadParameter(f"{self.path}: {step} lies inside a plain value")
