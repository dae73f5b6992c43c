"""What no engine can be made to do on purpose; all else is on sockets in tests/functional/test_router_engines.py."""

from __future__ import annotations

import asyncio

import pytest

from baton.router.call import Answer
from baton.router.wire.failures import StaleConnectionError
from baton.router.wire.upstream_connection import UpstreamConnection
from baton.routing.types import Endpoint
from transport_fixture import RecordingTransport


class ClosingTransport(RecordingTransport):
    def is_closing(self) -> bool:
        return True


async def test_a_connection_that_was_closed_before_its_request_is_stale() -> None:
    transport = ClosingTransport()
    connection = UpstreamConnection(asyncio.get_running_loop(), lambda _: None)
    connection.connection_made(transport)
    sink = Answer(Endpoint("d", "10.0.0.1", 8000), limit=1)

    with pytest.raises(StaleConnectionError):
        await connection.send([b"request"], sink, deadline=1.0, stall_time=1.0)
    assert transport.writes == []
