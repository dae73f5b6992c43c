"""ModelServer: which pods serve a model, and how to talk to them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from baton.api.meta import ApiModel, Condition, Kind
from baton.api.traffic import KVConnectorSpec, PDGroup, TrafficPolicy, WorkloadPort


class InferenceEngine(StrEnum):
    """Engine family, for its metrics and protocol."""

    VLLM = "vLLM"
    SGLANG = "SGLang"


class WorkloadSelector(ApiModel):
    """The pods of a model, in the ModelServer's namespace."""

    match_labels: dict[str, str] = Field(
        default_factory=dict, description="Labels every pod of the model has; at least one."
    )
    pd_group: PDGroup | None = Field(
        default=None, description="Prefill and decode pods among them. Without it every pod does whole requests."
    )


class ModelServerSpec(ApiModel):
    """Which pods serve a model, and how to talk to them."""

    model: str | None = Field(
        default=None, max_length=256, description="Model name the engine knows; the request's model is rewritten to it."
    )
    inference_engine: InferenceEngine = Field(description="vLLM or SGLang.")
    workload_selector: WorkloadSelector | None = Field(default=None, description="The pods of the model.")
    workload_port: WorkloadPort = Field(description="The engine's API port.")
    traffic_policy: TrafficPolicy | None = Field(default=None, description="Time limit and retries.")
    kv_connector: KVConnectorSpec | None = Field(default=None, description="How a request goes from prefill to decode.")


class ModelServerStatus(ApiModel):
    """What was seen of a ModelServer."""

    observed_generation: int = Field(default=0, description="Generation that the conditions are true for.")
    conditions: list[Condition] = Field(default_factory=list, description="Accepted: whether the spec can be used.")


class ModelServer(Kind):
    """A set of pods that serve one model."""

    kind: Literal["ModelServer", ""] = ""
    spec: ModelServerSpec
    status: ModelServerStatus = ModelServerStatus()
