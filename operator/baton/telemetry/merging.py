"""Merges the metrics of several processes of one program into what the program as a whole would show.

Fetches nothing: it takes texts in Prometheus's format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_PROCESS_GAUGES = frozenset({"process_virtual_memory_bytes", "process_resident_memory_bytes", "process_open_fds"})

_Labels = tuple[tuple[str, str], ...]


class _Merged:
    """A collector of metrics that have been merged."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def merge_metrics(texts: Iterable[str], *, summed: Collection[str]) -> bytes:
    """Return one text with every counter and histogram added up.

    Gauges are added up if they are `summed`, or tell the size of a process; of others it is the largest.
    """
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, _Labels], float]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            families.setdefault(family.name, family)
            found = values.setdefault(family.name, {})
            is_largest = family.type == "gauge" and family.name not in summed and family.name not in _PROCESS_GAUGES
            for sample in family.samples:
                key = (sample.name, tuple(sample.labels.items()))
                if key not in found:
                    found[key] = sample.value
                else:
                    found[key] = max(found[key], sample.value) if is_largest else found[key] + sample.value
    registry = CollectorRegistry()
    registry.register(_Merged(_metric_of(family, values[name]) for name, family in families.items()))
    return generate_latest(registry)


def _metric_of(family: Metric, values: dict[tuple[str, _Labels], float]) -> Metric:
    merged = Metric(family.name, family.documentation, family.type)
    for (name, labels), value in values.items():
        merged.add_sample(name, dict(labels), value)
    return merged
