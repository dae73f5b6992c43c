"""Turns the typed engine into launch scripts and raw pod templates.

Pure: reads nothing but packaged templates. `expand` is for the operator, `launches` says the same rank by rank,
`check_engines` only says what is wrong. `expand` needs the ConfigMaps that `template_config_maps` names.
The way: merge (shared + role engine) → resolve (RolePlan) → rules (problems) → launch (environment, arguments) →
templates (files) and pods (raw templates).
"""

from __future__ import annotations

from baton.rendering.expansion import ConfigMaps, Expanded, LaunchFiles, check_engines, expand, template_config_maps
from baton.rendering.plan import KVTransferPlan, RolePlan, Sizes
from baton.rendering.ranks import RankLaunch, launches

__all__ = [
    "ConfigMaps",
    "Expanded",
    "KVTransferPlan",
    "LaunchFiles",
    "RankLaunch",
    "RolePlan",
    "Sizes",
    "check_engines",
    "expand",
    "launches",
    "template_config_maps",
]
