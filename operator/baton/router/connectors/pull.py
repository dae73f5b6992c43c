"""Prefill first; decode then pulls the KV from it by the parameters in prefill's answer (Mooncake, NIXL).

Not for connectors whose prefill pushes, layer by layer, into a decode that was asked first.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from baton.router.call import UpstreamError
from baton.router.client_body import TRANSFER_PARAMETERS, for_decode, for_prefill
from baton.router.connectors.prefill import ask_prefill, cached_tokens
from baton.router.substitution import count_cached
from baton.router.wire.failures import FailureKind

if TYPE_CHECKING:
    from baton.router.call import Answer, Call
    from baton.router.client_body import ClientBody
    from baton.router.errors import ApiError
    from baton.router.reclaim import HandOver
    from baton.router.wire.upstream_connection import Sink
    from baton.routing.types import Choice

_ADDITIONS: dict[str, Any] = {
    # The first token must not end the generation: then the engine would keep no KV.
    "min_tokens": 1,
    TRANSFER_PARAMETERS: {
        "do_remote_decode": True,
        "do_remote_prefill": False,
        "remote_engine_id": None,
        "remote_block_ids": None,
        "remote_host": None,
        "remote_port": None,
    },
}


class PullConnector:
    """Hands over by `kv_transfer_params`, passed on as they are.

    They are good for one decode call: once it has reached an engine, prefill may have given the KV's memory away. So
    every try begins with prefill. KV that no decode call has certainly pulled is reclaimed by a call that does nothing
    else (docs/decisions/0009-kv-is-reclaimed-by-pulling-it.md).
    """

    def refusal(self, body: ClientBody) -> ApiError | None:  # noqa: ARG002 # Connector's signature
        """Refuse nothing."""
        return None

    async def serve(self, call: Call, choice: Choice, sink: Sink) -> None:
        """Ask prefill, then decode with what prefill said."""
        body = for_prefill(call.body, model=call.model, additions=_ADDITIONS)

        def hand_over(answer: Answer) -> HandOver:
            counted = count_cached(sink, cached_tokens(answer))
            return call.reclaimer.hand_over(call, choice, _transfer_parameters(answer), counted)

        def reclaim(answer: Answer) -> None:
            with contextlib.suppress(UpstreamError):  # it holds nothing
                hand_over(answer).settle()

        answer = await ask_prefill(call, choice, body, sink, on_abandoned=reclaim)
        if answer is None:
            return
        held = hand_over(answer)
        within = call.settings.hand_over_time if call.body.is_streamed else None
        body = for_decode(call.body, model=call.model, transfer_parameters=held.parameters)
        try:
            await call.stream(choice.decode, body, held, within=within)
        except UpstreamError:
            held.settle(has_failed=True)
            raise
        finally:
            held.settle()


def _transfer_parameters(answer: Answer) -> bytes:
    # The standard library's parser keeps numbers of any size; what is passed on must be what came.
    try:
        content = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise UpstreamError(answer.endpoint, FailureKind.MALFORMED, "answered with something other than JSON") from None
    parameters = content.get(TRANSFER_PARAMETERS) if isinstance(content, dict) else None
    if not isinstance(parameters, dict) or not parameters:
        message = f"answered without {TRANSFER_PARAMETERS}; is it started with a KV connector as a producer?"
        raise UpstreamError(answer.endpoint, FailureKind.NO_TRANSFER_PARAMETERS, message)
    return json.dumps(parameters, separators=(",", ":")).encode()
