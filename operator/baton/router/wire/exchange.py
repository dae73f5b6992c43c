"""One request to one engine, sent once more if a kept connection turns out to be dead. Interprets no answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.router.wire.failures import ExchangeError, FailureKind, StaleConnectionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.router.wire.pool import Address, ConnectionPool
    from baton.router.wire.upstream_connection import Sink


async def exchange(
    pool: ConnectionPool,
    address: Address,
    request: Sequence[bytes],
    sink: Sink,
    *,
    deadline: float,
    stall_time: float,
) -> None:
    """Send the request and return when the whole answer has gone to the sink; raise ExchangeError otherwise.

    An engine closes kept connections when it likes; if one goes before a byte came back, the request is sent once more
    on a new connection. Cancelling closes the connection, by which the engine knows that its client has gone.
    """
    for is_fresh in (False, True):
        connection = await pool.acquire(address, deadline=deadline, is_fresh=is_fresh)
        try:
            await connection.send(request, sink, deadline=deadline, stall_time=stall_time)
        except StaleConnectionError:
            continue
        else:
            return
        finally:
            pool.release(address, connection)
    raise ExchangeError(FailureKind.CLOSED, "closed every connection without an answer")
