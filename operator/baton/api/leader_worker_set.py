"""What Baton reads of a LeaderWorkerSet, a kind of another project that can be served as a ModelServing."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from baton.api.meta import ApiModel, IntOrPercent, Kind
from baton.api.serving import PodTemplate

RESTART_NONE: Final = "None"
"""Restart policy: a pod that fails is replaced alone."""
STARTUP_LEADER_READY: Final = "LeaderReady"
"""Startup policy: workers are created once their leader is ready."""


class LeaderWorkerTemplate(ApiModel):
    """A group of `size` pods, the leader among them, which is made from the worker's template unless it has its own."""

    leader_template: PodTemplate | None = None
    worker_template: PodTemplate
    size: int = Field(default=1, ge=1)
    restart_policy: str = ""
    sub_group_policy: Any = None
    volume_claim_templates: list[Any] = Field(default_factory=list)


class LeaderWorkerSetRollingUpdate(ApiModel):
    """Limits of a rolling update over groups."""

    partition: int = Field(default=0, ge=0)
    max_unavailable: IntOrPercent = 1
    max_surge: IntOrPercent = 0


class LeaderWorkerSetRollout(ApiModel):
    """How a changed template reaches the pods."""

    rolling_update_configuration: LeaderWorkerSetRollingUpdate | None = None


class LeaderWorkerSetSpec(ApiModel):
    """What a LeaderWorkerSet should be."""

    replicas: int = Field(default=1, ge=0)
    leader_worker_template: LeaderWorkerTemplate
    rollout_strategy: LeaderWorkerSetRollout | None = None
    startup_policy: str = ""


class LeaderWorkerSet(Kind):
    """Groups of a leader and its workers."""

    spec: LeaderWorkerSetSpec
