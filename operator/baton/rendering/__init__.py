"""Turns the typed engine into launch scripts and raw pod templates.

Pure: reads nothing but packaged templates. `expand` is for the operator, `launches` says the same rank by rank.
The way: merge (shared + role engine) → resolve (RolePlan) → rules (problems) → launch (environment, arguments) →
templates (files) and pods (raw templates).
"""

from __future__ import annotations

from baton.rendering.expansion import Expanded, LaunchFiles, expand
from baton.rendering.plan import KVTransferPlan, RolePlan, Sizes
from baton.rendering.ranks import RankLaunch, launches

__all__ = ["Expanded", "KVTransferPlan", "LaunchFiles", "RankLaunch", "RolePlan", "Sizes", "expand", "launches"]
