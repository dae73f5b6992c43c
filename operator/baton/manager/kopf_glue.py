"""The only door to kopf: it watches our own kinds, and each of its events only ends up in a store.

kopf runs in a thread with an event loop of its own: at its end it cancels every task of its loop, it takes over the
signals, and it copies bodies on the loop. None of that reaches the reconcilers this way.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import aiohttp

_CLIENT = "kubernetes_asyncio"
_is_hidden = sys.modules.setdefault(_CLIENT, None) is None  # type: ignore[arg-type] # None is how a module is hidden
try:
    # kopf imports every Kubernetes client that is installed, to know its objects: 60 MB and a second for nothing.
    import kopf
finally:
    if _is_hidden:
        del sys.modules[_CLIENT]

if TYPE_CHECKING:
    from baton.kube.access import Access
    from baton.kube.types import JsonObject, Resource

Offer = Callable[["str | None", "JsonObject"], object]
"""Takes one event: its type (None for an object of a list) and the object."""

_LOGIN_PAUSE = 5.0
"""Seconds before logging in again: kopf does so at once after each refusal, however often that was."""
_STOP_TIME = 5.0
"""Seconds that kopf's thread gets to end, which takes it less than one."""
_LOG_LEVELS = {
    "kopf.objects": logging.WARNING,  # else a line for every event
    "kopf.activities.authentication": logging.WARNING,
    "kopf._core.engines.activities": logging.WARNING,
    "kopf._core.reactor.running": logging.ERROR,  # it warns of living in a thread
    "kopf._cogs.clients.watching": logging.CRITICAL,  # a line a try; the reflectors tell of an outage once
}


class KopfThread:
    """Runs kopf for a set of kinds and hands every event over to the loop that `start` was called in.

    `find_access` is called in kopf's own loop, first and whenever the API server has refused the credentials, so that
    kopf looks at the same cluster as everything else.
    """

    def __init__(self, kinds: Mapping[Resource, Offer], *, find_access: Callable[[], Awaitable[Access]]) -> None:
        self._kinds = kinds
        self._find_access = find_access
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_logged_in = False
        self.ended = asyncio.Event()
        """Set when kopf has stopped, asked or not."""
        self.error: BaseException | None = None
        """Why it stopped by itself."""

    def start(self) -> None:
        """Start the thread; events reach the running loop from now on."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Let kopf begin to stop; `stop` waits for it."""
        self._stop.set()

    async def stop(self) -> None:
        """Stop kopf, if it was started, and wait for its thread, at most five seconds."""
        self.ask_to_stop()
        if self._thread.ident is None:
            return
        await asyncio.to_thread(self._thread.join, _STOP_TIME)

    def _run(self) -> None:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry, id="login")(self._log_in)
        for resource, offer in self._kinds.items():
            self._watch(registry, resource, offer)
        settings = kopf.OperatorSettings()
        _configure(settings)
        try:
            # A plain loop, and no signals: kopf takes those only in the main thread.
            asyncio.run(self._operate(registry, settings))
        except Exception as error:  # noqa: BLE001 # the root of a thread: the main loop decides what an end means
            self.error = error
        finally:
            self._hand_over(self.ended.set)

    async def _operate(self, registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings) -> None:
        try:
            await kopf.operator(
                registry=registry, settings=settings, clusterwide=True, standalone=True, stop_flag=self._stop
            )
        finally:
            self._stop.set()  # kopf waits for it in a thread of its own, without which the loop never closes

    async def _log_in(self, **_: object) -> kopf.AiohttpSession:
        if self._has_logged_in:
            await asyncio.sleep(_LOGIN_PAUSE)
        self._has_logged_in = True
        access = await self._find_access()
        header = await access.authorization.header()
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=access.tls or True),
            headers={} if header is None else {"Authorization": header},
            proxy=access.proxy,
        )
        return kopf.AiohttpSession(server=access.url, aiohttp_session=session)

    def _watch(self, registry: kopf.OperatorRegistry, resource: Resource, offer: Offer) -> None:
        async def seen(event: kopf.RawEvent, **_: object) -> None:
            self._hand_over(offer, event["type"], dict(event["object"]))

        kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=resource.plural)(seen)

    def _hand_over(self, callback: Callable[..., object], *arguments: object) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        loop.call_soon_threadsafe(callback, *arguments)


def _configure(settings: kopf.OperatorSettings) -> None:
    settings.scanning.disabled = True  # the kinds are known: needs no right to read CRDs and namespaces
    settings.posting.enabled = False  # events are recorded by baton.kube.events
    settings.watching.server_timeout = 300
    settings.watching.reconnect_backoff = 1.0
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = [1, 1, *[3] * 100]  # outlives an API server's upgrade, and by seconds only
    settings.process.ultimate_exiting_timeout = None  # it would kill the whole process
    for name, level in _LOG_LEVELS.items():
        logging.getLogger(name).setLevel(level)
