"""The counters of one engine and their Prometheus text, under vLLM's metric names (and "sim:" for what vLLM lacks).

Plain numbers instead of prometheus_client's metric objects: a process has thousands of engines. Decides nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from baton.sim.generation import FinishReason
from baton.sim.kv import KVErrorReason
from baton.sim.transfer import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from baton.sim.kv import KVCache

# The buckets of vLLM's own histograms, in seconds.
_FIRST_TOKEN_BUCKETS: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_TOKEN_BUCKETS: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
_REQUEST_BUCKETS: Final = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0),
    *(50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)


class Histogram:
    """Counts of values by bucket, as Prometheus wants them."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._total += seconds

    @property
    def total(self) -> float:
        """The sum of all values, in seconds."""
        return self._total

    def cumulate(self) -> list[tuple[str, float]]:
        """Return pairs of upper bound and count of values up to it."""
        names = [*map(str, self._bounds), "+Inf"]
        return list(zip(names, accumulate(self._counts), strict=True))


@dataclass(slots=True)
class EngineCounters:
    """What one engine has done since it was first asked."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    kv_errors: Counter[str] = field(default_factory=Counter)
    first_token: Histogram = field(default_factory=lambda: Histogram(_FIRST_TOKEN_BUCKETS))
    inter_token: Histogram = field(default_factory=lambda: Histogram(_TOKEN_BUCKETS))
    queue: Histogram = field(default_factory=lambda: Histogram(_REQUEST_BUCKETS))
    prefill: Histogram = field(default_factory=lambda: Histogram(_REQUEST_BUCKETS))
    decode: Histogram = field(default_factory=lambda: Histogram(_REQUEST_BUCKETS))
    request: Histogram = field(default_factory=lambda: Histogram(_REQUEST_BUCKETS))


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

    def format(self) -> bytes:
        """Return the Prometheus text."""
        return generate_latest(self)

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
