"""The Prometheus text of one engine, under vLLM's metric names (and "sim:" for what vLLM lacks). Counts nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from baton.sim.generation import FinishReason
from baton.sim.kv import KVErrorReason
from baton.sim.transfer import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from baton.sim.counters import EngineCounters
    from baton.sim.engine import Engine
    from baton.sim.kv import KVCache

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


def format_metrics(engine: Engine) -> bytes:
    """Return the Prometheus text of an engine."""
    return generate_latest(EngineMetrics(engine.model, engine.running, engine.waiting, engine.counters, engine.kv))


@dataclass(frozen=True, slots=True)
class EngineMetrics(Collector):
    """One engine's numbers at the moment of a scrape."""

    model: str
    running: int
    waiting: int
    counters: EngineCounters
    kv: KVCache

    @override
    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its samples."""
        yield from self._gauges()
        yield from self._counters()
        yield from self._labelled_counters()
        yield from self._histograms()

    # One engine a process is what a DP rank is, and the engine of such a process is number 0.
    @property
    def _labels(self) -> dict[str, str]:
        return {"model_name": self.model, "engine": "0"}

    def _gauges(self) -> Iterator[Metric]:
        for name, text, value in (
            ("vllm:num_requests_running", "Requests being computed.", self.running),
            ("vllm:num_requests_waiting", "Requests that wait for blocks, their turn or remote KV.", self.waiting),
            ("vllm:kv_cache_usage_perc", "KV blocks in use, 0 to 1.", self.kv.used / self.kv.capacity),
            ("sim:kv_blocks_held", "KV blocks of finished prefills that wait to be pulled.", self.kv.held_blocks),
        ):
            family = GaugeMetricFamily(name, text, labels=list(self._labels))
            family.add_metric(list(self._labels.values()), value)
            yield family

    def _counters(self) -> Iterator[Metric]:
        for name, text, value in (
            ("vllm:prompt_tokens", "Prompt tokens of admitted requests.", self.counters.prompt_tokens),
            ("vllm:generation_tokens", "Generated tokens.", self.counters.generation_tokens),
            ("sim:kv_pulled", "Prompts whose KV a decode pulled from here.", self.kv.pulled),
            ("sim:kv_expired", "Prompts whose KV nobody pulled in time.", self.kv.expired),
        ):
            family = CounterMetricFamily(name, text, labels=list(self._labels))
            family.add_metric(list(self._labels.values()), value)
            yield family

    def _labelled_counters(self) -> Iterator[Metric]:
        counters = self.counters
        for name, text, label, values, count in (
            ("vllm:request_success", "Finished requests.", "finished_reason", FinishReason, counters.finished),
            ("sim:kv_errors", "Hand-overs that failed at this decode.", "reason", KVErrorReason, counters.kv_errors),
            ("sim:requests", "Requests by what they are to this engine.", "kind", Kind, counters.requests),
        ):
            family = CounterMetricFamily(name, text, labels=[*self._labels, label])
            for value in values:
                family.add_metric([*self._labels.values(), value], count[value])
            yield family

    def _histograms(self) -> Iterator[Metric]:
        counters = self.counters
        for name, text, histogram in (
            ("vllm:time_to_first_token_seconds", "From arrival to the first token.", counters.first_token),
            ("vllm:inter_token_latency_seconds", "Between two tokens of a request.", counters.inter_token),
            ("vllm:request_queue_time_seconds", "From arrival until the request runs.", counters.queue),
            ("vllm:request_prefill_time_seconds", "From the start to the first token.", counters.prefill),
            ("vllm:request_decode_time_seconds", "From the first to the last token.", counters.decode),
            ("vllm:e2e_request_latency_seconds", "From arrival to the last token.", counters.request),
        ):
            family = HistogramMetricFamily(name, text, labels=list(self._labels))
            family.add_metric(list(self._labels.values()), histogram.cumulate(), histogram.total)
            yield family
