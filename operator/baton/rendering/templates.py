"""Finds and renders the templates: packaged ones, or the user's own text in place of one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from baton.rendering.arguments import json_text
from baton.rendering.references import quote

TemplateFault = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What rendering a user's template may raise."""


class Templates:
    """The templates by name; `overrides` holds texts that replace packaged ones."""

    def __init__(self, overrides: Mapping[str, str] | None = None) -> None:
        # Sandboxed, because overrides are written by users and rendered in the operator.
        self._environment = ImmutableSandboxedEnvironment(
            loader=jinja2.ChoiceLoader([jinja2.DictLoader(overrides or {}), jinja2.FunctionLoader(_packaged)]),
            undefined=jinja2.StrictUndefined,
            autoescape=jinja2.select_autoescape(),
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self._environment.filters["shell"] = quote
        self._environment.filters["json"] = json_text

    def render(self, name: str, **inputs: Any) -> str:
        """Render one template.

        Raises:
            TemplateFault: the template is unknown, wrong, or names an input that does not exist.

        """
        return self._environment.get_template(name).render(**inputs)


def _directory() -> Traversable:
    """Return the templates of the wheel, or in a checkout those of the repository."""
    packaged = resources.files("baton") / "_templates"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "templates"


@cache
def packaged_templates() -> Templates:
    """Return the packaged templates alone, which are parsed once a process."""
    return Templates()


@cache
def packaged_names() -> frozenset[str]:
    """Return the names of the packaged templates."""
    return frozenset(entry.name for entry in _directory().iterdir() if entry.name.endswith(".j2"))


@cache
def _packaged(name: str) -> str | None:
    path = _directory() / name
    return path.read_text(encoding="utf-8") if path.is_file() else None
