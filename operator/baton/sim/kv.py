"""The KV blocks of one engine: reserved by running requests, held by finished prefills until a decode pulls them.

Book-keeping only: takes the time as an argument, waits for nothing, moves no bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

# Enough to tell a reused from an unknown request id for as long as any test or demonstration looks back.
_REMEMBERED: Final = 65536


class KVErrorReason(StrEnum):
    """Why a hand-over failed."""

    INVALID = "invalid"
    ROLE = "role"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"
    REUSED = "reused"
    EXPIRED = "expired"
    MISMATCH = "mismatch"


class KVError(Exception):
    """A hand-over that failed, with a message for the client."""

    def __init__(self, reason: KVErrorReason, message: str) -> None:
        super().__init__(f"KV transfer failed ({reason}): {message}")
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class HeldKV:
    """KV of one prompt that waits to be pulled; expires_at is in seconds of the clock that hold was given."""

    request_id: str
    fingerprint: str
    block_ids: tuple[int, ...]
    expires_at: float


class KVCache:
    """Blocks in use, and who may pull which."""

    def __init__(self, *, capacity: int, timeout: float) -> None:
        """Start empty, with a capacity in blocks and the seconds after which unfetched KV is freed."""
        self.capacity = capacity
        self.used = 0
        self.pulled = 0
        self.expired = 0
        self._timeout = timeout
        self._next_block = 0
        # Every hold lasts equally long, so insertion order is the order of expiry.
        self._held: dict[str, HeldKV] = {}
        self._gone: dict[str, KVErrorReason] = {}

    @property
    def held(self) -> tuple[HeldKV, ...]:
        """What waits to be pulled, the oldest first."""
        return tuple(self._held.values())

    @property
    def held_blocks(self) -> int:
        """Blocks that wait to be pulled."""
        return sum(len(held.block_ids) for held in self._held.values())

    @property
    def next_expiry(self) -> float | None:
        """When the oldest KV expires, or None when nothing is held."""
        return next(iter(self._held.values())).expires_at if self._held else None

    def reserve(self, blocks: int) -> bool:
        """Take free blocks for a request that starts; False if there are too few."""
        if self.used + blocks > self.capacity:
            return False
        self.used += blocks
        return True

    def release(self, blocks: int) -> None:
        """Give back reserved blocks that are not held."""
        self.used -= blocks

    def name_blocks(self, blocks: int) -> tuple[int, ...]:
        """Return ids for reserved blocks that another engine is to know."""
        first = self._next_block
        self._next_block = (first + blocks) % self.capacity
        return tuple((first + offset) % self.capacity for offset in range(blocks))

    def hold(self, request_id: str, *, fingerprint: str, blocks: int, now: float) -> HeldKV:
        """Keep reserved blocks of a finished prefill until pull or expire frees them."""
        held = HeldKV(request_id, fingerprint, self.name_blocks(blocks), now + self._timeout)
        self._held[request_id] = held
        return held

    def pull(self, request_id: str, *, fingerprint: str, block_ids: Sequence[int], now: float) -> HeldKV:
        """Hand the KV of this request over and free it: the DONE of the real protocol.

        Raises:
            KVError: it is unknown, was pulled before, has expired, or is of another prompt; then it stays as it was.
        """
        self.expire(now)
        held = self._held.get(request_id)
        if held is None:
            raise self._absent(request_id)
        if fingerprint != held.fingerprint:
            raise KVError(
                KVErrorReason.MISMATCH,
                f"the KV of {request_id} is of another prompt; prefill and decode must get the same prompt",
            )
        if tuple(block_ids) != held.block_ids:
            raise KVError(
                KVErrorReason.MISMATCH,
                f"remote_block_ids are not those of {request_id}; pass kv_transfer_params on unchanged",
            )
        self._free(held, KVErrorReason.REUSED)
        self.pulled += 1
        return held

    def expire(self, now: float) -> list[HeldKV]:
        """Free what nobody pulled in time and return it."""
        overdue: list[HeldKV] = []
        while self._held and (oldest := next(iter(self._held.values()))).expires_at <= now:
            self._free(oldest, KVErrorReason.EXPIRED)
            overdue.append(oldest)
        self.expired += len(overdue)
        return overdue

    def _free(self, held: HeldKV, reason: KVErrorReason) -> None:
        del self._held[held.request_id]
        self.used -= len(held.block_ids)
        self._gone[held.request_id] = reason
        if len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def _absent(self, request_id: str) -> KVError:
        reason = self._gone.get(request_id, KVErrorReason.UNKNOWN)
        match reason:
            case KVErrorReason.REUSED:
                message = f"the KV of {request_id} was pulled before; each decode needs a prefill of its own"
            case KVErrorReason.EXPIRED:
                message = f"the KV of {request_id} expired after {self._timeout:g} s; send the decode sooner"
            case _:
                message = f"this prefill holds no KV of {request_id}"
        return KVError(reason, message)
