from __future__ import annotations

from prometheus_client import REGISTRY

from baton.telemetry import router_metrics


def test_the_series_of_a_label_set_is_looked_up_once() -> None:
    router_metrics.tries("test-backend", "ok").inc()

    assert router_metrics.tries("test-backend", "ok") is router_metrics.tries("test-backend", "ok")
    assert REGISTRY.get_sample_value("baton_router_tries_total", {"backend": "test-backend", "result": "ok"}) == 1
