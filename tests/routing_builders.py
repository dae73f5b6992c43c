"""Short ways to make routing's values in tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from baton.api import labels
from baton.api.endpoints import Phase
from baton.api.router_config import RouterConfig
from baton.routing.types import Endpoint

if TYPE_CHECKING:
    from baton.api.meta import JsonObject

PD_GROUP = {"groupKey": "group", "prefillLabels": {"role": "prefill"}, "decodeLabels": {"role": "decode"}}


def endpoint(name: str, phase: Phase = Phase.AGGREGATED, *, group: str = "", kv_transfer: str = "") -> Endpoint:
    return Endpoint(name, address="10.0.0.1", port=8000, phase=phase, group=group, kv_transfer=kv_transfer)


def prefill(name: str, group: str = "g", kv_transfer: str = "") -> Endpoint:
    return endpoint(name, Phase.PREFILL, group=group, kv_transfer=kv_transfer)


def decode(name: str, group: str = "g", kv_transfer: str = "") -> Endpoint:
    return endpoint(name, Phase.DECODE, group=group, kv_transfer=kv_transfer)


def config(
    model: str = "m", *, name: str = "ns/route", backend: JsonObject | None = None, **route: object
) -> RouterConfig:
    """One route to one backend, called `b` unless `backend` says otherwise."""
    target = {"name": "b", **(backend or {})}
    rules = [{"targets": [{"backend": target["name"]}]}]
    return RouterConfig.model_validate(
        {"routes": [{"name": name, "modelName": model, "rules": rules, **route}], "backends": [target]}
    )


def selector(namespace: str = "ns", **wanted: str) -> JsonObject:
    return {"namespace": namespace, "matchLabels": wanted or {"app": "m"}}


def pod(
    name: str,
    own: dict[str, str] | None = None,
    *,
    namespace: str = "ns",
    address: str = "10.0.0.1",
    ready: bool = True,
    announced: JsonObject | str | None = None,
    annotations: dict[str, str] | None = None,
    deleting: bool = False,
) -> JsonObject:
    """A pod as the API server returns it; `own` are its labels, `app: m` if there are none."""
    noted = dict(annotations or {})
    if announced is not None:
        noted[labels.ENDPOINTS] = announced if isinstance(announced, str) else orjson.dumps(announced).decode()
    metadata: JsonObject = {"name": name, "namespace": namespace, "labels": own or {"app": "m"}, "annotations": noted}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-31T12:00:00Z"
    return {
        "metadata": metadata,
        "status": {
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }
