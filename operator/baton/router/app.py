"""Wires one serving process of the router together and decides the order in which its parts start and stop."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from baton.api.endpoints import Phase
from baton.kube.errors import ConfigurationError
from baton.router.administration import Administration
from baton.router.certificates import ListenerCertificate, engine_context
from baton.router.config_file import ConfigFile
from baton.router.engine_client import EngineClient
from baton.router.listening import open_sockets, place_of
from baton.router.live_directory import LiveDirectory
from baton.router.server import RouterServer
from baton.router.signals import Signals
from baton.router.start_error import StartError, first_start_error
from baton.routing.ejection import EjectionPolicy
from baton.telemetry import directory_metrics
from baton.telemetry.logs import event
from baton.telemetry.loop_lag import measure_loop_lag

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable, Coroutine, Mapping
    from typing import Any

    from baton.router.data_path_settings import DataPathSettings
    from baton.router.settings import RouterSettings

    Forever = Callable[[], Coroutine[Any, Any, None]]

_logger = logging.getLogger(__name__)

_LAG_INTERVAL = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Places:
    """Where a process listens: called once each, when it is ready to. `name` is what the log calls the process."""

    name: str
    admin: Callable[[], Awaitable[list[socket.socket]]]
    public: Callable[[], Awaitable[list[socket.socket]]]


async def run(settings: RouterSettings) -> None:
    """Run the router until SIGTERM or SIGINT, then finish what is running; a second signal cuts it.

    Raises:
        StartError: a port is taken, a file cannot be used, or nothing tells how to reach Kubernetes.
        ConfigFileError: the configuration file cannot be used.

    """
    places = Places(
        "router",
        admin=partial(open_sockets, settings.admin_host, settings.admin_port, option="--admin-port"),
        public=partial(open_sockets, settings.host, settings.port, option="--port"),
    )
    await serve(settings, places, Signals())


async def serve(settings: RouterSettings, places: Places, signals: Signals) -> None:
    """Serve at these places until the signals say to stop. Raises as `run` does."""
    directory = LiveDirectory(random.random, ejection=_ejection(settings.data_path))
    _show_endpoints(directory)
    async with AsyncExitStack() as resources:
        engine_tls = engine_context(settings.engine_authority)
        certificate = _listener_certificate(settings, signals)
        administration, follow = await _source(settings, directory, resources, signals=signals, engine_tls=engine_tls)
        server = RouterServer(
            settings.data_path,
            directory,
            engine_tls=engine_tls,
            administration=administration,
            metaserver_host=settings.metaserver_host,
            metaserver_port=settings.metaserver_port,
        )
        resources.push_async_callback(server.close)
        await _listen(server, places, tls=certificate.context if certificate is not None else None)
        try:
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(follow(), name="configuration"),
                    group.create_task(measure_loop_lag(interval=_LAG_INTERVAL), name="loop-lag"),
                ]
                if certificate is not None:
                    background.append(group.create_task(certificate.follow(), name="certificate"))
                await signals.stop.wait()
                await _drain(server, settings.drain_timeout, signals.hurry)
                for task in background:
                    task.cancel()
        except* ConfigurationError as errors:
            raise first_start_error(errors) from None


async def _source(
    settings: RouterSettings,
    directory: LiveDirectory,
    resources: AsyncExitStack,
    *,
    signals: Signals,
    engine_tls: ssl.SSLContext | None,
) -> tuple[Administration | None, Forever]:
    """Return what keeps the directory up to date for ever, and what people change it by."""
    if settings.engines:
        client = EngineClient(tls=engine_tls)
        resources.callback(client.close)

        async def loads() -> Mapping[str, int]:
            return directory.loads()

        administration = Administration.of(
            settings, client, publish=lambda document: directory.publish([document]), loads=loads
        )
        directory.set_ready()
        return administration, administration.engines.follow
    if settings.config is not None:
        file = ConfigFile(settings.config, directory)
        await file.load()
        signals.on_reload(file.reload)
        return None, file.follow
    return None, await _kubernetes(settings, directory, resources)


async def _kubernetes(settings: RouterSettings, directory: LiveDirectory, resources: AsyncExitStack) -> Forever:
    # A router without Kubernetes starts in half the time, and with less memory, without these.
    from baton.kube.connect import connect  # noqa: PLC0415
    from baton.router.watch import ConfigWatch  # noqa: PLC0415

    try:
        client = await resources.enter_async_context(await connect(settings.kubeconfig, settings.context))
    except ConfigurationError as error:
        raise StartError(
            f"{error}; or run without Kubernetes: --config FILE, or --prefill URL and --decode URL"
        ) from error
    return ConfigWatch(client, directory, namespaces=settings.namespaces).run


def _listener_certificate(settings: RouterSettings, signals: Signals) -> ListenerCertificate | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    certificate = ListenerCertificate(settings.tls_certificate, settings.tls_key)
    signals.on_reload(certificate.reload)
    return certificate


async def _listen(server: RouterServer, places: Places, *, tls: ssl.SSLContext | None) -> None:
    admin = await places.admin()
    admin_place = place_of(admin)
    await server.serve_admin(admin)
    public = await places.public()
    clients_place = place_of(public)
    await server.serve(public, tls=tls)
    event(_logger, logging.INFO, f"{places.name} started", clients=clients_place, admin=admin_place)


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
        _logger, logging.INFO, "router stopped", cut=await server.cut() if draining.cancelled() else draining.result()
    )


def _ejection(settings: DataPathSettings) -> EjectionPolicy:
    return EjectionPolicy(settings.eject_after, settings.eject_time, settings.longest_ejection)


def _show_endpoints(directory: LiveDirectory) -> None:
    directory_metrics.EJECTED.set_function(directory.ejected)
    for phase in Phase:
        directory_metrics.ENDPOINTS.labels(phase.value).set_function(partial(_count, directory, phase))


def _count(directory: LiveDirectory, phase: Phase) -> float:
    return sum(endpoint.phase is phase for endpoint in directory.endpoints())
