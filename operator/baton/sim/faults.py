"""What an engine is told to do wrong. Does nothing wrong itself: engine and application ask here, and obey."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import orjson

from baton.sim.requests import RequestError
from baton.sim.transfer import Kind

if TYPE_CHECKING:
    from baton.sim.generation import Generation

RECOMPUTED: Final = "recomputed"
"""The stop_reason of a request that vLLM-Ascend's recompute scheduler has given up for want of KV blocks."""


class FaultKind(StrEnum):
    """How a request goes wrong."""

    REFUSE = "refuse"
    """Answered with status 503."""

    RECOMPUTE = "recompute"
    """Given up for want of KV blocks."""

    ABORT = "abort"
    """Ended with finish_reason "abort", as by an engine that stops."""

    CUT = "cut"
    """The connection is reset, as by an engine that dies."""

    STALL = "stall"
    """Nothing more comes."""

    END = "end"
    """The stream ends without a finish_reason."""

    ERROR = "error"
    """An error is reported in the stream."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """A fault, when a request has `after` tokens, or with chance `rate` at each token.

    Attributes:
        phase: the requests it befalls; None for all.
        times: how often it strikes yet, None for ever.
    """

    kind: FaultKind
    phase: Kind | None = None
    after: int = 0
    rate: float | None = None
    times: int | None = None

    def strikes(self, generation: Generation) -> bool:
        """Tell whether it befalls a request now, before its next token, and count it."""
        number = len(generation.tokens)
        if self.times == 0 or self.phase not in {None, generation.kind}:
            return False
        if self.rate is None:
            if number != self.after:
                return False
        elif zlib.crc32(f"{generation.request_id}\0{number}".encode()) >= self.rate * 2**32:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class FaultError(Exception):
    """A request that goes wrong now."""

    def __init__(self, kind: FaultKind) -> None:
        super().__init__(f"told to {kind}")
        self.kind = kind


def read_faults(raw: bytes) -> list[Fault]:
    """Read the body of POST /sim/faults: a list of objects with the fields of Fault.

    Raises:
        RequestError: it is something else.
    """
    try:
        return [_read_fault(**fields) for fields in orjson.loads(raw)]
    except (ValueError, TypeError) as error:
        raise RequestError(f"not a list of faults: {error}") from error


def _read_fault(*, kind: str, phase: str | None = None, **fields: Any) -> Fault:
    return Fault(kind=FaultKind(kind), phase=None if phase is None else Kind(phase), **fields)
