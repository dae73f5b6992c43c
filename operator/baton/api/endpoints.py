"""What a typed pod tells the router about itself, in the annotation `labels.ENDPOINTS`."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from baton.api.meta import ApiModel


class Phase(StrEnum):
    """Which part of a request an engine does."""

    PREFILL = "prefill"
    DECODE = "decode"
    AGGREGATED = "aggregated"


class PodEndpoints(ApiModel):
    """The DP ranks a pod serves: rank i of the pod answers on `port + i`. A headless pod serves none."""

    port: int = Field(ge=1, le=65535, description="API port of the pod's first DP rank.")
    ranks: int = Field(
        default=1, ge=0, description="API ports of this pod, on consecutive ports; 0 for a headless pod."
    )
    phase: Phase = Phase.AGGREGATED
    kv_transfer: str = Field(
        default="",
        description="Hash of everything both sides of a KV transfer must agree on; only equal ones pair.",
    )
