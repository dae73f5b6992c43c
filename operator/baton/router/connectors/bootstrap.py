"""Both sides at once: prefill and decode find each other by a room at prefill's bootstrap server (SGLang).

As SGLang's own routers do it (sgl-router/src/routers/http/pd_router.rs, sglang_router/mini_lb.py): both engines get the
client's whole request with `bootstrap_host` (prefill's, in brackets if it is IPv6), `bootstrap_port` (null: its own
--disaggregation-bootstrap-port) and `bootstrap_room`, a random number of 63 bits that tells requests apart. The answer
is decode's; prefill's ends after the first token, and is read and thrown away.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from baton.router.client_body import BOOTSTRAP_HOST, BOOTSTRAP_PORT, BOOTSTRAP_ROOM, for_both
from baton.router.connectors.prefill import prefill_of
from baton.router.connectors.race import Race
from baton.router.connectors.siblings import Siblings

if TYPE_CHECKING:
    from baton.router.call import Call
    from baton.router.client_body import ClientBody
    from baton.router.errors import ApiError
    from baton.router.wire.upstream_connection import Sink
    from baton.routing.types import Choice


class BootstrapConnector:
    """Asks both at the same time; each try has a room of its own."""

    def refusal(self, body: ClientBody) -> ApiError | None:  # noqa: ARG002 # Connector's signature
        """Refuse nothing."""
        return None

    async def serve(self, call: Call, choice: Choice, sink: Sink) -> None:
        """Ask both; when one fails, the other is aborted."""
        host = prefill_of(choice).address
        meeting = {
            BOOTSTRAP_HOST: f"[{host}]" if ":" in host else host,
            BOOTSTRAP_PORT: call.match.backend.bootstrap_port,
            BOOTSTRAP_ROOM: secrets.randbits(63),
        }
        body = for_both(call.body, model=call.model, additions=meeting)
        async with Siblings() as siblings:
            race = Race(siblings, call, choice, sink)
            await race.prefill(body)
            race.decode(body)
            while not await race.is_over():
                await race.wait()
