from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from baton.telemetry.merging import merge_metrics


def shown(*, requests: dict[str, int], running: float, lag: float, seconds: tuple[float, ...]) -> str:
    """Return what one process shows."""
    registry = CollectorRegistry()
    counter = Counter("requests", "Requests.", ["status"], registry=registry)
    for status, count in requests.items():
        counter.labels(status).inc(count)
    Gauge("running", "Requests now.", registry=registry).set(running)
    Gauge("lag", "Lag.", registry=registry).set(lag)
    Gauge("process_open_fds", "Files.", registry=registry).set(running)
    histogram = Histogram("seconds", "Seconds.", buckets=(1.0, 2.0), registry=registry)
    for value in seconds:
        histogram.observe(value)
    return generate_latest(registry).decode()


ONE = shown(requests={"200": 3, "404": 1}, running=2, lag=0.5, seconds=(0.5, 1.5))
OTHER = shown(requests={"200": 4}, running=1, lag=0.25, seconds=(1.5, 9.0))


def values(text: bytes) -> dict[str, float]:
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_counters_and_histograms_are_added_up() -> None:
    merged = values(merge_metrics([ONE, OTHER], summed={"running"}))

    assert (merged["requests_total 200"], merged["requests_total 404"]) == (7, 1)
    assert [merged[f"seconds_bucket {bound}"] for bound in ("1.0", "2.0", "+Inf")] == [1, 3, 4]
    assert (merged["seconds_count"], merged["seconds_sum"]) == (4, 12.5)


def test_gauges_are_added_up_where_that_makes_sense_and_else_the_largest() -> None:
    merged = values(merge_metrics([ONE, OTHER], summed={"running"}))
    assert (merged["running"], merged["process_open_fds"], merged["lag"]) == (3, 3, 0.5)


def test_one_text_stays_as_it_is() -> None:
    assert merge_metrics([ONE], summed=()).decode() == ONE
