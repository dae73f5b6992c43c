"""The router's configuration document: rules, policies and selectors, versioned.

The operator writes one document a ModelRoute into a ConfigMap; `baton router --config FILE` reads the same document
with static endpoints, so that no Kubernetes is needed. Durations are seconds.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from baton.api.endpoints import Phase
from baton.api.meta import ApiModel
from baton.api.route import ModelMatch
from baton.api.traffic import KVConnectorType, PDGroup, Protocol

CONFIG_VERSION: Literal["v1"] = "v1"


class StaticEndpoints(ApiModel):
    """Engines at a fixed address, for a router without Kubernetes: rank i answers on `port + i`."""

    address: str = Field(description="IP address or host name.")
    port: int = Field(ge=1, le=65535, description="API port of the first DP rank.")
    ranks: int = Field(default=1, ge=1, description="DP ranks on consecutive ports.")
    phase: Phase = Field(default=Phase.AGGREGATED, description="prefill, decode or aggregated.")
    group: str = Field(default="", description="Only endpoints of one group pair up.")
    protocol: Protocol | None = Field(default=None, description="http or https; unset means the backend's.")


class PodSelector(ApiModel):
    """The pods of a backend."""

    namespace: str = Field(description="Namespace of the pods.")
    match_labels: dict[str, str] = Field(min_length=1, description="Labels every pod has.")


class RetryPolicy(ApiModel):
    """How often a request is tried on another pair."""

    attempts: int = Field(default=2, ge=0, description="Tries after the first one.")
    interval: float = Field(default=0.1, ge=0, description="Seconds before each further try.")


class BackendConfig(ApiModel):
    """A set of endpoints that serve one model the same way."""

    name: str = Field(description="Unique in the document; shown in logs and metrics.")
    model: str | None = Field(default=None, description="Model name the engine knows; unset leaves the request's.")
    connector: KVConnectorType = Field(default=KVConnectorType.HTTP, description="Hand-over from prefill to decode.")
    bootstrap_port: int | None = Field(
        default=None, ge=1, le=65535, description="Prefill's bootstrap port, for sglang; unset means decode's own."
    )
    pd_group: PDGroup | None = Field(default=None, description="Prefill and decode pods; unset means aggregated.")
    port: int = Field(default=8000, ge=1, le=65535, description="API port of pods that do not announce their own.")
    protocol: Protocol = Field(default=Protocol.HTTP, description="Protocol of the API port.")
    timeout: float | None = Field(default=None, gt=0, description="Seconds until the first byte, all tries together.")
    retry: RetryPolicy = Field(default_factory=RetryPolicy, description="Further tries.")
    max_requests: int | None = Field(
        default=None,
        ge=1,
        description="Requests in flight at one endpoint, from one router process; when all endpoints have so many, "
        "further requests are answered 429. Unset: no limit.",
    )
    selector: PodSelector | None = Field(default=None, description="Pods of this backend.")
    endpoints: list[StaticEndpoints] = Field(default_factory=list, description="Endpoints at fixed addresses.")


class TargetConfig(ApiModel):
    """A backend and its share of a rule's requests."""

    backend: str = Field(description="Name of a backend of this document.")
    weight: int = Field(default=100, ge=0, description="Share, relative to the other targets.")


class RuleConfig(ApiModel):
    """Requests that match go to the targets, by weight."""

    name: str = Field(default="", description="For logs.")
    match: ModelMatch | None = Field(default=None, description="Conditions; none matches all.")
    targets: list[TargetConfig] = Field(min_length=1, description="Backends by weight.")


class RouteConfig(ApiModel):
    """The rules of one model name."""

    name: str = Field(description="namespace/name of the ModelRoute, or any name in a file.")
    created: str = Field(
        default="", description="Creation time, RFC 3339; of routes with one model name the oldest is asked first."
    )
    model_name: str | None = Field(default=None, description="Model name in requests.")
    any_model: bool = Field(
        default=False, description="Also takes requests for models that no route names. In a file only."
    )
    lora_adapters: list[str] = Field(
        default_factory=list, description="Adapter names that go the same way and are not rewritten."
    )
    rules: list[RuleConfig] = Field(min_length=1, description="In order; the first that matches decides.")


class RouterConfig(ApiModel):
    """A whole document."""

    version: Literal["v1"] = CONFIG_VERSION
    routes: list[RouteConfig] = Field(default_factory=list, description="Routes by model name.")
    backends: list[BackendConfig] = Field(default_factory=list, description="The backends that the rules name.")

    @model_validator(mode="after")
    def _targets_exist(self) -> RouterConfig:
        known = {backend.name for backend in self.backends}
        for route in self.routes:
            for rule in route.rules:
                for target in rule.targets:
                    if target.backend not in known:
                        names = ", ".join(sorted(known)) or "none"
                        raise ValueError(f"route {route.name}: no backend is called {target.backend!r}; known: {names}")
        return self
