"""From a ModelServing as written to one that planning understands: checked, its typed roles rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.api import admission
from baton.api.problems import Problem, Severity
from baton.planning.model import ConfigFile, Desired
from baton.rendering import expand

if TYPE_CHECKING:
    from baton.api.serving import ModelServing
    from baton.rendering import ConfigMaps


def desired_of(
    serving: ModelServing, config_maps: ConfigMaps | None = None
) -> tuple[Desired | None, tuple[Problem, ...]]:
    """Return what planning needs, or None if a problem is an error; and all problems, warnings included.

    `config_maps` holds the data of the ConfigMaps that `baton.rendering.template_config_maps` names, as far as they
    exist.
    """
    problems = list(admission.check_serving(serving))
    if any(problem.severity is Severity.ERROR for problem in problems):
        return None, tuple(problems)
    expanded = expand(serving, config_maps=config_maps)
    problems += expanded.problems
    if any(problem.severity is Severity.ERROR for problem in problems):
        return None, tuple(problems)
    files = tuple(ConfigFile(file.name, file.role, dict(file.data)) for file in expanded.config_maps)
    return Desired(serving, expanded.roles, files), tuple(problems)
