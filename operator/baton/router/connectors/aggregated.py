"""No hand-over: one engine does both phases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.router.client_body import whole

if TYPE_CHECKING:
    from baton.router.call import Call
    from baton.router.client_body import ClientBody
    from baton.router.errors import ApiError
    from baton.router.wire.upstream_connection import Sink
    from baton.routing.types import Choice


class AggregatedConnector:
    """Sends the request to the endpoint and the answer to the sink."""

    def refusal(self, body: ClientBody) -> ApiError | None:  # noqa: ARG002 # Connector's signature
        """Refuse nothing."""
        return None

    async def serve(self, call: Call, choice: Choice, sink: Sink) -> None:
        """Ask the one engine."""
        await call.stream(choice.decode, whole(call.body, model=call.model), sink)
