"""The prefill call that connectors begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from baton.router.call import Answer, Call
    from baton.router.wire.upstream_connection import Sink
    from baton.routing.types import Choice


async def ask_prefill(call: Call, choice: Choice, body: bytes, sink: Sink) -> Answer | None:
    """Return prefill's answer, or None when it refused the request and the sink has its words instead.

    Raises UpstreamError.
    """
    if choice.prefill is None:
        raise ValueError(f"the choice of {choice.decode.name} has no prefill endpoint")
    answer = await call.fetch(choice.prefill, body)
    if answer.head.status == 200:
        return answer
    sink.on_head(answer.head)
    if answer.body:
        sink.on_body(answer.body)
    sink.on_end()
    return None
