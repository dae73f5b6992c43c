"""What all workers together tell on the admin port: asks each of them, and adds the answers up."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import orjson
from prometheus_client import generate_latest

from baton.router.call import UpstreamError
from baton.router.engine_client import EngineClient
from baton.telemetry.merging import merge_metrics
from baton.telemetry.router_metrics import SUMMED_GAUGES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from baton.router.worker_slot import WorkerSlot

_WITHIN = 2.0
"""Seconds for each worker's answer."""


class WorkerInsight:
    """An `Insight` into workers. A worker that is being replaced is left out; one that does not answer is not ready."""

    def __init__(self, slots: Sequence[WorkerSlot], is_stopping: Callable[[], bool]) -> None:
        self._slots = slots
        self._is_stopping = is_stopping
        self._client = EngineClient(tls=None, within=_WITHIN)

    async def is_ready(self) -> bool:
        """Return whether every worker there is wants new requests, and there is one."""
        return not self._is_stopping() and await self._agree("/readyz")

    async def are_alive(self) -> bool:
        """Return whether every worker there is answers, and there is one."""
        return await self._agree("/healthz")

    async def metrics(self) -> bytes:
        """Return the metrics of all workers and of this process, merged."""
        answers = await self._ask_all("/metrics")
        texts = [generate_latest(), *(answer for answer in answers if answer is not None)]
        return merge_metrics([text.decode() for text in texts], summed=SUMMED_GAUGES)

    async def loads(self) -> Mapping[str, int]:
        """Return the requests in flight by endpoint name, of all workers."""
        total: Counter[str] = Counter()
        for answer in await self._ask_all("/loads"):
            if answer is not None:
                total.update(orjson.loads(answer))
        return total

    def close(self) -> None:
        """Close the connections to the workers."""
        self._client.close()

    async def _agree(self, path: str) -> bool:
        answers = await self._ask_all(path)
        return bool(answers) and None not in answers

    async def _ask_all(self, path: str) -> list[bytes | None]:
        """Return each worker's answer, None for one that gives none or a refusal."""
        running = [slot for slot in self._slots if slot.is_running]
        return await asyncio.gather(*(self._ask(slot, path) for slot in running))

    async def _ask(self, slot: WorkerSlot, path: str) -> bytes | None:
        try:
            answer = await self._client.ask("GET", path, slot.endpoint)
        except UpstreamError:
            return None
        return answer.body if answer.head.status == 200 else None
