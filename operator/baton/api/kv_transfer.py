"""How the typed engine hands KV cache over: the connector, its ports and limits, and the store beside it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from baton.api.meta import ApiModel, FreeObject


class LoadFailurePolicy(StrEnum):
    """What decode does with a request whose KV cache did not arrive."""

    FAIL = "fail"
    RECOMPUTE = "recompute"


class StoreBackend(StrEnum):
    """What holds the shared KV pool."""

    MOONCAKE = "mooncake"
    MEMCACHE = "memcache"
    YUANRONG = "yuanrong"


class KVConnector(StrEnum):
    """The connector that moves KV cache from prefill to decode, by its name in the engine."""

    MOONCAKE_HYBRID = "MooncakeHybridConnector"
    MOONCAKE_V1 = "MooncakeConnectorV1"
    MOONCAKE_LAYERWISE = "MooncakeLayerwiseConnector"
    NIXL = "NixlConnector"


class KVStore(ApiModel):
    """A pool of KV cache that engines share, beside the hand-over from prefill to decode (AscendStoreConnector)."""

    backend: StoreBackend | None = Field(default=None, description="mooncake (default), memcache or yuanrong.")
    master: str | None = Field(
        default=None,
        pattern=r"^[^\s:]+:[0-9]+$",
        description="HOST:PORT of the mooncake_master process. Without it MOONCAKE_CONFIG_PATH in env names a file.",
    )
    segment_size: str | None = Field(
        default=None,
        pattern=r"^[0-9]+ ?(GB|MB|KB|B)?$",
        description="Host memory that each device gives to a pool of backend mooncake, such as 20GB. Default 1GB.",
    )
    extra_config: FreeObject | None = Field(
        default=None, description="Merged over the computed kv_connector_extra_config of AscendStoreConnector."
    )


class KVTransfer(ApiModel):
    """How KV cache goes from prefill to decode. Parallel sizes of both sides are filled in from the roles."""

    connector: KVConnector | None = Field(
        default=None,
        description="Connector of the engine. "
        "Default: MooncakeHybridConnector for vLLM-Ascend, NixlConnector for vLLM.",
    )
    port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="First port of the hand-shake range, one port a device. Default: 30000 for prefill, 30100 for "
        "decode.",
    )
    timeout_seconds: int | None = Field(
        default=None,
        ge=1,
        description="How long a prefill holds KV cache that no decode has fetched, in seconds. Default 480.",
    )
    load_failure_policy: LoadFailurePolicy | None = Field(
        default=None,
        description="What decode does when KV cache did not arrive: fail the request (the engine's default) or "
        "recompute the prompt.",
    )
    store: KVStore | None = Field(
        default=None,
        description="Adds a shared KV pool; both become children of a MultiConnector. Only for vLLM-Ascend.",
    )
