from __future__ import annotations

import pytest
from prometheus_client import REGISTRY, generate_latest

from baton.telemetry import metrics


def test_the_usual_names_are_declared() -> None:
    names = {family.name for family in REGISTRY.collect()}
    assert names >= {
        "workqueue_depth",
        "workqueue_adds",
        "workqueue_queue_duration_seconds",
        "workqueue_work_duration_seconds",
        "workqueue_retries",
        "controller_reconcile",
        "reflector_lists",
        "reflector_age_seconds",
        "event_loop_lag_seconds",
    }


def test_counters_have_no_second_series_for_their_creation() -> None:
    metrics.WORKQUEUE_ADDS.labels("created").inc()
    text = generate_latest(REGISTRY).decode()
    assert 'workqueue_adds_total{name="created"} 1.0' in text
    assert "workqueue_adds_created" not in text


def test_reconciles_are_counted_by_controller_and_result() -> None:
    with pytest.raises(ValueError, match="label"):
        metrics.CONTROLLER_RECONCILES.labels("only the controller")
