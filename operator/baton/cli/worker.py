"""The program of one router worker, which the supervisor of `baton router --workers` starts. No command of its own."""

from __future__ import annotations

import logging
import os
import pickle
import sys
from typing import TYPE_CHECKING

import uvloop

from baton.cli.running import run_long
from baton.router.config_file import ConfigFileError
from baton.router.start_error import StartError
from baton.router.worker import CANNOT_START, serve
from baton.telemetry import logs

if TYPE_CHECKING:
    from baton.router.worker import Orders

_logger = logging.getLogger(__name__)


def main() -> None:
    """Read the orders from standard input and serve."""
    orders: Orders = pickle.load(sys.stdin.buffer)  # noqa: S301 # the supervisor wrote it
    logs.configure(orders.program.log_level, orders.program.log_format)
    try:
        run_long(serve(orders), loop_factory=uvloop.new_event_loop)
    except (StartError, ConfigFileError) as error:
        logs.event(_logger, logging.ERROR, "worker %s cannot start: %s", orders.number, error)
        # Nothing is left to close, and a socket's destructor must not hide the exit code.
        os._exit(CANNOT_START)


if __name__ == "__main__":
    main()
