"""The prefill call that connectors begin with."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from baton.router.call import UpstreamError
from baton.router.wire.failures import ExchangeError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from baton.router.call import Answer, Call
    from baton.router.wire.upstream_connection import Sink
    from baton.routing.types import Choice, Endpoint

# A quote inside generated text is escaped: the pattern cannot match there.
_CACHED_TOKENS = re.compile(rb'"cached_tokens": ?(\d+)')


async def ask_prefill(
    call: Call, choice: Choice, body: bytes, sink: Sink, *, on_abandoned: Callable[[Answer], None] | None = None
) -> Answer | None:
    """Return prefill's answer, or None when it refused the request and the sink has its words instead.

    `on_abandoned` is for an answer that comes after all although the client has left, because prefill had ended before
    it noticed. Raises UpstreamError.
    """
    answer = call.expect(prefill_of(choice))

    def check_abandoned() -> None:
        if answer.is_whole and answer.head.status == 200 and on_abandoned is not None:
            on_abandoned(answer)

    async def wait_and_check(rest: Coroutine[Any, Any, None]) -> None:
        await rest
        check_abandoned()

    linger = None if on_abandoned is None else lambda rest: call.reclaimer.adopt(wait_and_check(rest))
    try:
        await call.fetch(answer, body, within=call.settings.prefill_time, linger=linger)
    except asyncio.CancelledError:
        check_abandoned()
        raise
    if answer.head.status == 200:
        return answer
    give(answer, sink)
    return None


def prefill_of(choice: Choice) -> Endpoint:
    """Return the prefill endpoint of a choice, which must have one."""
    if choice.prefill is None:
        raise ValueError(f"the choice of {choice.decode.name} has no prefill endpoint")
    return choice.prefill


def give(answer: Answer, sink: Sink) -> None:
    """Put a whole answer into a sink. Raises UpstreamError when the sink does not take it."""
    try:
        sink.on_head(answer.head)
        if answer.body:
            sink.on_body(answer.body)
        sink.on_end()
    except ExchangeError as error:
        raise UpstreamError(answer.endpoint, error.kind, str(error)) from None


def cached_tokens(answer: Answer) -> int | None:
    """Return how many prompt tokens prefill found in its cache, None if its answer does not tell.

    Decode cannot know: all that it has of the prompt came from prefill.
    """
    found = _CACHED_TOKENS.search(answer.body)
    return None if found is None else int(found[1])
