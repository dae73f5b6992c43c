"""One request to one engine, sent once more if a kept connection turns out to be dead. Interprets no answer."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from baton.router.wire.failures import ExchangeError, FailureKind, StaleConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from baton.router.wire.pool import Address, ConnectionPool
    from baton.router.wire.upstream_connection import Sink, UpstreamConnection

    Linger = Callable[[Coroutine[Any, Any, None]], None]


async def exchange(
    pool: ConnectionPool,
    address: Address,
    request: Sequence[bytes],
    sink: Sink,
    *,
    deadline: float,
    stall_time: float,
    linger: Linger | None = None,
) -> None:
    """Send the request and return when the whole answer has gone to the sink; raise ExchangeError otherwise.

    An engine closes kept connections when it likes; if one goes before a byte came back, the request is sent once more
    on a new connection. Cancelling closes the connection, by which the engine knows that its client has gone. With
    `linger` it closes the sending side alone, and `linger` gets the coroutine in which the sink takes what the engine
    may have answered before it noticed.
    """
    for is_fresh in (False, True):
        connection = await pool.acquire(address, deadline=deadline, is_fresh=is_fresh)
        is_left = False
        try:
            await connection.send(request, sink, deadline=deadline, stall_time=stall_time)
        except StaleConnectionError:
            continue
        except asyncio.CancelledError:
            if linger is not None and (rest := connection.leave()) is not None:
                is_left = True
                linger(_take_rest(pool, address, connection, rest))
            raise
        else:
            return
        finally:
            if not is_left:
                pool.release(address, connection)
    raise ExchangeError(FailureKind.CLOSED, "closed every connection without an answer")


async def _take_rest(
    pool: ConnectionPool, address: Address, connection: UpstreamConnection, rest: asyncio.Future[None]
) -> None:
    try:
        with contextlib.suppress(ExchangeError, StaleConnectionError):
            await rest
    finally:
        pool.release(address, connection)
