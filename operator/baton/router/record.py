"""What is known of one request when it ends: one line of the access log, and the metrics."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from baton.router.errors import SHOWN
from baton.telemetry import router_metrics
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from baton.routing.types import Choice, Match

_logger = logging.getLogger("baton.router.access")

CLIENT_GONE = 499
"""The status logged for a client that left before its answer (nginx's)."""


@dataclass(slots=True)
class RequestRecord:
    """Filled in as the request goes on. Times are the loop's; `reason` is `ok` or a bounded word for why not.

    `replays` says, for each time that the answer went on elsewhere, what had ended it and how it went on.
    """

    method: str
    path: str
    began: float
    request_id: str = ""
    status: int = 0
    reason: str = "ok"
    error: str = ""
    model: str = ""
    match: Match | None = None
    choice: Choice | None = None
    attempts: int = 0
    replays: list[str] = field(default_factory=list)
    first_byte: float | None = None
    sent: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def close(self, now: float) -> None:
        """Count the request and log it."""
        model, route = (self.model, self.match.route) if self.match is not None else ("unknown", "unknown")
        router_metrics.requests(model, route, str(self.status), self.reason).inc()
        router_metrics.duration(model, route).observe(now - self.began)
        if self.first_byte is not None:
            router_metrics.first_byte(model, route).observe(self.first_byte - self.began)
        event(_logger, logging.INFO, "request", **self._fields(now))

    def _fields(self, now: float) -> dict[str, Any]:
        match, choice = self.match, self.choice
        prefill = choice.prefill if choice is not None else None
        fields = {
            "method": self.method,
            "path": self.path[:SHOWN],
            "status": self.status,
            "model": self.model[:SHOWN],
            "route": match.route if match is not None else "",
            "backend": match.backend.name if match is not None else "",
            "prefill": prefill.name if prefill is not None else "",
            "decode": choice.decode.name if choice is not None else "",
            "request_id": self.request_id,
            "bytes": self.sent,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "first_byte_ms": _milliseconds(self.first_byte, self.began),
            "total_ms": _milliseconds(now, self.began),
            "attempts": self.attempts,
            "replays": len(self.replays) or None,
            "replay_reasons": ", ".join(dict.fromkeys(self.replays)),
            "reason": self.reason,
            "error": self.error,
        }
        return {name: value for name, value in fields.items() if value not in {None, ""}}


def _milliseconds(end: float | None, start: float) -> float | None:
    return None if end is None else round((end - start) * 1000, 1)
