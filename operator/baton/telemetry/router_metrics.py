"""The metrics of the router's data path, each declared once.

Label values come from the configuration or from enumerations, never from a client, so their number is bounded; the
series of a label set is looked up once and kept, because that look-up costs more than counting.
"""

from __future__ import annotations

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

REQUESTS = Counter(
    "baton_router_requests",
    "Requests by result: model and route (unknown before a route matched), status, and reason (ok, or why not).",
    ["model", "route", "status", "reason"],
)
DURATION = Histogram(
    "baton_router_request_duration_seconds",
    "Time from a whole request to the end of its answer.",
    ["model", "route"],
    buckets=_SECONDS,
)
FIRST_BYTE = Histogram(
    "baton_router_time_to_first_byte_seconds",
    "Time from a whole request to the first byte of the engine's answer.",
    ["model", "route"],
    buckets=_SECONDS,
)
IN_FLIGHT = Gauge("baton_router_requests_in_flight", "Requests being served.")
CONNECTIONS = Gauge("baton_router_client_connections", "Open connections of clients.")
TRIES = Counter("baton_router_tries", "Tries of requests at endpoints by result: ok, failed.", ["backend", "result"])
UPSTREAM_ERRORS = Counter(
    "baton_router_upstream_errors", "Failed calls of engines by phase and kind.", ["backend", "phase", "kind"]
)
REPLAYS = Counter(
    "baton_router_replays", "Streams that went on elsewhere, by what had ended them before.", ["backend", "kind"]
)
KV_HELD = Gauge("baton_router_kv_held", "Prefill results that no decode is known to have pulled yet.")
KV_SETTLED = Counter(
    "baton_router_kv_settled",
    "Prefill results by outcome: pulled by their decode, reclaimed, or expired (left to the engine's own timeout).",
    ["outcome"],
)
WORKER_DEATHS = Counter("baton_router_worker_deaths", "Workers that ended by themselves and were replaced.")

SUMMED_GAUGES = frozenset(
    {"baton_router_requests_in_flight", "baton_router_client_connections", "baton_router_kv_held"}
)
"""The gauges that are shared out among workers; of the others all workers show the same, or the worst is told."""

requests = cache(REQUESTS.labels)
duration = cache(DURATION.labels)
first_byte = cache(FIRST_BYTE.labels)
tries = cache(TRIES.labels)
upstream_errors = cache(UPSTREAM_ERRORS.labels)
replays = cache(REPLAYS.labels)
kv_settled = cache(KV_SETTLED.labels)


def settle_kv(outcome: str) -> None:
    """Count a prefill result as held no more."""
    KV_HELD.dec()
    kv_settled(outcome).inc()
