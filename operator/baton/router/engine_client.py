"""Small questions to engines that belong to no client's request. Retries nothing and judges no answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from baton.api.traffic import Protocol
from baton.router.call import Answer, UpstreamError
from baton.router.wire.exchange import exchange
from baton.router.wire.failures import ExchangeError
from baton.router.wire.pool import Address, ConnectionPool, PoolLimits

if TYPE_CHECKING:
    import ssl

    from baton.routing.types import Endpoint

_LIMITS = PoolLimits(connections=4, idle_connections=1, idle_time=4.0, connect_time=2.0)

_ANSWER_BYTES = 16 * 1024 * 1024


class EngineClient:
    """Asks engines over connections of its own; `close` it."""

    def __init__(self, *, tls: ssl.SSLContext | None, within: float = 5.0) -> None:
        """Give each answer so many seconds; `tls` is for engines that speak HTTPS."""
        self._pool = ConnectionPool(_LIMITS, tls=tls)
        self._within = within

    async def ask(self, method: str, path: str, endpoint: Endpoint) -> Answer:
        """Return an endpoint's whole answer to a request without a body, its status below 500. Raises UpstreamError."""
        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        head = f"{method} {path} HTTP/1.1\r\nhost: {host}:{endpoint.port}\r\ncontent-length: 0\r\n\r\n".encode()
        answer = Answer(endpoint, limit=_ANSWER_BYTES)
        address = Address(endpoint.address, endpoint.port, endpoint.protocol is Protocol.HTTPS)
        deadline = asyncio.get_running_loop().time() + self._within
        try:
            await exchange(self._pool, address, (head,), answer, deadline=deadline, stall_time=self._within)
        except ExchangeError as error:
            raise UpstreamError(endpoint, error.kind, str(error)) from None
        return answer

    def close(self) -> None:
        """Close the idle connections now, and the others when their answers have come."""
        self._pool.close()
