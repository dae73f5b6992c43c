"""`baton router`: run the router, with routes from Kubernetes or from a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, TypeVar, cast

import click

from baton.api.endpoints import Phase
from baton.api.router_config import RouterConfig, StaticEndpoints
from baton.api.traffic import KVConnectorType
from baton.cli.running import run_long
from baton.router.config_file import ConfigFileError
from baton.router.data_path_settings import DataPathSettings
from baton.router.settings import RouterSettings
from baton.router.start_error import StartError
from baton.routing.engine_list import read_engine
from baton.telemetry import logs

Command = TypeVar("Command", bound=Callable[..., object])

_Engines = tuple[StaticEndpoints, ...]

_DEFAULTS = RouterSettings()
_FILE = click.Path(dir_okay=False, path_type=Path)
_PORT = click.IntRange(0, 65535)

DATA_PATH_HELP: Final = {
    "max_connections": "Connections of clients.",
    "max_head_bytes": "Bytes of a request's target and headers.",
    "max_body_bytes": "Bytes of a request's body.",
    "head_time": "Seconds a client may take to send a request's headers.",
    "body_time": "Seconds a client may take to send a request's body.",
    "idle_time": "Seconds a client's connection may be idle between requests.",
    "write_time": "Seconds a client may take nothing of its answer.",
    "max_endpoint_connections": "Connections to one endpoint.",
    "max_idle_connections": "Idle connections kept to one endpoint.",
    "keep_time": "Seconds an idle connection to an endpoint is kept; less than the engine does.",
    "connect_time": "Seconds to connect to an endpoint.",
    "max_answer_bytes": "Bytes of an engine's answer that is kept whole.",
    "first_byte_time": "Seconds until a streamed answer begins, where the backend sets no timeout.",
    "answer_time": "Seconds until an answer that is not streamed, where the backend sets no timeout.",
    "prefill_time": "Seconds of one prefill.",
    "stall_time": "Seconds between two bytes of an answer.",
    "hand_over_time": "Seconds from prefill's answer to the first byte of decode's.",
    "reclaim_time": "Seconds of a call that frees KV which no decode has pulled.",
    "callback_time": "Seconds until a decode that is asked first (mooncake-layerwise) calls back for its prefill.",
    "max_replays": "Replays of one stream, beyond the retries of the backend.",
    "max_journal_bytes": "Bytes kept of a stream for its replay, packed.",
    "asks_for_token_ids": "Have engines tell token ids (vLLM's return_token_ids), which exact replays need.",
    "eject_after": "Failures in a row after which an endpoint is left out for a while; 0: never.",
    "eject_time": "Seconds an endpoint is left out the first time.",
    "longest_ejection": "Seconds an endpoint is left out at most.",
    "retry_after": "Seconds a client is told to wait when no endpoint is ready, or all are busy.",
    "names_endpoints": "Tell clients the endpoints in headers x-baton-prefill and x-baton-decode.",
    "has_public_metrics": "Serve /metrics on the clients' port too.",
    "drain_notice": "Seconds to accept connections after the stop signal; about 5 behind a Service.",
}


_SWITCHES: Final = {
    "asks_for_token_ids": "--ask-for-token-ids/--no-token-ids",
    "names_endpoints": "--name-endpoints/--hide-endpoints",
    "has_public_metrics": "--public-metrics/--no-public-metrics",
}


class _Command(click.Command):
    """Lists the limits of the data path, which few need, after the other options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Limits": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections["Limits" if parameter.name in DATA_PATH_HELP else "Options"].append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def _data_path_options(command: Command) -> Command:
    defaults = DataPathSettings()
    for name, text in reversed(DATA_PATH_HELP.items()):
        default = getattr(defaults, name)
        flags = _SWITCHES.get(name, f"--{name.replace('_', '-')}")
        option = click.option(
            flags,
            name,
            default=default,
            type=type(default),
            metavar=None if name in _SWITCHES else "SECONDS" if text.startswith("Seconds") else "NUMBER",
            callback=_refuse_negative,
            help=text,
        )
        command = option(command)
    return command


def _engine_option(flag: str, phase: Phase, text: str) -> Callable[[Command], Command]:
    def read(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[StaticEndpoints, ...]:
        texts = [text for value in values for text in value.split(",") if text.strip()]
        try:
            return tuple(read_engine(text, phase) for text in texts)
        except ValueError as error:
            raise click.BadParameter(f"{error}.") from error

    return click.option(flag, multiple=True, metavar="URL", callback=read, help=text)


def _refuse_negative(_context: click.Context, _option: click.Parameter, value: float) -> float:
    if not value >= 0:  # NaN too
        raise click.BadParameter(f"{value} is not 0 or more.")
    return value


def _print_schema(context: click.Context, _option: click.Parameter, is_wanted: bool) -> None:  # noqa: FBT001 # click's shape
    if is_wanted:
        click.echo(json.dumps(RouterConfig.model_json_schema(by_alias=True), indent=2))
        context.exit()


@click.command(
    "router",
    cls=_Command,
    context_settings={"auto_envvar_prefix": "BATON_ROUTER", "show_default": True, "max_content_width": 110},
)
@click.option("--host", default=_DEFAULTS.host, help="Address for clients.")
@click.option(
    "--port", default=_DEFAULTS.port, type=_PORT, metavar="PORT", help="Port for clients; 0 takes a free one."
)
@click.option("--admin-host", default=_DEFAULTS.admin_host, help="Address of /healthz, /readyz and /metrics.")
@click.option(
    "--admin-port",
    default=_DEFAULTS.admin_port,
    type=_PORT,
    metavar="PORT",
    help="Port of the same; 0 takes a free one.",
)
@_engine_option("--prefill", Phase.PREFILL, "An engine that prefills; may be repeated. No file, no Kubernetes then.")
@_engine_option("--decode", Phase.DECODE, "An engine that decodes; may be repeated.")
@_engine_option("--url", Phase.AGGREGATED, "An engine that does both, instead of the two above; may be repeated.")
@click.option(
    "--connector",
    type=click.Choice([kind.value for kind in KVConnectorType]),
    default=_DEFAULTS.connector.value,
    callback=lambda _context, _option, value: KVConnectorType(value),
    help="How KV goes from --prefill to --decode.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="Model that these engines serve; may be repeated. Default: any name is passed on to them.",
)
@click.option(
    "--config", type=_FILE, help="File with routes and endpoints, instead of Kubernetes. Changes are followed."
)
@click.option(
    "--config-schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON Schema of that file.",
)
@click.option(
    "--kubeconfig", type=click.Path(dir_okay=False), help="Default: service account, $KUBECONFIG, ~/.kube/config."
)
@click.option("--context", help="Context of the kubeconfig. Default: its current one.")
@click.option(
    "--namespace", "namespaces", multiple=True, help="Namespace of ModelRoutes; may be repeated. Default: all."
)
@click.option("--tls-certificate", type=_FILE, help="PEM file; clients speak HTTPS then.")
@click.option("--tls-key", type=_FILE, help="PEM file with the certificate's key.")
@click.option("--engine-authority", type=_FILE, help="PEM file to verify HTTPS engines by. Default: the system's.")
@click.option(
    "--workers",
    default=_DEFAULTS.workers,
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="Processes that share the clients' port.",
)
@click.option(
    "--metaserver-host",
    help="Address of this process for decode engines that call back (mooncake-layerwise). Default: the machine's.",
)
@click.option(
    "--metaserver-port",
    default=_DEFAULTS.metaserver_port,
    type=_PORT,
    metavar="PORT",
    help="First port tried for that; 0 takes a free one.",
)
@click.option(
    "--drain-timeout",
    default=_DEFAULTS.drain_timeout,
    metavar="SECONDS",
    callback=_refuse_negative,
    help="Seconds that running requests may go on after the stop signal.",
)
@_data_path_options
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", default="text", type=click.Choice(["text", "json"]))
def router(*, log_level: str, log_format: str, **options: object) -> None:
    """Run the router: take OpenAI requests, choose prefill and decode endpoints, and stream the answers.

    Every option can be set in the environment too: --admin-port is BATON_ROUTER_ADMIN_PORT.
    """
    logs.configure(log_level, "json" if log_format == "json" else "text")
    data_path = {name: options.pop(name) for name in DATA_PATH_HELP}
    engines = [engine for kind in ("prefill", "decode", "url") for engine in cast("_Engines", options.pop(kind))]
    try:
        settings = RouterSettings(
            data_path=DataPathSettings(**data_path),  # type: ignore[arg-type] # click has checked the types
            engines=tuple(engines),
            **options,  # type: ignore[arg-type] # as above
        )
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    try:
        _run(settings, log_level=log_level, log_format="json" if log_format == "json" else "text")
    except (StartError, ConfigFileError) as error:
        raise click.ClickException(str(error)) from error


def _run(settings: RouterSettings, *, log_level: str, log_format: Literal["text", "json"]) -> None:
    import uvloop  # noqa: PLC0415 # --help need not wait

    from baton.router import app, supervisor  # noqa: PLC0415
    from baton.router.worker import WorkerProgram  # noqa: PLC0415

    if settings.workers == 1:
        running = app.run(settings)
    else:
        command = (sys.executable, "-m", "baton.cli.worker")
        running = supervisor.run(settings, WorkerProgram(command, log_level, log_format))
    run_long(running, loop_factory=uvloop.new_event_loop)
