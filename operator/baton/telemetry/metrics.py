"""The metrics of the operator's machinery, each declared once. The router's are in baton.telemetry.router_metrics.

Names and labels are those of client-go and controller-runtime where they have one, so that existing dashboards fit.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each counter and histogram, which nobody charts

_SHORT = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0)

WORKQUEUE_DEPTH = Gauge("workqueue_depth", "Keys that wait for a worker now, delayed ones not counted.", ["name"])
WORKQUEUE_ADDS = Counter("workqueue_adds", "Keys put into the queue, repeats of a waiting key not counted.", ["name"])
WORKQUEUE_QUEUE_DURATION = Histogram(
    "workqueue_queue_duration_seconds", "How long a key waited for a worker.", ["name"], buckets=_SHORT
)
WORKQUEUE_WORK_DURATION = Histogram(
    "workqueue_work_duration_seconds", "How long a worker held a key.", ["name"], buckets=_SHORT
)
WORKQUEUE_RETRIES = Counter("workqueue_retries", "Keys put back after a failure.", ["name"])
WORKQUEUE_BACKOFFS_CUT = Counter(
    "workqueue_backoffs_cut", "Back-offs that ended early because the key was added again.", ["name"]
)

CONTROLLER_RECONCILES = Counter(
    "controller_reconcile", "Reconciles by result: success, requeue, error, terminal.", ["controller", "result"]
)

REFLECTOR_LISTS = Counter("reflector_lists", "Complete lists.", ["name"])
REFLECTOR_ERRORS = Counter("reflector_errors", "Failed lists and watches by reason.", ["name", "reason"])
REFLECTOR_EVENTS = Counter("reflector_events", "Lines of watches, bookmarks included.", ["name"])
REFLECTOR_AGE = Gauge("reflector_age_seconds", "Time since the API server was last heard.", ["name"])
REFLECTOR_OBJECTS = Gauge("reflector_objects", "Objects in the store.", ["name"])

REST_REQUESTS = Counter("rest_client_requests", "Answers of the API server by verb and code.", ["verb", "code"])
REST_DURATION = Histogram(
    "rest_client_request_duration_seconds", "Time of one try of a call, watches excluded.", ["verb"], buckets=_SHORT
)

EVENTS_RECORDED = Counter(
    "events_recorded", "Kubernetes events by result: sent, repeated (counted, not sent), dropped, failed.", ["result"]
)

LEADER_STATUS = Gauge("leader_election_master_status", "1 while this process leads by the lease, else 0.", ["name"])

EVENT_LOOP_LAG = Gauge("event_loop_lag_seconds", "How late the event loop woke a sleeper, last measurement.")
