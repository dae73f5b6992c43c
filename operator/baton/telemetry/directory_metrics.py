"""The metrics of what the router routes by: documents and endpoints. Those of its requests are declared elsewhere."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

CONFIG_REJECTED = Counter(
    "baton_router_config_rejected", "Documents that were not put in force because something in them is wrong."
)
CONFIG_DOCUMENTS = Gauge("baton_router_config_documents", "Documents in force: one a ModelRoute, or one file.")
PODS_REJECTED = Counter(
    "baton_router_pods_rejected", "Pods that are no endpoints because their endpoint annotation is wrong."
)
ENDPOINTS = Gauge("baton_router_endpoints", "Endpoints that take requests now, by phase.", ["phase"])
EJECTIONS = Counter(
    "baton_router_ejections", "Endpoints left out for a while because calls of them kept failing, by phase.", ["phase"]
)
EJECTED = Gauge("baton_router_endpoints_ejected", "Endpoints that are left out, or probed, after failures.")
