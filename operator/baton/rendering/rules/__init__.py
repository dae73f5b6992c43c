"""The rules a typed engine must keep: one table, used by admission, by the reconciler and by `baton render`.

Conditions of the Mooncake connectors come from vLLM-Ascend's sources (v0.21.0rc1 to 0.27).
"""

from __future__ import annotations

from typing import Final

from baton.api.problems import Problem
from baton.rendering.rules import connectors, hand_over, model, overrides, ports, sizes, spanning, speculation, stores
from baton.rendering.rules.rule import Group, Rule

RULES: Final[tuple[Rule, ...]] = (
    *model.RULES,
    *sizes.RULES,
    *spanning.RULES,
    *ports.RULES,
    *hand_over.RULES,
    *connectors.RULES,
    *stores.RULES,
    *speculation.RULES,
    *overrides.RULES,
)


def check(group: Group) -> tuple[Problem, ...]:
    """Return all problems of a ModelServing's typed engines, in the order of the table, each once."""
    return tuple(dict.fromkeys(problem for rule in RULES for problem in rule.problems(group)))


__all__ = ["RULES", "Group", "Rule", "check"]
