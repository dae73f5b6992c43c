"""The command `vllm` of the simulated engine's image: what launch scripts run in place of the real one.

A module of its own without click, because a pod starts up to sixteen of these at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import uuid
from typing import TYPE_CHECKING, Final

import uvloop

import baton
from baton.sim.command_line import CommandLineError, format_help
from baton.sim.data_parallel import GroupError
from baton.sim.launch import read_launch
from baton.sim.listening import PortUnavailableError
from baton.sim.rank import find_address, run_rank
from baton.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_USAGE: Final = """\
usage: vllm [-h] [-v] serve [model_tag] [options]

Simulated by Baton: no weights, no accelerator, real ports. vllm serve --help lists the options.

Environment of the simulation:
  BATON_SIM_LOAD_SECONDS               seconds until the engine is ready (0)
  BATON_SIM_TOKENS_PER_SECOND          decode rate of each request (0: as fast as possible)
  BATON_SIM_PREFILL_TOKENS_PER_SECOND  prompt tokens computed (0: as fast as possible)
  BATON_SIM_EOS_RATE                   chance of each token to end the answer (0)
  BATON_SIM_KV_BLOCKS                  KV blocks of the engine (enough for --max-model-len)
"""
_LOG: Final = logging.getLogger(__name__)


def main() -> None:
    """Run the command with the arguments and the environment of this process."""
    sys.exit(run(sys.argv[1:], os.environ))


def run(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the command and return its exit status."""
    match words:
        case [] | ["-h" | "--help", *_]:
            print(_USAGE, end="")
        case ["-v" | "--version", *_]:
            print(f"{baton.__version__}+simulated")
        case ["serve", *options] if not {"-h", "--help"}.isdisjoint(options):
            print(format_help(), end="")
        case ["serve", *options]:
            return _serve(options, environment)
        case _:
            print(f"vllm: error: {words[0]!r} is not simulated; see vllm --help", file=sys.stderr)
            return 2
    return 0


def _serve(options: Sequence[str], environment: Mapping[str, str]) -> int:
    logs.configure("info")
    try:
        launch = read_launch(options, environment, find_address=find_address, unique=uuid.uuid4().hex)
        for warning in launch.warnings:
            _LOG.warning(warning)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run_rank(launch))
    except CommandLineError as error:
        print(error, file=sys.stderr)
    except PortUnavailableError as error:
        print(f"OSError: {error}", file=sys.stderr)
    except GroupError as error:
        print(f"RuntimeError: {error}", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    main()
