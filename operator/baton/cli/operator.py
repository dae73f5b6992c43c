"""`baton operator`: run the reconcilers."""

from __future__ import annotations

import asyncio
import os

import click

from baton.kube.errors import ConfigurationError
from baton.manager.settings import OperatorSettings
from baton.telemetry import logs

_DEFAULTS = OperatorSettings()


@click.command(context_settings={"auto_envvar_prefix": "BATON_OPERATOR", "show_default": True})
@click.option(
    "--kubeconfig", type=click.Path(dir_okay=False), help="Default: service account, $KUBECONFIG, ~/.kube/config."
)
@click.option("--context", help="Context of the kubeconfig. Default: its current one.")
@click.option("--probe-host", default=_DEFAULTS.probe_host, help="Address of /healthz, /readyz and /metrics.")
@click.option("--probe-port", default=_DEFAULTS.probe_port, help="Port of the same; 0 takes a free one.")
@click.option(
    "--workers", default=_DEFAULTS.workers, type=click.IntRange(1), help="Objects of a kind reconciled at once."
)
@click.option(
    "--connections", default=_DEFAULTS.connections, type=click.IntRange(1), help="Calls to the API server at once."
)
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", default="text", type=click.Choice(["text", "json"]))
def operator(*, log_level: str, log_format: str, **options: object) -> None:
    """Run the operator: ModelServings become pods, ModelRoutes become router configuration."""
    logs.configure(log_level, "json" if log_format == "json" else "text")
    settings = OperatorSettings(**options)  # type: ignore[arg-type] # click has checked the types
    if settings.kubeconfig is not None:
        os.environ["KUBECONFIG"] = settings.kubeconfig  # kopf's login reads nothing else
    import uvloop  # noqa: PLC0415

    from baton.manager import app  # noqa: PLC0415 # kopf takes a second to import; --help need not wait

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(app.run(settings))
    except (ConfigurationError, OSError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
