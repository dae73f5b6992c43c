"""What an engine asks of others over HTTP: prefills, decodes, bootstrap servers and the router's metaserver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import aiohttp
from yarl import URL

from baton.sim import transfer
from baton.sim.kv import KVError, KVErrorReason
from baton.sim.layerwise import PUSH_PATH, write_push
from baton.sim.rooms import BOOTSTRAP_PATH, BOOTSTRAP_SECONDS, write_knock

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

    from baton.sim.layerwise import Push, Target
    from baton.sim.rooms import Meeting
    from baton.sim.transfer import Demand

_PUSH_TIMEOUT: Final = aiohttp.ClientTimeout(total=3.0)
_KNOCK_TIMEOUT: Final = aiohttp.ClientTimeout(total=2 * BOOTSTRAP_SECONDS)

# As the real connector does: three tries without a time limit, and whatever is answered.
_CALLBACK_TRIES: Final = 3
_NO_LIMIT: Final = aiohttp.ClientTimeout(total=None)


class Peers(Protocol):
    """The others, as an engine needs them. All but `call_back` raise KVError when it does not work out."""

    async def pull(self, demand: Demand) -> None:
        """Fetch KV from a prefill."""

    def call_back(self, url: str, body: bytes) -> Coroutine[Any, Any, None]:
        """Tell a metaserver which blocks wait."""

    async def push(self, target: Target, push: Push) -> None:
        """Put KV into a decode's blocks."""

    async def knock(self, meeting: Meeting, fingerprint: str) -> None:
        """Wait at a prefill's bootstrap server until the KV is there."""


class HttpPeers:
    """The others over real sockets. Use it with `async with`."""

    _session: aiohttp.ClientSession

    def __init__(self, *, keeps_connections: bool) -> None:
        self._keeps_connections = keeps_connections

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, force_close=not self._keeps_connections)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()

    async def pull(self, demand: Demand) -> None:
        """Fetch KV from a prefill."""
        await transfer.pull(self._session, demand)

    async def call_back(self, url: str, body: bytes) -> None:
        """Tell a metaserver which blocks wait; it may hear it more than once, or never."""
        headers = {"Content-Type": "application/json"}
        for _ in range(_CALLBACK_TRIES):
            try:
                async with self._session.post(url, data=body, headers=headers, timeout=_NO_LIMIT) as response:
                    await response.read()
                    return
            except (aiohttp.ClientError, ValueError):
                continue

    async def push(self, target: Target, push: Push) -> None:
        """Put KV into a decode's blocks."""
        url = URL.build(scheme="http", host=target.host, port=target.port, path=PUSH_PATH)
        await self._post(url, write_push(push), _PUSH_TIMEOUT, whom="decode")

    async def knock(self, meeting: Meeting, fingerprint: str) -> None:
        """Wait at a prefill's bootstrap server until the KV is there."""
        url = URL.build(scheme="http", host=meeting.host, port=meeting.port, path=BOOTSTRAP_PATH)
        await self._post(url, write_knock(meeting.room, fingerprint), _KNOCK_TIMEOUT, whom="prefill")

    async def _post(self, url: URL, body: bytes, limit: aiohttp.ClientTimeout, *, whom: str) -> None:
        try:
            async with self._session.post(url, data=body, timeout=limit) as response:
                if response.status == 200:
                    return
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            cause = str(error) or type(error).__name__
            message = f"no answer from the {whom} at {url.authority}: {cause}"
            raise KVError(KVErrorReason.UNREACHABLE, message) from error
        raise transfer.read_refusal(answer, authority=url.authority)
