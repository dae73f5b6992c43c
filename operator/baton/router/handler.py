"""Runs the story of each request for a model, and accounts for it however it ends. Tells no story itself."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING

from baton.router.errors import ApiError
from baton.router.record import CLIENT_GONE, RequestRecord
from baton.router.story import Services, Story
from baton.telemetry import router_metrics
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.router.wire.client_response import ClientResponse
    from baton.router.wire.messages import Request

_logger = logging.getLogger(__name__)

_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

_STOPPING = ApiError(503, "router_stopping", "The router is stopping and could not finish this request; send it again.")
_BUG = ApiError(500, "internal_error", "The router failed; its log says why.")


class Handler:
    """Answers requests for models."""

    def __init__(self, services: Services, *, request_ids: Callable[[], str]) -> None:
        """Use `request_ids` for a client that sends no X-Request-Id, or none that is safe to pass on."""
        self._services = services
        self._request_ids = request_ids

    async def handle(self, request: Request, response: ClientResponse, *, is_generation: bool) -> None:
        """Answer a request; only a completion (`is_generation`) can go through prefill and decode."""
        loop = asyncio.get_running_loop()
        record = RequestRecord(request.method, request.path, loop.time(), self._request_id(request))
        story = Story(self._services, request, response, record, is_generation=is_generation)
        router_metrics.IN_FLIGHT.inc()
        try:
            error = await story.tell()
            if error is not None:
                story.end(error)
        except asyncio.CancelledError:
            if response.is_cut:
                story.end(_STOPPING)
            else:
                record.reason = "client_gone"
                record.status = CLIENT_GONE
            raise
        except Exception as bug:  # noqa: BLE001 # the root of a request: whatever is wrong with it, the others go on
            story.end(_BUG)
            event(_logger, logging.ERROR, "request failed", request_id=record.request_id, exc_info=bug)
        finally:
            router_metrics.IN_FLIGHT.dec()
            record.status = record.status or response.status
            record.sent = response.sent
            record.close(loop.time())

    def _request_id(self, request: Request) -> str:
        given = request.header(b"x-request-id") or b""
        return given.decode() if _SANE_ID.fullmatch(given) else self._request_ids()
