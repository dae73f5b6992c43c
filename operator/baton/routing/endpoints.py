"""From a pod to the endpoints it offers a backend. Follows no changes and knows no loads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from baton.api import labels
from baton.api.endpoints import Phase, PodEndpoints
from baton.api.meta import JsonObject, problems_of
from baton.api.router_config import BackendConfig, StaticEndpoints
from baton.api.traffic import PDGroup, Protocol
from baton.routing.types import Endpoint

LAST_PORT: Final = 65535

_ORDINAL = re.compile(r"-([0-9]+)$", re.ASCII)


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What routing needs of a pod. `problem` says what is wrong with its annotation; such a pod is no endpoint."""

    namespace: str
    name: str
    uid: str = ""
    address: str = ""
    labels: Mapping[str, str] | None = None
    is_ready: bool = False
    is_deleting: bool = False
    is_draining: bool = False
    announced: PodEndpoints | None = None
    problem: str = ""

    @property
    def takes_requests(self) -> bool:
        """Whether new requests may go there."""
        return (
            self.is_ready and bool(self.address) and not self.is_deleting and not self.is_draining and not self.problem
        )


def facts_of(pod: JsonObject) -> PodFacts:
    """Project a pod as the API server returned it."""
    metadata: dict[str, Any] = pod["metadata"]
    status: dict[str, Any] = pod.get("status") or {}
    annotations: dict[str, str] = metadata.get("annotations") or {}
    announced, problem = _read_announcement(annotations.get(labels.ENDPOINTS))
    return PodFacts(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        address=status.get("podIP") or "",
        labels=metadata.get("labels") or {},
        is_ready=status.get("phase") == "Running" and _has_condition(status, "Ready"),
        is_deleting=metadata.get("deletionTimestamp") is not None,
        is_draining=labels.DRAINING in annotations,
        announced=announced,
        problem=problem,
    )


def endpoints_of(pod: PodFacts, backend: BackendConfig) -> tuple[Endpoint, ...]:
    """Return the DP ranks that a pod offers a backend now, or none.

    A typed pod announces its ports and its phase. Any other pod is one endpoint at the backend's port, and its labels
    tell the phase. In a backend with prefill and decode a pod without the group's label cannot pair, so it has none.
    """
    if not pod.takes_requests:
        return ()
    own_labels = pod.labels or {}
    pd_group = backend.pd_group
    group = own_labels.get(labels.GROUP_NAME if pd_group is None else pd_group.group_key, "")
    if pd_group is not None and not group:
        return ()
    if pod.announced is None:
        phase = _phase_of(own_labels, pd_group)
        return () if phase is None else (_endpoint(pod, backend, port=backend.port, phase=phase, group=group),)
    announced = pod.announced
    first_rank = _ordinal_of(pod.name) * announced.ranks
    return tuple(
        _endpoint(
            pod,
            backend,
            port=announced.port + number,
            rank=first_rank + number,
            phase=announced.phase,
            group=group,
            kv_transfer=announced.kv_transfer,
        )
        for number in range(announced.ranks)
    )


def static_endpoints_of(backend: BackendConfig) -> tuple[Endpoint, ...]:
    """Return the endpoints that a backend's document names itself."""
    return tuple(
        endpoint for static in backend.endpoints for endpoint in ranks_of(static, default_protocol=backend.protocol)
    )


def ranks_of(static: StaticEndpoints, *, default_protocol: Protocol = Protocol.HTTP) -> tuple[Endpoint, ...]:
    """Return the DP ranks of an engine at a fixed address."""
    return tuple(
        Endpoint(
            name=f"[{static.address}]:{port}" if ":" in static.address else f"{static.address}:{port}",
            address=static.address,
            port=port,
            rank=port - static.port,
            phase=static.phase,
            group=static.group,
            protocol=static.protocol or default_protocol,
        )
        for port in range(static.port, static.port + static.ranks)
    )


def _endpoint(
    pod: PodFacts,
    backend: BackendConfig,
    *,
    port: int,
    phase: Phase,
    group: str,
    rank: int = 0,
    kv_transfer: str = "",
) -> Endpoint:
    return Endpoint(
        name=f"{pod.namespace}/{pod.name}:{port}",
        address=pod.address,
        port=port,
        rank=rank,
        phase=phase,
        group=group,
        kv_transfer=kv_transfer,
        pod=pod.name,
        protocol=backend.protocol,
    )


def _phase_of(own: Mapping[str, str], pd_group: PDGroup | None) -> Phase | None:
    if pd_group is None:
        return Phase.AGGREGATED
    if pd_group.decode_labels.items() <= own.items():
        return Phase.DECODE
    if pd_group.prefill_labels.items() <= own.items():
        return Phase.PREFILL
    return None


def _ordinal_of(name: str) -> int:
    found = _ORDINAL.search(name)
    return int(found[1]) if found else 0


def _has_condition(status: JsonObject, kind: str) -> bool:
    return any(found.get("type") == kind and found.get("status") == "True" for found in status.get("conditions") or ())


def _read_announcement(text: str | None) -> tuple[PodEndpoints | None, str]:
    if text is None:
        return None, ""
    try:
        announced = PodEndpoints.model_validate_json(text)
    except ValidationError as error:
        return None, "; ".join(problems_of(error))
    if announced.port + announced.ranks - 1 > LAST_PORT:
        return None, f"ranks: {announced.ranks} ranks from port {announced.port} on end above port {LAST_PORT}"
    return announced, ""
