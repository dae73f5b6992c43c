"""The process of `vllm serve`: one engine with its API and its side channel, from start-up to the end of its drain.

Decides nothing that `baton.sim.launch` has not decided; how ranks find each other is in `baton.sim.data_parallel`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from aiohttp import web

from baton.sim.application import Application
from baton.sim.data_parallel import GroupError, make_membership
from baton.sim.engine import Engine, EngineIdentity
from baton.sim.listening import PortUnavailableError, listen
from baton.sim.peers import HttpPeers
from baton.sim.settings import format_ports
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from baton.sim.launch import Launch

_LOG: Final = logging.getLogger(__name__)
_BACKLOG: Final = 1024
# What is left after the drain is cut; this is only the time its handlers get to notice.
_CUT_SECONDS: Final = 0.1


async def run_rank(launch: Launch) -> None:
    """Serve until SIGTERM or SIGINT and let running requests finish then; a second signal cuts them.

    Raises:
        PortUnavailableError: a port is taken or not allowed.
        GroupError: the DP ranks did not come together, or one has died.
    """
    async with AsyncExitStack() as resources:
        await Rank(launch, resources).run()


class Rank:
    """One run of the process; what it opens goes to `resources`."""

    def __init__(self, launch: Launch, resources: AsyncExitStack) -> None:
        self._launch = launch
        self._resources = resources
        self._is_over = asyncio.Event()
        self._fault: str | None = None
        self._waiting: asyncio.Timeout | None = None
        # The start-up ends at the first signal; a drain, which the end of the group may have begun, at the second.
        self._is_impatient = True
        self._membership = make_membership(launch.group, self._end_group)

    async def run(self) -> None:
        """Start, serve, drain. Raises as run_rank does."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        engine, api, bound = await self._open()
        if await self._come_up():
            site = None if bound is None else await self._serve(api, bound)
            _report_ready(self._launch)
            await self._is_over.wait()
            if self._fault is not None:
                raise GroupError(self._fault)
            await self._drain(engine, api, site)
        await self._membership.leave()

    def _stop(self) -> None:
        self._is_over.set()
        if self._is_impatient and self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())
            self._waiting = None
        self._is_impatient = True

    def _end_group(self, reason: str | None) -> None:
        self._fault = reason
        self._is_over.set()

    async def _open(self) -> tuple[Engine, web.AppRunner, socket.socket | None]:
        """Bind all ports, the API's without listening yet: until the engine is ready, clients are refused."""
        launch, settings = self._launch, self._launch.settings
        peers = await self._resources.enter_async_context(HttpPeers(keeps_connections=False))
        identity = EngineIdentity(launch.side.host, settings.ports[0])
        engine = Engine(identity, settings, peers=peers, side=launch.side)
        application = Application(settings, find_engine=lambda _: engine, list_engines=lambda: (engine,))
        side_channel = await self._make_runner(application.build_side_channel())
        api = await self._make_runner(application.build_api())
        self._resources.push_async_callback(engine.close)
        for port in launch.side_channel:
            await listen(side_channel, launch.side.host, port)
        bound = None if launch.is_headless else _bind(settings.host, settings.ports[0])
        return engine, api, None if bound is None else self._resources.enter_context(bound)

    async def _make_runner(self, application: web.Application) -> web.AppRunner:
        runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=_CUT_SECONDS)
        await runner.setup()
        self._resources.push_async_callback(runner.cleanup)
        return runner

    async def _come_up(self) -> bool:
        """Load and join the other ranks; False if told to stop before that is done."""
        try:
            async with asyncio.timeout(None) as self._waiting:
                if self._is_over.is_set():
                    return False
                await asyncio.sleep(self._launch.load_seconds)
                await self._membership.join()
        except TimeoutError:
            return False
        self._waiting = None
        self._is_impatient = False
        return True

    async def _serve(self, api: web.AppRunner, bound: socket.socket) -> web.BaseSite:
        site = web.SockSite(api, bound, backlog=_BACKLOG)
        try:
            await site.start()
        except OSError as error:
            raise PortUnavailableError(self._launch.settings.host, self._launch.settings.ports[0], error) from error
        return site

    async def _drain(self, engine: Engine, api: web.AppRunner, site: web.BaseSite | None) -> None:
        """Take no new requests and wait for those that run; as in the real engine not for KV that is held."""
        seconds = self._launch.shutdown_seconds
        event(_LOG, logging.INFO, "told to stop", running=engine.running + engine.waiting, seconds=seconds)
        if site is not None:
            await site.stop()
        if api.server is not None:
            api.server.pre_shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds) as self._waiting:
                await engine.wait_until_idle()
        self._waiting = None
        event(_LOG, logging.INFO, "stopped", cut=engine.running + engine.waiting, kv_lost=len(engine.kv.held))


def find_address() -> str:
    """Return this machine's address towards the default route, 0.0.0.0 if there is none; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("8.8.8.8", 80))
        except OSError:
            return "0.0.0.0"
        return str(probe.getsockname()[0])


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise PortUnavailableError(host, port, error) from error
    return bound


def _report_ready(launch: Launch) -> None:
    group, ports = launch.group, tuple(launch.side_channel)
    port = "none" if launch.is_headless else launch.settings.ports[0]
    place = "alone" if group is None else f"{group.member} {group.rank} of {group.size}"
    side_channel = f"{launch.side.host} {format_ports(ports)}" if ports else "none"
    event(_LOG, logging.INFO, "Application startup complete.", port=port, place=place, side_channel=side_channel)
