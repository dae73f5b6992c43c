"""The requests of a decode that wait for a prefill to push their KV. Sends nothing; nothing here ends by itself."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.sim.kv import KVError, KVErrorReason
from baton.sim.transfer import compare_terms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.sim.layerwise import Push
    from baton.sim.transfer import TransferSide


@dataclass(frozen=True, slots=True)
class _Arrival:
    block_ids: tuple[int, ...]
    fingerprint: str
    done: asyncio.Future[None]


class Arrivals:
    """By the id that the request has outside the engine."""

    def __init__(self, side: TransferSide) -> None:
        self.received = 0
        self._side = side
        self._waiting: dict[str, _Arrival] = {}

    @contextmanager
    def expect(
        self, request_id: str, *, block_ids: tuple[int, ...], fingerprint: str
    ) -> Iterator[asyncio.Future[None]]:
        """Give a future that ends with the KV, or with KVError when what comes is wrong.

        Raises:
            KVError: another request has this id.
        """
        if request_id in self._waiting:
            raise KVError(KVErrorReason.INVALID, f"another request waits as {request_id}; give each an id of its own")
        arrival = _Arrival(block_ids, fingerprint, asyncio.get_running_loop().create_future())
        self._waiting[request_id] = arrival
        try:
            yield arrival.done
        finally:
            del self._waiting[request_id]

    def take(self, push: Push) -> None:
        """Let the KV of a request arrive.

        Raises:
            KVError: nobody waits for it, or it is not what was asked for; who waits for that fails, too.
        """
        arrival = self._waiting.get(push.request_id)
        if push.engine_id != self._side.engine_id or arrival is None:
            message = f"nobody waits for {push.request_id} here; send prefill under decode's X-Request-Id and endpoint"
            raise KVError(KVErrorReason.UNKNOWN, message)
        try:
            self._check(push, arrival)
        except KVError as error:
            if not arrival.done.done():
                arrival.done.set_exception(error)
            raise
        if not arrival.done.done():
            self.received += 1
            arrival.done.set_result(None)

    def _check(self, push: Push, arrival: _Arrival) -> None:
        compare_terms(prefill=push.terms, decode=self._side.terms)
        if push.fingerprint != arrival.fingerprint:
            raise KVError(KVErrorReason.MISMATCH, f"the KV pushed for {push.request_id} is of another prompt")
        if push.block_ids != arrival.block_ids:
            message = f"the blocks are not those of {push.request_id}; pass what the metaserver is told on unchanged"
            raise KVError(KVErrorReason.MISMATCH, message)
