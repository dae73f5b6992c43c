"""ModelRoute: which requests go to which model."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

from pydantic import ConfigDict, Field

from baton.api.meta import ApiModel, Condition, Int64, Kind, list_map, validations
from baton.api.traffic import KVConnectorSpec, PDGroup, TrafficPolicy, WorkloadPort

_NAMES_ONE_TARGET: Final = (
    "[has(self.modelServerName), has(self.modelServingName), has(self.externalModelProviderName)].exists_one(x, x)"
)
_NAMES_A_MODEL: Final = (
    "has(self.modelName) && self.modelName != '' || has(self.loraAdapters) && size(self.loraAdapters) > 0"
)


class StringMatch(ApiModel):
    """A condition on a string; the first of exact, prefix and regex that is set decides, none matches all."""

    exact: str | None = Field(default=None, description="The whole string.")
    prefix: str | None = Field(default=None, description="How the string begins.")
    regex: str | None = Field(default=None, description="Regular expression that is found in the string.")


class BodyMatch(ApiModel):
    """A condition on the request body."""

    model: str | None = Field(default=None, description="The body's model field, exactly.")


class ModelMatch(ApiModel):
    """Conditions that a request meets all together."""

    headers: dict[str, StringMatch] = Field(
        default_factory=dict,
        description="Conditions on headers by name, which must all hold; a missing header is an empty string.",
    )
    uri: StringMatch | None = Field(default=None, description="Condition on the path.")
    body: BodyMatch | None = Field(default=None, description="Condition on the body.")


class TargetModel(ApiModel):
    """Where requests of a rule go: exactly one of the names, in the route's namespace."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            (
                _NAMES_ONE_TARGET,
                "set exactly one of modelServerName, modelServingName and externalModelProviderName",
            )
        )
    )

    model_server_name: str | None = Field(default=None, description="Name of a ModelServer.")
    model_serving_name: str | None = Field(
        default=None,
        description="Name of a ModelServing, without a ModelServer between. "
        "Port, pairs and connector come from its typed engine, or from this route.",
    )
    external_model_provider_name: str | None = Field(default=None, description="Name of an ExternalModelProvider.")
    weight: int = Field(
        default=100, ge=0, le=100, description="Share of the rule's requests, relative to the other targets."
    )


class Rule(ApiModel):
    """Requests that match go to the targets, by weight."""

    name: str | None = Field(default=None, description="Name of the rule, for logs.")
    model_match: ModelMatch | None = Field(
        default=None, description="Conditions; none matches every request of the model."
    )
    target_models: list[TargetModel] = Field(min_length=1, max_length=16, description="Targets by weight.")


class RateLimitUnit(StrEnum):
    """The time a rate limit counts over."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class Redis(ApiModel):
    """A Redis that several routers share."""

    address: str = Field(description="host:port of the Redis.")


class GlobalRateLimit(ApiModel):
    """A limit over all routers together."""

    redis: Redis | None = Field(default=None, description="Where the count is kept.")


class RateLimit(ApiModel):
    """How many tokens a model takes and gives in a unit of time."""

    input_tokens_per_unit: int | None = Field(default=None, ge=1, description="Prompt tokens a unit.")
    output_tokens_per_unit: int | None = Field(default=None, ge=1, description="Generated tokens a unit.")
    unit: RateLimitUnit = Field(default=RateLimitUnit.SECOND, description="second, minute, hour, day or month.")
    global_: GlobalRateLimit | None = Field(
        default=None, alias="global", description="Share the limit between routers."
    )


class ParentReference(ApiModel):
    """A Gateway, or another parent of the Gateway API."""

    group: str = Field(
        default="gateway.networking.k8s.io",
        max_length=253,
        description="API group of the parent; empty is the core group.",
    )
    kind: str = Field(default="Gateway", min_length=1, max_length=63, description="Kind of the parent.")
    namespace: str | None = Field(
        default=None, min_length=1, max_length=63, description="Namespace of the parent. Default: the route's."
    )
    name: str = Field(min_length=1, max_length=253, description="Name of the parent.")
    section_name: str | None = Field(
        default=None, min_length=1, max_length=253, description="Listener of the parent. Default: all of them."
    )
    port: int | None = Field(default=None, ge=1, le=65535, description="Port of the parent. Default: all of them.")


class ModelRouteSpec(ApiModel):
    """Which requests go to which model."""

    model_config = ConfigDict(json_schema_extra=validations((_NAMES_A_MODEL, "set modelName, loraAdapters or both")))

    model_name: str | None = Field(
        default=None,
        description="Model name in requests. Fixed once set.",
        json_schema_extra=validations(("self == oldSelf", "modelName is immutable")),
    )
    lora_adapters: list[str] = Field(
        default_factory=list, max_length=10, description="LoRA adapter names in requests that go the same way."
    )
    parent_refs: list[ParentReference] = Field(default_factory=list, description="Gateways the route belongs to.")
    rules: list[Rule] = Field(max_length=16, description="Rules in order; the first that matches decides.")
    rate_limit: RateLimit | None = Field(default=None, description="Token limits of the model.")
    pd_group: PDGroup | None = Field(
        default=None, description="Prefill and decode pods, for targets that do not say themselves."
    )
    kv_connector: KVConnectorSpec | None = Field(
        default=None, description="How a request goes from prefill to decode, for targets that do not say themselves."
    )
    traffic_policy: TrafficPolicy | None = Field(
        default=None, description="Time limit and retries; wins over the target's."
    )
    workload_port: WorkloadPort | None = Field(
        default=None, description="The engine's API port, for ModelServing targets without a typed engine."
    )


class ModelRouteStatus(ApiModel):
    """What became of a ModelRoute."""

    observed_generation: Int64 = Field(default=0, description="Generation that the conditions are true for.")
    conditions: list[Condition] = Field(
        default_factory=list,
        description="Accepted: the spec can be used. ResolvedRefs: its targets exist. Programmed: routers can serve "
        "it.",
        json_schema_extra=list_map("type"),
    )


class ModelRoute(Kind):
    """Requests of a model name and where they go."""

    kind: Literal["ModelRoute", ""] = ""
    spec: ModelRouteSpec
    status: ModelRouteStatus = ModelRouteStatus()
