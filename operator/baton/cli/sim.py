"""baton sim: parse the options of the simulated engines, run them, print when they are ready."""

from __future__ import annotations

import asyncio

import click
import uvloop

from baton.sim.listening import PortUnavailableError
from baton.sim.server import SimServer, serve
from baton.sim.settings import SimSettings, format_ports, parse_ports
from baton.telemetry import logs

_DEFAULTS = SimSettings()
_LOG_LEVELS = ("debug", "info", "warning", "error")


def _read_ports(_context: click.Context, _option: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        return parse_ports(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command("sim", context_settings={"show_default": True})
@click.option("--host", default=_DEFAULTS.host, help="Address to listen on; 0.0.0.0 answers for all of the machine's.")
@click.option(
    "--ports",
    default=format_ports(_DEFAULTS.ports),
    callback=_read_ports,
    metavar="PORTS",
    help="Ports to listen on, such as 7100-7115,8000. Each address and port is an engine of its own.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=_DEFAULTS.models,
    metavar="NAME",
    help="Served model name; repeat it for several. * accepts any name.",
)
@click.option(
    "--tokens-per-second",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.tokens_per_second,
    help="Decode rate of each request; 0 is as fast as possible.",
)
@click.option(
    "--prefill-tokens-per-second",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.prefill_tokens_per_second,
    help="Prompt tokens an engine computes; 0 is as fast as possible.",
)
@click.option("--seed", type=int, default=_DEFAULTS.seed, help="Equal seeds give equal answers.")
@click.option(
    "--kv-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=_DEFAULTS.kv_timeout,
    metavar="SECONDS",
    help="How long a prefill holds KV that no decode pulls.",
)
@click.option(
    "--max-model-len",
    type=click.IntRange(min=1),
    default=_DEFAULTS.max_model_len,
    help="Tokens of prompt and answer together.",
)
@click.option(
    "--kv-blocks",
    type=click.IntRange(min=1),
    default=_DEFAULTS.kv_blocks,
    help=f"KV capacity of an engine, in blocks of {_DEFAULTS.block_size} tokens.",
)
@click.option(
    "--eos-rate",
    type=click.FloatRange(min=0, max=1),
    default=_DEFAULTS.eos_rate,
    help="Chance of each token to end the answer before max_tokens; min_tokens forbids it.",
)
@click.option("--log-level", type=click.Choice(_LOG_LEVELS), default="info")
def sim(
    *,
    host: str,
    ports: tuple[int, ...],
    models: tuple[str, ...],
    tokens_per_second: float,
    prefill_tokens_per_second: float,
    seed: int,
    kv_timeout: float,
    max_model_len: int,
    kv_blocks: int,
    eos_rate: float,
    log_level: str,
) -> None:
    """Run simulated inference engines: the OpenAI API and the KV hand-over between prefill and decode."""
    logs.configure(log_level)
    settings = SimSettings(
        host=host,
        ports=ports,
        models=models,
        tokens_per_second=tokens_per_second,
        prefill_tokens_per_second=prefill_tokens_per_second,
        seed=seed,
        kv_timeout=kv_timeout,
        max_model_len=max_model_len,
        kv_blocks=kv_blocks,
        eos_rate=eos_rate,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, on_ready=_report_ready))
    except PortUnavailableError as error:
        raise click.ClickException(str(error)) from error


def _report_ready(server: SimServer) -> None:
    click.echo(f"sim: listening on {server.settings.host} port {format_ports(server.ports)}", err=True)
