from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from baton.sim.counters import EngineCounters
from baton.sim.generation import FinishReason
from baton.sim.kv import KVCache, KVErrorReason
from baton.sim.metrics import EngineMetrics
from baton.sim.transfer import Kind


def scrape(counters: EngineCounters, cache: KVCache) -> dict[str, float]:
    """Return every sample, keyed by its name and the labels that are its own."""
    text = generate_latest(EngineMetrics("m", 3, 2, counters, cache)).decode()
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            own = {name: value for name, value in sample.labels.items() if name not in {"model_name", "engine"}}
            assert sample.labels["model_name"] == "m"
            assert sample.labels["engine"] == "0"
            samples[" ".join([sample.name, *own.values()])] = sample.value
    return samples


def test_vllms_names_show_the_engines_numbers() -> None:
    cache = KVCache(capacity=8, timeout=1.0)
    cache.reserve(2)
    cache.hold("a", fingerprint="", blocks=2, now=0.0)
    counters = EngineCounters(prompt_tokens=5, generation_tokens=7)
    counters.requests[Kind.DECODE] += 1
    counters.finished[FinishReason.LENGTH] += 4
    counters.kv_errors[KVErrorReason.REUSED] += 1
    samples = scrape(counters, cache)
    assert samples["vllm:num_requests_running"] == 3
    assert samples["vllm:num_requests_waiting"] == 2
    assert samples["vllm:kv_cache_usage_perc"] == 0.25
    assert samples["vllm:prompt_tokens_total"] == 5
    assert samples["vllm:generation_tokens_total"] == 7
    assert samples["vllm:request_success_total length"] == 4
    assert samples["vllm:request_success_total abort"] == 0
    assert samples["sim:kv_blocks_held"] == 2
    assert samples["sim:kv_errors_total reused"] == 1
    assert samples["sim:requests_total decode"] == 1
    cache.expire(2.0)
    samples = scrape(counters, cache)
    assert (samples["sim:kv_expired_total"], samples["sim:kv_pulled_total"], samples["sim:kv_blocks_held"]) == (1, 0, 0)


def test_latencies_are_counted_by_bucket() -> None:
    counters = EngineCounters()
    for seconds in (0.001, 0.003, 5000.0):
        counters.first_token.observe(seconds)
    samples = scrape(counters, KVCache(capacity=8, timeout=1.0))
    name = "vllm:time_to_first_token_seconds"
    assert samples[f"{name}_bucket 0.001"] == 1
    assert samples[f"{name}_bucket 0.005"] == 2
    assert samples[f"{name}_bucket 2560.0"] == 2
    assert samples[f"{name}_bucket +Inf"] == samples[f"{name}_count"] == 3
    assert samples[f"{name}_sum"] == 5000.004
