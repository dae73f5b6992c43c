"""Prefill, then decode, with nothing passed between them: the engines share KV by themselves (LMCache, a pool)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.router.client_body import for_prefill, whole
from baton.router.connectors.prefill import ask_prefill, cached_tokens
from baton.router.substitution import count_cached

if TYPE_CHECKING:
    from baton.router.call import Call
    from baton.router.client_body import ClientBody
    from baton.router.errors import ApiError
    from baton.router.wire.upstream_connection import Sink
    from baton.routing.types import Choice


class PlainConnector:
    """Lets prefill read the prompt first, so that decode finds its KV."""

    def refusal(self, body: ClientBody) -> ApiError | None:  # noqa: ARG002 # Connector's signature
        """Refuse nothing."""
        return None

    async def serve(self, call: Call, choice: Choice, sink: Sink) -> None:
        """Ask prefill, then decode."""
        body = for_prefill(call.body, model=call.model, additions={})
        answer = await ask_prefill(call, choice, body, sink)
        if answer is not None:
            counted = count_cached(sink, cached_tokens(answer))
            await call.stream(choice.decode, whole(call.body, model=call.model), counted)
