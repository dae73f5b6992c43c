"""Decode first: it reserves blocks and calls the router back; prefill then pushes the KV into them, layer by layer.

The protocol of vLLM-Ascend's MooncakeLayerwiseConnector. Prefill holds nothing afterwards, so there is nothing to
reclaim. Takes no callbacks itself: baton.router.metaserver does.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import orjson

from baton.router.call import UpstreamError
from baton.router.client_body import for_decode, for_prefill, with_parameters
from baton.router.connectors.race import Race
from baton.router.connectors.siblings import Siblings
from baton.router.metaserver import MetaserverError
from baton.router.wire.failures import FailureKind

if TYPE_CHECKING:
    from baton.router.call import Call
    from baton.router.client_body import ClientBody
    from baton.router.errors import ApiError
    from baton.router.metaserver import Callbacks
    from baton.router.wire.upstream_connection import Sink
    from baton.routing.types import Choice


class LayerwiseConnector:
    """Asks decode, and prefill whenever decode calls for it: again, if decode has lost its blocks."""

    def refusal(self, body: ClientBody) -> ApiError | None:  # noqa: ARG002 # Connector's signature
        """Refuse nothing."""
        return None

    async def serve(self, call: Call, choice: Choice, sink: Sink) -> None:
        """Have prefill fill the blocks of which decode tells, until decode has answered.

        Both engines know the request by one id, by which prefill's DONE finds it. Clients may repeat theirs, and a try
        that was given up may still be heard of, so each try has an id of its own that begins with the client's.
        """
        call = call.renamed(f"{call.request_id}-{secrets.token_hex(8)}")
        try:
            async with call.metaserver.expect(call.request_id) as callbacks, Siblings() as siblings:
                race = Race(siblings, call, choice, sink)
                race.decode(for_decode(call.body, model=call.model, transfer_parameters=_invitation(callbacks.url)))
                await _Dispatch(siblings, call, choice, race).answer(callbacks)
        except MetaserverError as error:
            raise UpstreamError(choice.decode, FailureKind.NO_CALLBACK, f"could not call back: {error}") from None


def _invitation(url: str) -> bytes:
    return orjson.dumps({"do_remote_decode": False, "do_remote_prefill": True, "metaserver": url})


class _Dispatch:
    """Asks prefill for what the callbacks of one decode call want."""

    def __init__(self, siblings: Siblings, call: Call, choice: Choice, race: Race) -> None:
        self._siblings = siblings
        self._call = call
        self._choice = choice
        self._race = race
        # The first token must not end the generation, or prefill would not send all it has computed.
        self._base = for_prefill(call.body, model=call.model, additions={"min_tokens": 1})
        self._latest = b""

    async def answer(self, callbacks: Callbacks) -> None:
        """Do so until the client has its answer. Raises UpstreamError."""
        race = self._race
        coming = self._listen(callbacks)
        limit = asyncio.get_running_loop().call_later(self._call.settings.callback_time, coming.cancel)
        try:
            while not await race.is_over():
                await race.wait(coming)
                if coming.done():
                    limit.cancel()
                    await self._take(coming)
                    coming = self._listen(callbacks)
        finally:
            limit.cancel()

    def _listen(self, callbacks: Callbacks) -> asyncio.Task[bytes]:
        return self._siblings.start(callbacks.next(), name=f"callback for {self._call.request_id}")

    async def _take(self, coming: asyncio.Task[bytes]) -> None:
        if not coming.cancelled():
            callback = coming.result()
            # One that comes twice while it is being answered is one whose answer the engine missed.
            if callback != self._latest or self._race.prefilling is None:
                self._latest = callback
                await self._race.prefill(with_parameters(self._base, callback))
        elif not self._race.has_begun:
            message = f"did not call for its prefill within {self._call.settings.callback_time:g} seconds"
            raise UpstreamError(self._choice.decode, FailureKind.NO_CALLBACK, message)
