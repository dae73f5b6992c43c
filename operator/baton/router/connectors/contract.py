"""What every connector is. Knows none of them: connectors.registry does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from baton.router.call import Call
    from baton.router.client_body import ClientBody
    from baton.router.errors import ApiError
    from baton.router.wire.upstream_connection import Sink
    from baton.routing.types import Choice


class Connector(Protocol):
    """One way to have a request answered by the endpoints of a choice. Has no state of its own."""

    def refusal(self, body: ClientBody) -> ApiError | None:
        """Return why this way cannot serve the request at all, None when it can."""

    async def serve(self, call: Call, choice: Choice, sink: Sink) -> None:
        """Try once; return when the whole answer has gone to the sink.

        Raises UpstreamError, after which nothing of this try (KV parameters above all) may be used again. An engine's
        own refusal (a status below 500) is an answer, not an error.
        """
