"""The values that matching and picking work on. Holds no decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from baton.api.endpoints import Phase
from baton.api.router_config import BackendConfig
from baton.api.traffic import Protocol


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One DP rank that answers requests.

    `name` is unique: `namespace/pod:port`, or `address:port` for a static endpoint. `group` is the value that prefill
    and decode must share to pair up (the ServingGroup), `kv_transfer` the hash that must be equal as well when both
    sides announce one.
    """

    name: str
    address: str
    port: int
    rank: int = 0
    phase: Phase = Phase.AGGREGATED
    group: str = ""
    kv_transfer: str = ""
    pod: str = ""
    protocol: Protocol = Protocol.HTTP


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What rules look at: the body's model, the path and the headers (names in lower case)."""

    model: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match:
    """The outcome of matching: which route, rule and backend, and the model name to send upstream (None: unchanged)."""

    route: str
    rule: str
    backend: BackendConfig
    model: str | None


@dataclass(frozen=True, slots=True)
class Choice:
    """Where one try of a request goes. `prefill` is None for an aggregated endpoint; `reason` is for people."""

    decode: Endpoint
    prefill: Endpoint | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """What this router has in flight at an endpoint: requests, and the bytes of their bodies."""

    requests: int = 0
    body_bytes: int = 0
