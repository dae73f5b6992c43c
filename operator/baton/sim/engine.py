"""One simulated inference engine: what one DP rank of one pod does with its requests.

A request goes through start (wait for blocks, then compute the prompt's KV or pull it) and then step, once a token.
Only these two take time or can fail: the place for the faults that it is told of.
Knows neither HTTP nor the other engines: its transfers do.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from baton.sim.counters import EngineCounters
from baton.sim.faults import FaultError, FaultKind
from baton.sim.generation import FinishReason, Generation
from baton.sim.kv import KVCache, KVError
from baton.sim.requests import Endpoint, RequestError
from baton.sim.rooms import Meeting
from baton.sim.tokens import LONGEST_ANSWER, History
from baton.sim.transfer import Kind, TransferSide, check_demand, describe_held
from baton.sim.transfers import Transfers, read_hand_over
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.sim.faults import Fault
    from baton.sim.peers import Peers
    from baton.sim.requests import GenerationRequest
    from baton.sim.settings import SimSettings
    from baton.sim.transfer import Demand

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class EngineIdentity:
    """The address and port by which an engine is reached."""

    address: str
    port: int


class Engine:
    """An engine: its KV, its counters and the requests it works on."""

    def __init__(
        self, identity: EngineIdentity, settings: SimSettings, *, peers: Peers, side: TransferSide | None = None
    ) -> None:
        """Make an idle engine that prefills and decodes, unless `side` says otherwise."""
        self.identity = identity
        self.counters = EngineCounters()
        self.faults: list[Fault] = []
        self.kv = KVCache(capacity=settings.kv_blocks, timeout=settings.kv_timeout)
        self._settings = settings
        self._named = 0
        self.side = side or TransferSide(engine_id=self._make_name(), host=identity.address, port=identity.port)
        self.transfers = Transfers(self.side, peers, kv=self.kv, counters=self.counters, block_size=settings.block_size)
        self._step_interval = 1 / settings.tokens_per_second if settings.tokens_per_second else 0.0
        self._step_at = 0.0
        self._next_step: asyncio.Event | None = None
        self._generations: set[Generation] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._prefill_turn = asyncio.Lock()
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def running(self) -> int:
        """Requests whose prompt or answer is being computed."""
        return sum(generation.started_at is not None for generation in self._generations)

    @property
    def waiting(self) -> int:
        """Requests that wait for blocks, for their turn to prefill or for remote KV."""
        return len(self._generations) - self.running

    @property
    def model(self) -> str:
        """The name of the model in metrics."""
        return self._settings.models[0]

    def describe(self) -> dict[str, Any]:
        """Return what /sim/state shows of this engine."""
        return {
            "address": self.identity.address,
            "port": self.identity.port,
            "requests": {kind: self.counters.requests[kind] for kind in Kind},
            "finished": dict(self.counters.finished),
            "running": self.running,
            "waiting": self.waiting,
            "kv": {
                "blocks_used": self.kv.used,
                "blocks_held": self.kv.held_blocks,
                "held": len(self.kv.held),
                "pulled": self.kv.pulled,
                "received": self.transfers.arrivals.received,
                "met": self.transfers.rooms.filled,
                "expired": self.kv.expired,
                "errors": dict(self.counters.kv_errors),
            },
        }

    def name_answer(self, endpoint: Endpoint, client_id: str | None) -> str:
        """Return the id of an answer: from the client's X-Request-Id, or made from the seed."""
        return f"{endpoint}-{client_id or self._make_name()}"

    @contextmanager
    def admit(self, request: GenerationRequest, answer_id: str) -> Iterator[Generation]:
        """Count a request in, and out again however it ends; leaving early is an abort and frees its blocks at once.

        Raises:
            RequestError: it can never fit.
            KVError: its kv_transfer_params are incomplete.
        """
        generation = self._open(request, answer_id)
        self._generations.add(generation)
        self._idle.clear()
        try:
            yield generation
        except KVError:
            generation.finish_reason = FinishReason.ERROR
            raise
        finally:
            self._close(generation)

    async def start(self, generation: Generation) -> None:
        """Bring in the KV of the prompt.

        Raises:
            KVError: the prefill named by a decode does not hand it over.
            FaultError: it is to be refused.
        """
        self._strike(generation, is_new=True)
        await self._wait_for_blocks(generation)
        if await self.transfers.bring(generation):
            self._begin(generation)
            return
        async with self.transfers.offer(generation):
            await self._compute_prompt(generation)

    async def step(self, generation: Generation) -> int:
        """Generate one token in the engine's next step; the last sets finish_reason. Raises FaultError."""
        # Computing a prompt yields the first token too; after a pull it takes a step of its own.
        if generation.tokens or generation.kind is Kind.DECODE:
            await self._wait_for_step()
        self._strike(generation, is_new=False)
        token = generation.draw(eos_rate=self._settings.eos_rate)
        self._count_token(generation)
        is_held = generation.kind is Kind.PREFILL and generation.source is None
        if is_held and generation.finish_reason is FinishReason.LENGTH:
            self._hold(generation)
        return token

    def _strike(self, generation: Generation, *, is_new: bool) -> None:
        for fault in self.faults:
            if (fault.kind is FaultKind.REFUSE) is is_new and fault.strikes(generation):
                raise FaultError(fault.kind)

    def hand_over(self, demand: Demand) -> None:
        """Answer a decode's pull: free the KV it names.

        Raises:
            KVError: there is no such KV here, it is another prompt's, or the decode was started with other sizes.
        """
        check_demand(self.side, demand)
        source = demand.source
        self.kv.pull(source.request_id, fingerprint=demand.fingerprint, block_ids=source.block_ids, now=_now())
        self._admit_waiting()

    async def wait_until_idle(self) -> None:
        """Return when no request is left; KV that is held does not count, as in the real engine."""
        await self._idle.wait()

    async def close(self) -> None:
        """Stop timers and pulls."""
        if self._expiry is not None:
            self._expiry.cancel()
        await self.transfers.close()

    def _open(self, request: GenerationRequest, answer_id: str) -> Generation:
        limit = self._limit_answer(request)
        blocks = self._count_blocks(request, limit)
        try:
            kind, source = read_hand_over(request, self.side, address=self.identity.address, port=self.identity.port)
        except KVError as error:
            self.counters.kv_errors[error.reason] += 1
            raise
        if kind is Kind.PREFILL and isinstance(source, Meeting):
            limit = 1  # that this is prefill, the engine was told at its start, and not by the request
        self.counters.requests[kind] += 1
        self.counters.prompt_tokens += len(request.prompt)
        history = History(seed=self._settings.seed, model=request.model, prompt=request.prompt)
        prompt_number = "-0" if request.endpoint is Endpoint.COMPLETION else ""
        return Generation(
            request=request,
            request_id=f"{answer_id}{prompt_number}-{self._make_name()[:8]}",
            kind=kind,
            source=source,
            history=history,
            fingerprint=history.fingerprint,
            limit=limit,
            blocks=blocks,
            arrived_at=_now(),
        )

    def _limit_answer(self, request: GenerationRequest) -> int:
        room = self._settings.max_model_len - len(request.prompt)
        wanted = request.max_tokens or 1
        if wanted > room:
            raise RequestError(
                f"the prompt of {len(request.prompt)} tokens and an answer of {wanted} are over the model's length of "
                f"{self._settings.max_model_len} tokens; shorten the prompt or lower max_tokens"
            )
        return request.max_tokens or room

    def _count_blocks(self, request: GenerationRequest, limit: int) -> int:
        """Return the blocks of the prompt and the longest answer it can get, all reserved before the start."""
        longest = limit
        if request.max_tokens is None and not request.ignore_eos:
            longest = min(limit, max(request.min_tokens, LONGEST_ANSWER) + 1)
        blocks = self._to_blocks(len(request.prompt) + longest)
        if blocks > self.kv.capacity:
            raise RequestError(f"the request needs {blocks} KV blocks, this engine has {self.kv.capacity}")
        return blocks

    def _to_blocks(self, tokens: int) -> int:
        return -(-tokens // self._settings.block_size)

    def _close(self, generation: Generation) -> None:
        self._generations.remove(generation)
        if not self._generations:
            self._idle.set()
        reason = generation.finish_reason or FinishReason.ABORT
        self.counters.finished[reason] += 1
        if generation.has_blocks:
            self.kv.release(generation.blocks)
            self._admit_waiting()
        if generation.first_token_at is not None:
            self.counters.decode.observe(generation.last_token_at - generation.first_token_at)
            self.counters.request.observe(generation.last_token_at - generation.arrived_at)

    async def _wait_for_blocks(self, generation: Generation) -> None:
        """First come, first served."""
        if self._queue or not self.kv.reserve(generation.blocks):
            ticket = asyncio.get_running_loop().create_future()
            self._queue.append((generation.blocks, ticket))
            try:
                await ticket
            except asyncio.CancelledError:
                # The turn may have come in the same moment.
                if not ticket.cancelled():
                    self.kv.release(generation.blocks)
                self._admit_waiting()
                raise
        generation.has_blocks = True

    def _admit_waiting(self) -> None:
        while self._queue:
            blocks, ticket = self._queue[0]
            if not ticket.cancelled():
                if not self.kv.reserve(blocks):
                    return
                ticket.set_result(None)
            self._queue.popleft()

    async def _compute_prompt(self, generation: Generation) -> None:
        async with self._prefill_turn:
            self._begin(generation)
            if rate := self._settings.prefill_tokens_per_second:
                await asyncio.sleep(len(generation.request.prompt) / rate)

    async def _wait_for_step(self) -> None:
        """Wait until the engine computes the next token of all its requests, as continuous batching does."""
        if not self._step_interval:
            await asyncio.sleep(0)
            return
        if self._next_step is None:
            self._next_step = asyncio.Event()
            self._step_at += self._step_interval
            if self._step_at < (now := _now()):
                self._step_at = now + self._step_interval
            asyncio.get_running_loop().call_at(self._step_at, self._take_step)
        await self._next_step.wait()

    def _take_step(self) -> None:
        if self._next_step is not None:
            self._next_step.set()
            self._next_step = None

    def _begin(self, generation: Generation) -> None:
        generation.started_at = now = _now()
        self.counters.queue.observe(now - generation.arrived_at)

    def _count_token(self, generation: Generation) -> None:
        now = _now()
        self.counters.generation_tokens += 1
        if generation.first_token_at is None:
            generation.first_token_at = now
            self.counters.first_token.observe(now - generation.arrived_at)
            self.counters.prefill.observe(now - (generation.started_at or now))
        else:
            self.counters.inter_token.observe(now - generation.last_token_at)
        generation.last_token_at = now

    def _hold(self, generation: Generation) -> None:
        prompt_blocks = self._to_blocks(len(generation.request.prompt))
        held = self.kv.hold(generation.request_id, fingerprint=generation.fingerprint, blocks=prompt_blocks, now=_now())
        generation.blocks -= prompt_blocks
        generation.kv_transfer_params = describe_held(held, self.side, last_token=generation.tokens[-1])
        self._schedule_expiry()

    def _schedule_expiry(self) -> None:
        if self._expiry is None and (at := self.kv.next_expiry) is not None:
            self._expiry = asyncio.get_running_loop().call_at(at, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        for held in self.kv.expire(_now()):
            self._warn("KV expired unfetched", held.request_id)
        self._admit_waiting()
        self._schedule_expiry()

    def _warn(self, message: str, request_id: str) -> None:
        address, port = self.identity.address, self.identity.port
        event(_LOG, logging.WARNING, message, address=address, port=port, request_id=request_id)

    def _make_name(self) -> str:
        self._named += 1
        origin = f"{self._settings.seed}\0{self.identity.address}\0{self.identity.port}\0{self._named}"
        return blake2b(origin.encode(), digest_size=16).hexdigest()


def _now() -> float:
    return asyncio.get_running_loop().time()
