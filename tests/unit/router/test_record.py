from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY

from baton.api.router_config import BackendConfig
from baton.router.record import RequestRecord
from baton.routing.types import Choice, Match
from baton.telemetry.logs import TextFormatter
from routing_builders import decode, prefill

if TYPE_CHECKING:
    import pytest

ROUTE = "default/record-test"
LABELS = {"model": "m", "route": ROUTE}


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_request_leaves_one_line_and_its_numbers(caplog: pytest.LogCaptureFixture) -> None:
    record = RequestRecord("POST", "/v1/x", 10.0, "id-1")
    record.model = "m"
    record.match = Match(ROUTE, "rule", BackendConfig(name="b"), None)
    record.choice = Choice(decode("d"), prefill("p"))
    record.status, record.attempts, record.sent, record.first_byte = 200, 1, 42, 10.25
    record.prompt_tokens, record.completion_tokens = 0, 5
    record.replays = ["recomputed by token ids"] * 2

    with caplog.at_level(logging.INFO, "baton.router.access"):
        record.close(11.5)

    [entry] = caplog.records
    line = TextFormatter().format(entry)
    assert line.endswith(
        f"request method=POST path=/v1/x status=200 model=m route={ROUTE} backend=b prefill=p decode=d request_id=id-1"
        " bytes=42 prompt_tokens=0 completion_tokens=5 first_byte_ms=250.0 total_ms=1500.0 attempts=1 replays=2"
        ' replay_reasons="recomputed by token ids" reason=ok'
    )
    assert value("baton_router_requests_total", **LABELS, status="200", reason="ok") == 1
    assert value("baton_router_request_duration_seconds_sum", **LABELS) == 1.5
    assert value("baton_router_time_to_first_byte_seconds_sum", **LABELS) == 0.25


def test_a_model_that_no_route_knows_is_no_label(caplog: pytest.LogCaptureFixture) -> None:
    labels = {"model": "unknown", "route": "unknown", "status": "404", "reason": "model_not_found"}
    before = value("baton_router_requests_total", **labels)
    record = RequestRecord("POST", "/v1/x", 0.0, status=404, reason="model_not_found", model="any thing")

    with caplog.at_level(logging.INFO, "baton.router.access"):
        record.close(0.0)

    assert value("baton_router_requests_total", **labels) == before + 1
    assert 'model="any thing"' in TextFormatter().format(caplog.records[0])
