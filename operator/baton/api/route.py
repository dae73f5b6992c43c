"""ModelRoute: which requests go to which model."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from baton.api.meta import ApiModel, Condition, FreeObject, Kind
from baton.api.traffic import KVConnectorSpec, PDGroup, TrafficPolicy, WorkloadPort


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
        default_factory=dict, description="Conditions on headers by name; a missing header is an empty string."
    )
    uri: StringMatch | None = Field(default=None, description="Condition on the path.")
    body: BodyMatch | None = Field(default=None, description="Condition on the body.")


class TargetModel(ApiModel):
    """Where requests of a rule go: exactly one of the names, in the route's namespace."""

    model_server_name: str | None = Field(default=None, description="A ModelServer.")
    model_serving_name: str | None = Field(
        default=None, description="A ModelServing; port, pairs and connector are derived from it."
    )
    external_model_provider_name: str | None = Field(default=None, description="An ExternalModelProvider.")
    weight: int = Field(
        default=100, ge=0, le=100, description="Share of the rule's requests, relative to the other targets."
    )


class Rule(ApiModel):
    """Requests that match go to the targets, by weight."""

    name: str | None = Field(default=None, description="Name of the rule, for logs.")
    model_match: ModelMatch | None = Field(
        default=None, description="Conditions; none matches every request of the model."
    )
    target_models: Annotated[
        list[TargetModel],
        Field(
            json_schema_extra={
                "x-kubernetes-validations": [
                    {
                        "rule": "self.all(t, [has(t.modelServerName), has(t.modelServingName), "
                        "has(t.externalModelProviderName)].exists_one(x, x))",
                        "message": "exactly one of modelServerName, modelServingName and externalModelProviderName must be set",
                    }
                ]
            }
        ),
    ] = Field(min_length=1, max_length=16, description="Targets by weight.")


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


class ModelRouteSpec(ApiModel):
    """Which requests go to which model."""

    model_name: Annotated[
        str | None,
        Field(
            json_schema_extra={
                "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "modelName is immutable"}]
            }
        ),
    ] = Field(default=None, description="Model name in requests.")
    lora_adapters: list[str] = Field(
        default_factory=list, max_length=10, description="LoRA adapter names in requests that go the same way."
    )
    parent_refs: list[FreeObject] = Field(default_factory=list, description="Gateways (Gateway API ParentReference).")
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

    observed_generation: int = Field(default=0, description="Generation that the conditions are true for.")
    conditions: list[Condition] = Field(default_factory=list, description="Accepted, ResolvedRefs and Programmed.")


class ModelRoute(Kind):
    """Requests of a model name and where they go."""

    kind: Literal["ModelRoute", ""] = ""
    spec: ModelRouteSpec
    status: ModelRouteStatus = ModelRouteStatus()
