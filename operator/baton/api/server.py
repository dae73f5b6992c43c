"""ModelServer: which pods serve a model, and how to talk to them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from baton.api.meta import ApiModel, Condition, Int64, Kind, list_map
from baton.api.traffic import KVConnectorSpec, PDGroup, TrafficPolicy, WorkloadPort


class InferenceEngine(StrEnum):
    """Engine family, for its metrics and protocol."""

    VLLM = "vLLM"
    SGLANG = "SGLang"


class WorkloadSelector(ApiModel):
    """The pods of a model, in the ModelServer's namespace."""

    match_labels: dict[str, str] = Field(
        min_length=1, description="Labels that every pod of the model has; at least one."
    )
    pd_group: PDGroup | None = Field(
        default=None, description="Prefill and decode pods among them. Without it every pod does whole requests."
    )


class ModelServerSpec(ApiModel):
    """Which pods serve a model, and how to talk to them."""

    model: str | None = Field(
        default=None,
        max_length=256,
        description="Model name the engine knows; the model of a request is rewritten to it, unless it came by a LoRA "
        "adapter.",
    )
    inference_engine: InferenceEngine = Field(description="vLLM or SGLang.")
    workload_selector: WorkloadSelector = Field(description="The pods of the model, in the same namespace.")
    workload_port: WorkloadPort = Field(description="The engine's API port.")
    traffic_policy: TrafficPolicy | None = Field(default=None, description="Time limit and retries.")
    kv_connector: KVConnectorSpec | None = Field(default=None, description="How a request goes from prefill to decode.")


class ModelServerStatus(ApiModel):
    """What was seen of a ModelServer."""

    observed_generation: Int64 = Field(default=0, description="Generation that the conditions are true for.")
    conditions: list[Condition] = Field(
        default_factory=list, description="Accepted: whether the spec can be used.", json_schema_extra=list_map("type")
    )


class ModelServer(Kind):
    """A set of pods that serve one model."""

    kind: Literal["ModelServer", ""] = ""
    spec: ModelServerSpec
    status: ModelServerStatus = ModelServerStatus()
