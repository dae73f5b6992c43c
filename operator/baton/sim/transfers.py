"""One engine's part in hand-overs of every kind: how the KV of a prompt comes in, and where it goes.

Computes no prompt and reserves no blocks: the engine does.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from baton.sim.arrivals import Arrivals
from baton.sim.kv import KVError, KVErrorReason
from baton.sim.layerwise import Invitation, Push, Target, check_target, describe_blocks, external_id, read_target
from baton.sim.rooms import Meeting, Rooms
from baton.sim.transfer import Demand, Kind, KVSource, check_kind, check_source, read_text, read_transfer
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from baton.sim.counters import EngineCounters
    from baton.sim.generation import Generation
    from baton.sim.kv import KVCache
    from baton.sim.peers import Peers
    from baton.sim.requests import GenerationRequest
    from baton.sim.transfer import TransferSide

Source = KVSource | Invitation | Target | Meeting | None
"""The other side of a hand-over; None for a prefill that holds its KV, and where nothing is handed over."""

_LOG: Final = logging.getLogger(__name__)


def read_hand_over(request: GenerationRequest, side: TransferSide, *, address: str, port: int) -> tuple[Kind, Source]:
    """Tell what a request is to an engine of this side at this place, and where its KV comes from or goes to.

    Raises:
        KVError: the request is for an engine that was started otherwise, or its parameters are incomplete.
    """
    if (bootstrap := request.bootstrap) is not None:
        kind = Kind.PREFILL if bootstrap.host == address else Kind.DECODE
        return kind, Meeting(bootstrap.host, bootstrap.port or port, bootstrap.room)
    kind, source = _read_layerwise(request.kv_transfer_params) or read_transfer(request.kv_transfer_params)
    is_layerwise = isinstance(source, Invitation | Target)
    if kind is not Kind.AGGREGATED and side.is_layerwise not in {None, is_layerwise}:
        way = "decode first (do_remote_prefill and metaserver)" if side.is_layerwise else "prefill first"
        raise KVError(KVErrorReason.INVALID, f"this engine hands over {way}; route it by the connector it has")
    check_kind(side, kind)
    return kind, source


def _read_layerwise(parameters: object) -> tuple[Kind, Source] | None:
    if not isinstance(parameters, dict):
        return None
    if parameters.get("do_remote_prefill") and "metaserver" in parameters:
        return Kind.DECODE, Invitation(read_text(parameters, "metaserver"))
    if parameters.get("do_remote_decode") and parameters.get("remote_block_ids") is not None:
        return Kind.PREFILL, read_target(parameters)
    return None


class Transfers:
    """The hand-overs of one engine."""

    def __init__(
        self, side: TransferSide, peers: Peers, *, kv: KVCache, counters: EngineCounters, block_size: int
    ) -> None:
        self.arrivals = Arrivals(side)
        self.rooms = Rooms()
        self._side = side
        self._peers = peers
        self._kv = kv
        self._counters = counters
        self._block_size = block_size
        self._tasks: set[asyncio.Task[Any]] = set()

    async def bring(self, generation: Generation) -> bool:
        """Return whether the KV of the prompt has come from a prefill; False leaves the prompt to be computed.

        Raises:
            KVError: it did not come, and the engine is not to compute it instead.
        """
        match generation.source:
            case KVSource() as source:
                # Once begun the pull completes, even if the client leaves: so does the real one.
                error = await self._pull(generation, source)
            case Invitation() as invitation:
                error = await self._try(self._await_push(generation, invitation), generation)
            case Meeting() as meeting if generation.kind is Kind.DECODE:
                error = await self._try(self._peers.knock(meeting, generation.fingerprint), generation)
            case _:
                return False
        if error is not None and not self._side.recomputes:
            raise error
        return error is None

    @asynccontextmanager
    async def offer(self, generation: Generation) -> AsyncIterator[None]:
        """Compute a prompt inside; its KV goes to a decode that waits for it, if there is one.

        Raises:
            KVError: prefill and decode do not meet.
        """
        match generation.source:
            case Target() as target:
                yield
                # A prefill answers as ever when its push fails: only decode knows.
                await self._try(self._push(generation, target), generation)
            case Meeting() as meeting:
                async with self.rooms.host(meeting.room, fingerprint=generation.fingerprint):
                    yield
            case _:
                yield

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pull(self, generation: Generation, source: KVSource) -> KVError | None:
        async def pull() -> None:
            check_source(self._side, source)
            await self._peers.pull(Demand(source, generation.fingerprint, self._side.terms))

        # Once begun it completes, even if the client leaves: so does the real one.
        task = asyncio.get_running_loop().create_task(self._try(pull(), generation), name=f"pull {source.request_id}")
        self._keep(task)
        return await asyncio.shield(task)

    async def _await_push(self, generation: Generation, invitation: Invitation) -> None:
        block_ids = self._kv.name_blocks(-(-len(generation.request.prompt) // self._block_size))
        told = describe_blocks(generation.request_id, block_ids, self._side, block_size=self._block_size)
        name = external_id(generation.request_id)
        with self.arrivals.expect(name, block_ids=block_ids, fingerprint=generation.fingerprint) as arrival:
            calling = self._peers.call_back(invitation.metaserver, told)
            self._keep(asyncio.get_running_loop().create_task(calling, name=f"call back for {name}"))
            await arrival

    async def _push(self, generation: Generation, target: Target) -> None:
        check_target(self._side, target)
        name = external_id(generation.request_id)
        push = Push(target.engine_id, name, target.block_ids, generation.fingerprint, self._side.terms)
        await self._peers.push(target, push)

    async def _try(self, work: Coroutine[object, object, None], generation: Generation) -> KVError | None:
        try:
            await work
        except KVError as error:
            self._counters.kv_errors[error.reason] += 1
            message = f"KV transfer failed ({error.reason})"
            place = f"{self._side.host} {self._side.port}"
            event(_LOG, logging.WARNING, message, side_channel=place, request_id=generation.request_id)
            return error
        return None

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
