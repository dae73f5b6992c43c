"""Wires the operator process together and decides the order in which its parts start and stop."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import socket
import uuid
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from baton.kube.client import Client
from baton.kube.clock import SystemClock
from baton.kube.connect import find_access
from baton.kube.events import EventRecorder
from baton.kube.leadership import Alone, Elector
from baton.manager.kopf_glue import KopfThread
from baton.manager.listing import listings
from baton.manager.probes import Probes
from baton.manager.webhooks import webhook_of
from baton.manager.wiring import caches_of, controllers_of
from baton.telemetry.logs import event
from baton.telemetry.loop_lag import measure_loop_lag

if TYPE_CHECKING:
    from baton.kube.leadership import Leadership
    from baton.manager.settings import OperatorSettings
    from baton.manager.webhooks import Webhook
    from baton.manager.wiring import Caches

_logger = logging.getLogger(__name__)

_GRACE = 5.0
"""Seconds that running reconciles may take to finish at exit."""
_DISCOVERY_LAG = 1.0
"""Seconds by which the API server's discovery, from which kopf learns of kinds, may follow new CRDs."""
_SILENCE = 300.0
"""Seconds without a word from the API server after which the process asks to be restarted."""


class OperatorError(Exception):
    """The operator cannot start, or cannot go on. The message is for people and names the cure."""


def _probes(caches: Caches, kopf_thread: KopfThread, webhook: Webhook | None) -> Probes:
    loop = asyncio.get_running_loop()

    def silent() -> str:
        ages = {
            reflector.name: loop.time() - reflector.heard
            for reflector in caches.reflectors
            if reflector.heard is not None
        }
        quiet = [f"{name} heard nothing for {age:.0f} s" for name, age in ages.items() if age > _SILENCE]
        return ", ".join(quiet)

    def unsynced() -> str:
        waiting = [reflector.name for reflector in caches.reflectors if not reflector.synced.is_set()]
        waiting += [kind.plural for kind, store in caches.kinds.items() if not store.synced.is_set()]
        return f"not listed yet: {', '.join(waiting)}" if waiting else ""

    def kopf_ended() -> str:
        return f"stopped: {kopf_thread.error or 'by request'}" if kopf_thread.ended.is_set() else ""

    ready = {"caches": unsynced, "kopf": kopf_ended}
    if webhook is not None:
        ready["webhook"] = webhook.problem
    return Probes(live={"watch": silent, "kopf": kopf_ended}, ready=ready)


async def run(settings: OperatorSettings) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: there is no usable kubeconfig or service account.
        OperatorError: the probe port is taken, or kopf stopped by itself, of which a restart is the cure.

    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    access = await find_access(settings.kubeconfig, settings.context)
    await access.authorization.header()
    async with AsyncExitStack() as resources:
        leadership: Leadership = Alone()
        if settings.lease:
            client = await resources.enter_async_context(Client(access, connections=1))
            leadership = Elector(client, lease=settings.lease_key, identity=_identity(), clock=SystemClock())
        client = Client(access, connections=settings.connections, may_write=leadership.is_leading)
        await _run(await resources.enter_async_context(client), settings, leadership, stop)


async def _run(client: Client, settings: OperatorSettings, leadership: Leadership, stop: asyncio.Event) -> None:
    caches = caches_of(client)
    kopf_thread = KopfThread(
        {resource: store.offer for resource, store in caches.kinds.items()},
        find_access=partial(find_access, settings.kubeconfig, settings.context),
    )
    webhook = webhook_of(settings, client, clock=SystemClock())
    probes = _probes(caches, kopf_thread, webhook)
    await _serve_probes(probes, settings)
    try:
        async with asyncio.TaskGroup() as group:
            background = [
                *(group.create_task(source.run(), name=f"reflector-{source.name}") for source in caches.reflectors),
                *(group.create_task(kind.run(), name=f"optional-{kind.name}") for kind in caches.optional(settings)),
                *(group.create_task(entry.run()) for entry in listings(client, caches.kinds, random=random.random)),
                group.create_task(measure_loop_lag(), name="loop-lag"),
                group.create_task(_start(kopf_thread, caches), name="kopf"),
                group.create_task(_stop_with(kopf_thread, stop), name="stop"),
            ]
            if webhook is not None:
                background.append(group.create_task(webhook.run(), name="webhook"))
            await leadership.run(partial(_work, client, caches, settings, stop), stop)
            for task in background:
                task.cancel()
    finally:
        await kopf_thread.stop()
        await probes.close()
    if kopf_thread.error is not None:
        raise OperatorError(f"kopf stopped by itself: {kopf_thread.error!r}") from kopf_thread.error


async def _work(client: Client, caches: Caches, settings: OperatorSettings, stop: asyncio.Event) -> None:
    """Reconcile until `stop`, then finish what is under way; cancelled when another operator may lead."""
    recorder = EventRecorder(client, clock=SystemClock())
    controllers = controllers_of(client, caches, recorder, settings)
    try:
        async with asyncio.TaskGroup() as group:
            recording = group.create_task(recorder.run(), name="events")
            working = [group.create_task(controller.run(), name=controller.name) for controller in controllers]
            await stop.wait()
            for controller in controllers:
                controller.close()
            await asyncio.wait(working, timeout=_GRACE)
            for task in (recording, *working):
                task.cancel()
    finally:
        for controller in controllers:
            controller.close()


async def _stop_with(kopf_thread: KopfThread, stop: asyncio.Event) -> None:
    """Stop everything when kopf has ended, and let kopf end when everything else does."""
    await _first(stop, kopf_thread.ended)
    event(_logger, logging.INFO, "operator stops")
    kopf_thread.ask_to_stop()
    stop.set()


def _identity() -> str:
    """Return a name that no other process has, nor this pod's next one."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


async def _start(kopf_thread: KopfThread, caches: Caches) -> None:
    """Start kopf once all kinds were listed: it takes no notice of CRDs that come later than itself."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for store in caches.kinds.values():
        await store.synced.wait()
    await asyncio.sleep(min(loop.time() - begun, _DISCOVERY_LAG))
    kopf_thread.start()


async def _serve_probes(probes: Probes, settings: OperatorSettings) -> None:
    try:
        port = await probes.start(settings.probe_host, settings.probe_port)
    except OSError as error:
        await probes.close()
        message = f"cannot listen on {settings.probe_host} port {settings.probe_port}: {error.strerror or error}"
        raise OperatorError(f"{message}; choose another --probe-port or --probe-host") from error
    event(_logger, logging.INFO, "operator started", probes=f"http://{settings.probe_host}:{port}")


async def _first(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(entry.wait()) for entry in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
