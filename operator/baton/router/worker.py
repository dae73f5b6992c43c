"""One of several serving processes: takes its orders and sockets from the supervisor that started it.

Opens no port itself. Its standard input brings the orders, then a byte whenever files are to be read anew, and its end
when the supervisor is no more: then the worker stops too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from baton.router import app
from baton.router.signals import Signals
from baton.telemetry import logs

if TYPE_CHECKING:
    from baton.router.settings import RouterSettings

CANNOT_START = 3
"""The exit code after an error that another start would meet again; the log has it."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerProgram:
    """How a worker is started: the command that reads its orders, pickled, from standard input; how it logs."""

    command: tuple[str, ...]
    log_level: str
    log_format: Literal["text", "json"]


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is to do. `public` and `admin` are descriptors of sockets that listen already."""

    number: int
    settings: RouterSettings
    public: tuple[int, ...]
    admin: int
    program: WorkerProgram


async def serve(orders: Orders) -> None:
    """Serve until the supervisor says to stop, or is gone. Raises as `baton.router.app.run` does."""
    signals = Signals()
    loop = asyncio.get_running_loop()
    stdin = sys.stdin.fileno()

    def listen() -> None:
        if os.read(stdin, 4096):
            signals.reload()
            return
        loop.remove_reader(stdin)
        logs.event(_logger, logging.ERROR, "supervisor is gone, worker stops", worker=orders.number)
        signals.tell()

    loop.add_reader(stdin, listen)
    places = app.Places(
        f"worker {orders.number}",
        admin=lambda: _inherited(orders.admin),
        public=lambda: _inherited(*orders.public),
    )
    await app.serve(orders.settings, places, signals)


async def _inherited(*descriptors: int) -> list[socket.socket]:
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]
