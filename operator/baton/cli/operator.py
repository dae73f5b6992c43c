"""`baton operator`: run the reconcilers."""

from __future__ import annotations

from pathlib import Path

import click

from baton.cli.running import run_long
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
@click.option(
    "--probe-port",
    default=_DEFAULTS.probe_port,
    type=click.IntRange(0, 65535),
    help="Port of the same; 0 takes a free one.",
)
@click.option(
    "--workers", default=_DEFAULTS.workers, type=click.IntRange(1), help="Objects of a kind reconciled at once."
)
@click.option(
    "--connections", default=_DEFAULTS.connections, type=click.IntRange(1), help="Calls to the API server at once."
)
@click.option(
    "--leader-worker-sets/--no-leader-worker-sets",
    default=_DEFAULTS.leader_worker_sets,
    help="Make ModelServings of LeaderWorkerSets. Their own controller must not run beside it.",
)
@click.option(
    "--lease",
    default="",
    show_default=False,
    metavar="NAMESPACE/NAME",
    help="Lease by which several operators agree on the one that acts. Default: this one always does.",
)
@click.option("--webhook-host", default=_DEFAULTS.webhook_host, help="Address of the admission webhook.")
@click.option(
    "--webhook-port",
    default=_DEFAULTS.webhook_port,
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Port of the same; 0 means no webhook.",
)
@click.option(
    "--webhook-certificate",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory with its tls.crt and tls.key. Without it the operator keeps a certificate by the next four.",
)
@click.option(
    "--webhook-namespace", default="", show_default=False, help="Namespace of the operator, for Secret and Service."
)
@click.option("--webhook-secret", default="", show_default=False, help="Secret to keep the certificate in.")
@click.option("--webhook-service", default="", show_default=False, help="Service that leads to the webhook.")
@click.option(
    "--webhook-configuration",
    default="",
    show_default=False,
    help="ValidatingWebhookConfiguration to write the certificate's authority into.",
)
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", default="text", type=click.Choice(["text", "json"]))
def operator(*, log_level: str, log_format: str, **options: object) -> None:
    """Run the operator: ModelServings become pods, ModelRoutes become router configuration."""
    logs.configure(log_level, "json" if log_format == "json" else "text")
    try:
        settings = OperatorSettings(**options)  # type: ignore[arg-type] # click has checked the types
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    from baton.manager import app  # noqa: PLC0415 # kopf takes a second to import; --help need not wait

    try:
        # Not uvloop: it sends what was written only after all else that is ready has run, and the question whether this
        # process leads is asked when it writes (baton.kube.transport).
        run_long(app.run(settings))
    except (ConfigurationError, app.OperatorError) as error:
        raise click.ClickException(str(error)) from error
