"""Runs several workers on one port as one router, and speaks for all of them on the admin port.

Serves no request for a model itself.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from baton.router.administration import Administration
from baton.router.application import AdminApplication
from baton.router.certificates import ListenerCertificate, engine_context
from baton.router.config_file import ConfigFile
from baton.router.engine_client import EngineClient
from baton.router.listening import Listeners, open_sockets, place_of
from baton.router.live_directory import LiveDirectory
from baton.router.server import admin_paths, client_limits
from baton.router.signals import Signals
from baton.router.start_error import StartError, first_start_error
from baton.router.worker_insight import WorkerInsight
from baton.router.workers import Workers
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from baton.api.router_config import RouterConfig
    from baton.router.settings import RouterSettings
    from baton.router.worker import WorkerProgram

_logger = logging.getLogger(__name__)

_LOOK_INTERVAL = 0.05  # seconds
_CLOSING_TIME = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the router listens, for the log."""

    clients: str
    admin: str


async def run(settings: RouterSettings, program: WorkerProgram) -> None:
    """Run `settings.workers` workers until SIGTERM or SIGINT, then until they have finished; a second signal cuts them.

    SIGHUP has the workers read their files anew.

    Raises:
        StartError: a port is taken, a file cannot be used, or a worker cannot start.
        ConfigFileError: the configuration file cannot be used.

    """
    signals = Signals()
    await _check_files(settings)
    async with AsyncExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="baton-router-")))
        for_workers = replace(settings, engines=(), models=(), config=folder / "router.json")
        workers = Workers(for_workers if settings.engines else settings, program)
        resources.callback(workers.close)
        insight = WorkerInsight(workers.slots, signals.stop.is_set)
        resources.callback(insight.close)
        administration = None
        if settings.engines:
            client = EngineClient(tls=engine_context(settings.engine_authority))
            resources.callback(client.close)
            publish = partial(_hand_out, folder / "router.json", workers)
            administration = Administration.of(settings, client, publish=publish, loads=insight.loads)
        places = await _listen(settings, workers, insight, administration, resources)
        signals.on_reload(workers.reload)
        try:
            await _supervise(workers, insight, administration, signals, places=places, settings=settings)
        except* StartError as errors:
            raise first_start_error(errors) from None


async def _check_files(settings: RouterSettings) -> None:
    """Find faults before there are workers to meet them."""
    engine_context(settings.engine_authority)
    if settings.tls_certificate is not None and settings.tls_key is not None:
        ListenerCertificate(settings.tls_certificate, settings.tls_key)
    if settings.config is not None:
        await ConfigFile(settings.config, LiveDirectory(lambda: 0.0)).load()


async def _listen(
    settings: RouterSettings,
    workers: Workers,
    insight: WorkerInsight,
    administration: Administration | None,
    resources: AsyncExitStack,
) -> _Places:
    """Open the ports."""
    paths = admin_paths(is_administered=administration is not None)
    admin = Listeners(
        AdminApplication(insight, paths=paths, administration=administration), client_limits(settings.data_path)
    )
    resources.push_async_callback(admin.close, _CLOSING_TIME)
    sockets = await open_sockets(settings.admin_host, settings.admin_port, option="--admin-port")
    admin_place = place_of(sockets)
    await admin.serve(sockets)
    public = await workers.open(settings.host, settings.port)
    return _Places(place_of(public), admin_place)


async def _supervise(
    workers: Workers,
    insight: WorkerInsight,
    administration: Administration | None,
    signals: Signals,
    *,
    places: _Places,
    settings: RouterSettings,
) -> None:
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(workers.keep(), name="workers")
        following = group.create_task(administration.engines.follow(), name="engines") if administration else None
        if await _are_up(insight, signals.stop):
            workers.up.set()
            event(
                _logger,
                logging.INFO,
                "router started",
                clients=places.clients,
                admin=places.admin,
                workers=settings.workers,
            )
        await signals.stop.wait()
        event(_logger, logging.INFO, "router stops, running requests go on", seconds=settings.drain_timeout)
        have_ended = await workers.stop(keeping, hurry=signals.hurry, within=settings.drain_timeout)
        event(_logger, logging.INFO, "router stopped", workers="ended" if have_ended else "killed")
        if following is not None:
            following.cancel()


async def _are_up(insight: WorkerInsight, stop: asyncio.Event) -> bool:
    """Return True once every worker answers, or False when the router is told to stop before."""
    while not stop.is_set():
        if await insight.are_alive():
            return True
        await asyncio.sleep(_LOOK_INTERVAL)
    return False


def _hand_out(path: Path, workers: Workers, document: RouterConfig) -> None:
    new = path.with_suffix(".new")
    new.write_text(document.model_dump_json(by_alias=True), encoding="utf-8")
    new.replace(path)
    workers.reload()
