"""The counters of one engine: plain numbers, because a process may have thousands of engines. Formats nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

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
