"""The parts of traffic that a ModelServer and a ModelRoute can both carry."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from baton.api.meta import ApiModel, Duration


class KVConnectorType(StrEnum):
    """How the router hands a request from prefill to decode."""

    HTTP = "http"
    LMCACHE = "lmcache"
    NIXL = "nixl"
    MOONCAKE = "mooncake"
    MOONCAKE_LAYERWISE = "mooncake-layerwise"
    SGLANG = "sglang"


class KVConnectorSpec(ApiModel):
    """How the router hands a request from prefill to decode."""

    type: KVConnectorType = Field(
        default=KVConnectorType.HTTP,
        description="http and lmcache pass no parameters; nixl and mooncake pass kv_transfer_params from prefill to "
        "decode; mooncake-layerwise asks decode first, which calls the router back; sglang asks both at once.",
    )
    bootstrap_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="sglang only: --disaggregation-bootstrap-port of prefill. Default: the same as decode's own.",
    )


class PDGroup(ApiModel):
    """Which pods prefill, which decode, and which of them belong together."""

    group_key: str = Field(
        min_length=1, description="Pod label whose value is equal for prefill and decode pods that may pair up."
    )
    prefill_labels: dict[str, str] = Field(min_length=1, description="Labels of prefill pods.")
    decode_labels: dict[str, str] = Field(min_length=1, description="Labels of decode pods.")


class Protocol(StrEnum):
    """Protocol of the engine's API port."""

    HTTP = "http"
    HTTPS = "https"


class WorkloadPort(ApiModel):
    """The engine's API port."""

    port: int = Field(ge=1, le=65535, description="Port number.")
    protocol: Protocol = Field(default=Protocol.HTTP, description="http (default) or https.")


class Retry(ApiModel):
    """How often a request is tried on another pair of endpoints."""

    attempts: int = Field(default=0, ge=0, le=100, description="Tries after the first one.")
    retry_interval: Duration = Field(default="100ms", description="Pause before each further try, for example 150ms.")


class TrafficPolicy(ApiModel):
    """Time limit and retries of a request."""

    timeout: Duration | None = Field(
        default=None,
        description="Limit for a request until its first byte, all tries together, for example 300s. Default: none.",
    )
    retry: Retry | None = Field(default=None, description="Further tries on other pairs.")
