"""Wires the router process together and decides the order in which its parts start and stop."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import ssl
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from baton.api.endpoints import Phase
from baton.kube.connect import connect
from baton.kube.errors import ConfigurationError
from baton.router.administration import Administration
from baton.router.config_file import ConfigFile
from baton.router.engine_client import EngineClient
from baton.router.live_directory import LiveDirectory
from baton.router.server import RouterServer
from baton.router.standalone import StandaloneEngines
from baton.router.watch import ConfigWatch
from baton.routing.ejection import EjectionPolicy
from baton.telemetry import directory_metrics
from baton.telemetry.logs import event
from baton.telemetry.loop_lag import measure_loop_lag

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping
    from pathlib import Path
    from typing import Any

    from baton.router.data_path_settings import DataPathSettings
    from baton.router.settings import RouterSettings

_logger = logging.getLogger(__name__)

_LAG_INTERVAL = 5.0  # seconds


class StartError(Exception):
    """The router cannot start; the message names the thing and the cure."""


async def run(settings: RouterSettings) -> None:
    """Run the router until SIGTERM or SIGINT, then finish what is running; a second signal cuts it.

    Raises:
        StartError: a port is taken, a file cannot be used, or nothing tells how to reach Kubernetes.
        ConfigFileError: the configuration file cannot be used.

    """
    stop, hurry = _signals()
    directory = LiveDirectory(random.random, ejection=_ejection(settings.data_path))
    _show_endpoints(directory)
    async with AsyncExitStack() as resources:
        engine_tls = _engine_tls(settings.engine_authority)
        administration, follow = None, None
        if settings.engines:
            administration, follow = _engines(settings, directory, resources, engine_tls)
        else:
            follow = await _source(settings, directory, resources)
        server = RouterServer(settings.data_path, directory, engine_tls=engine_tls, administration=administration)
        resources.push_async_callback(server.close)
        await _listen(server, settings)
        try:
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(follow(), name="configuration"),
                    group.create_task(measure_loop_lag(interval=_LAG_INTERVAL), name="loop-lag"),
                ]
                await stop.wait()
                await _drain(server, settings.drain_timeout, hurry)
                for task in background:
                    task.cancel()
        except* ConfigurationError as errors:
            raise _first_of(errors) from None


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Return the events that the first and the second signal set."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def told() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    return stop, hurry


def _engines(
    settings: RouterSettings, directory: LiveDirectory, resources: AsyncExitStack, tls: ssl.SSLContext | None
) -> tuple[Administration, Callable[[], Coroutine[Any, Any, None]]]:
    """Return what changes the engines of the command line, and what keeps the directory up to date with them."""
    client = EngineClient(tls=tls)
    resources.callback(client.close)
    engines = StandaloneEngines(
        settings.engines,
        connector=settings.connector,
        models=settings.models,
        client=client,
        publish=lambda document: directory.publish([document]),
    )
    engines.start()
    directory.set_ready()

    async def loads() -> Mapping[str, int]:
        return directory.loads()

    return Administration(engines, client, loads=loads), engines.follow


async def _source(
    settings: RouterSettings, directory: LiveDirectory, resources: AsyncExitStack
) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return what keeps the directory up to date for ever."""
    if settings.config is not None:
        file = ConfigFile(settings.config, directory)
        await file.load()
        return file.follow
    try:
        client = await resources.enter_async_context(await connect(settings.kubeconfig, settings.context))
    except ConfigurationError as error:
        raise StartError(f"{error}; or run without Kubernetes: --config FILE, or --prefill and --decode") from error
    return ConfigWatch(client, directory, namespaces=settings.namespaces).run


async def _listen(server: RouterServer, settings: RouterSettings) -> None:
    tls = _client_tls(settings)
    admin_port = await _bind(
        server.start_admin(settings.admin_host, settings.admin_port),
        f"{settings.admin_host} port {settings.admin_port}",
        option="--admin-port",
    )
    port = await _bind(
        server.start(settings.host, settings.port, tls=tls), f"{settings.host} port {settings.port}", option="--port"
    )
    event(
        _logger,
        logging.INFO,
        "router started",
        clients=f"{settings.host}:{port}",
        admin=f"{settings.admin_host}:{admin_port}",
    )


async def _bind(listening: Awaitable[int], place: str, *, option: str) -> int:
    try:
        return await listening
    except OSError as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise StartError(f"cannot listen on {place}: {reason}; choose another place with {option}") from error


async def _drain(server: RouterServer, within: float, hurry: asyncio.Event) -> None:
    """Let running requests end, for so long and until `hurry` is set."""
    event(_logger, logging.INFO, "router stops, running requests go on", seconds=within)
    async with asyncio.TaskGroup() as group:
        draining = group.create_task(server.drain(within), name="drain")
        hurrying = group.create_task(hurry.wait(), name="second-signal")
        await asyncio.wait((draining, hurrying), return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        hurrying.cancel()
    event(
        _logger, logging.INFO, "router stopped", cut=draining.result() if not draining.cancelled() else "all that ran"
    )


def _client_tls(settings: RouterSettings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:
        raise StartError(f"{settings.tls_certificate} and {settings.tls_key}: {error}; give PEM files") from error
    return context


def _engine_tls(authority: Path | None) -> ssl.SSLContext | None:
    if authority is None:
        return None
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise StartError(f"{authority}: {error}; give a PEM file") from error


def _ejection(settings: DataPathSettings) -> EjectionPolicy:
    return EjectionPolicy(settings.eject_after, settings.eject_time, settings.longest_ejection)


def _show_endpoints(directory: LiveDirectory) -> None:
    directory_metrics.EJECTED.set_function(directory.ejected)
    for phase in Phase:
        directory_metrics.ENDPOINTS.labels(phase.value).set_function(partial(_count, directory, phase))


def _count(directory: LiveDirectory, phase: Phase) -> float:
    return sum(endpoint.phase is phase for endpoint in directory.endpoints())


def _first_of(errors: BaseExceptionGroup[ConfigurationError]) -> StartError:
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return StartError(str(first))
