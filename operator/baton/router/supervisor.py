"""Runs several workers on one port as one router: starts, replaces and stops them, speaks for them on the admin port.

Serves no request for a model itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
import tempfile
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from baton.router.administration import Administration
from baton.router.application import AdminApplication
from baton.router.certificates import ListenerCertificate, engine_context
from baton.router.config_file import ConfigFile
from baton.router.engine_client import EngineClient
from baton.router.listening import Listeners, open_sockets, port_of
from baton.router.live_directory import LiveDirectory
from baton.router.paths import ADMIN_PATHS, STANDALONE_ADMIN_PATHS
from baton.router.server import client_limits
from baton.router.signals import Signals
from baton.router.standalone import StandaloneEngines
from baton.router.start_error import StartError
from baton.router.worker_insight import WorkerInsight
from baton.router.worker_slot import WorkerOptions, WorkerSlot
from baton.telemetry.logs import event

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from typing import Literal

    from baton.api.router_config import RouterConfig
    from baton.router.settings import RouterSettings

_logger = logging.getLogger(__name__)

_LAST_TIME = 5.0
"""Seconds that workers have, beyond what their requests were given, before they are killed."""

_LOOK_INTERVAL = 0.05  # seconds


async def run(settings: RouterSettings, *, log_level: str, log_format: Literal["text", "json"]) -> None:
    """Run `settings.workers` workers until SIGTERM or SIGINT, then until they have finished; a second signal cuts them.

    SIGHUP has the workers read their files anew.

    Raises:
        StartError: a port is taken, a file cannot be used, or a worker cannot start.
        ConfigFileError: the configuration file cannot be used.

    """
    signals = Signals()
    await _check_files(settings)
    async with AsyncExitStack() as resources:
        slots: list[WorkerSlot] = []
        insight = WorkerInsight(slots, signals.stop.is_set)
        resources.callback(insight.close)
        administration, engines, for_workers = _standalone(settings, resources, slots, insight=insight)
        admin = Listeners(
            AdminApplication(
                insight,
                paths={**ADMIN_PATHS, **STANDALONE_ADMIN_PATHS} if administration else ADMIN_PATHS,
                administration=administration,
            ),
            client_limits(settings.data_path),
        )
        resources.push_async_callback(admin.close, 1.0)
        admin_sockets = await open_sockets(settings.admin_host, settings.admin_port, option="--admin-port")
        admin_port = port_of(admin_sockets)
        await admin.serve(admin_sockets)
        up = asyncio.Event()
        port = await _open_slots(slots, for_workers, resources, up=up, log_level=log_level, log_format=log_format)
        signals.on_reload(partial(_reload_all, slots))
        try:
            async with asyncio.TaskGroup() as group:
                keeping = [group.create_task(slot.keep(), name=slot.endpoint.name) for slot in slots]
                following = [group.create_task(engines.follow(), name="engines")] if engines else []
                if await _are_up(insight, signals.stop):
                    up.set()
                    event(
                        _logger,
                        logging.INFO,
                        "router started",
                        clients=f"{settings.host}:{port}",
                        admin=f"{settings.admin_host}:{admin_port}",
                        workers=len(slots),
                    )
                await signals.stop.wait()
                await _stop(slots, keeping, signals, within=settings.drain_timeout)
                for task in following:
                    task.cancel()
        except* StartError as errors:
            raise _first_of(errors) from None


async def _check_files(settings: RouterSettings) -> None:
    """Find faults before there are workers to meet them."""
    engine_context(settings.engine_authority)
    if settings.tls_certificate is not None and settings.tls_key is not None:
        ListenerCertificate(settings.tls_certificate, settings.tls_key)
    if settings.config is not None:
        await ConfigFile(settings.config, LiveDirectory(lambda: 0.0)).load()


def _standalone(
    settings: RouterSettings, resources: AsyncExitStack, slots: Sequence[WorkerSlot], *, insight: WorkerInsight
) -> tuple[Administration | None, StandaloneEngines | None, RouterSettings]:
    """Return what manages the engines of the command line, and the settings for workers, who get them as a file."""
    if not settings.engines:
        return None, None, settings
    client = EngineClient(tls=engine_context(settings.engine_authority))
    resources.callback(client.close)
    folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="baton-router-")))
    engines = StandaloneEngines(
        settings.engines,
        connector=settings.connector,
        models=settings.models,
        client=client,
        publish=partial(_hand_out, folder / "router.json", slots),
    )
    engines.start()
    for_workers = replace(settings, engines=(), models=(), config=folder / "router.json")
    return Administration(engines, client, loads=insight.loads), engines, for_workers


def _hand_out(path: Path, slots: Sequence[WorkerSlot], document: RouterConfig) -> None:
    new = path.with_suffix(".new")
    new.write_text(document.model_dump_json(by_alias=True), encoding="utf-8")
    new.replace(path)
    _reload_all(slots)


async def _open_slots(
    slots: list[WorkerSlot],
    settings: RouterSettings,
    resources: AsyncExitStack,
    *,
    up: asyncio.Event,
    log_level: str,
    log_format: Literal["text", "json"],
) -> int:
    """Make a slot for each worker, all on one port, and return the port."""
    port = settings.port
    data_path = settings.data_path
    own = replace(
        settings,
        data_path=replace(
            data_path,
            has_public_metrics=False,  # they would be those of whichever worker is asked
            max_connections=math.ceil(data_path.max_connections / settings.workers),
        ),
    )
    for number in range(settings.workers):
        public = await _open_public(settings.host, port)
        port = port_of(public)
        options = WorkerOptions(own, log_level, log_format, partial(_open_public, settings.host, port), up)
        [admin] = await open_sockets("127.0.0.1", 0, option="--workers 1")
        slot = WorkerSlot(number, options, public=public, admin=admin)
        resources.callback(slot.close)
        slots.append(slot)
    return port


async def _open_public(host: str, port: int) -> list[socket.socket]:
    return await open_sockets(host, port, option="--port", is_shared=True)


async def _are_up(insight: WorkerInsight, stop: asyncio.Event) -> bool:
    """Return True once every worker answers, or False when the router is told to stop before."""
    while not stop.is_set():
        if await insight.are_alive():
            return True
        await asyncio.sleep(_LOOK_INTERVAL)
    return False


async def _stop(
    slots: Sequence[WorkerSlot], keeping: Sequence[asyncio.Task[None]], signals: Signals, *, within: float
) -> None:
    """Have all workers finish; kill what is left when their time is over."""
    event(_logger, logging.INFO, "router stops, running requests go on", seconds=within)
    for slot in slots:
        slot.stop()
    async with asyncio.TaskGroup() as group:
        hurrying = group.create_task(_hurry(slots, signals.hurry), name="second-signal")
        _, left = await asyncio.wait(keeping, timeout=within + _LAST_TIME)
        hurrying.cancel()
    for task in left:
        task.cancel()
    event(_logger, logging.INFO, "router stopped", killed=len(left))


async def _hurry(slots: Sequence[WorkerSlot], told: asyncio.Event) -> None:
    await told.wait()
    for slot in slots:
        slot.stop()


def _reload_all(slots: Sequence[WorkerSlot]) -> None:
    for slot in slots:
        slot.reload()


def _first_of(errors: BaseExceptionGroup[StartError]) -> StartError:
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return StartError(str(first))
