"""baton dev: start, stop and show a control plane for development.

It parses and prints; baton.dev does the work.
"""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from baton.cli.demo import demo
from baton.dev.kind import KindControlPlane
from baton.dev.kubeconfig import KubeconfigControlPlane
from baton.dev.local import DEFAULT_NODES, MAXIMUM_NODES, LocalControlPlane
from baton.dev.progress import ConsoleReport
from baton.dev.provider import DEFAULT_NAME, ControlPlane, ControlPlaneError, Provider, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which control plane is meant."""
    for option in (
        click.option(
            "--name", default=DEFAULT_NAME, show_default=True, help="Which one: several can run side by side."
        ),
        click.option(
            "--kubeconfig",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Use the cluster of this file: --provider kubeconfig.",
        ),
        click.option(
            "--provider",
            type=click.Choice(Provider, case_sensitive=False),
            help="local: real Kubernetes programs, simulated nodes and pods (default). kind: needs Docker.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def dev() -> None:
    """Run a Kubernetes control plane on this machine, without root and containers."""


dev.add_command(demo)


@dev.command()
@_options
@click.option(
    "--nodes",
    type=click.IntRange(0, MAXIMUM_NODES),
    default=DEFAULT_NODES,
    show_default=True,
    help="Simulated nodes of 16 NPUs (local only).",
)
def up(provider: Provider | None, kubeconfig: Path | None, name: str, nodes: int) -> None:
    """Start it and wait until pods run. The first start builds it, which takes some minutes."""
    # Stop what was started also when we are asked to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with _readable_errors():
        control_plane = select_control_plane(provider, kubeconfig=kubeconfig, name=name, nodes=nodes)
        control_plane.up()
        click.echo(f"export KUBECONFIG={control_plane.kubeconfig}")
        click.echo(f"kubectl: {control_plane.kubectl}")
        if control_plane.simulates_pods:
            click.echo(f"Pods are simulated, their addresses are in {control_plane.pod_address_range}.")


@dev.command()
@_options
def down(provider: Provider | None, kubeconfig: Path | None, name: str) -> None:
    """Stop it and delete its data. Does nothing when it is down."""
    with _readable_errors():
        select_control_plane(provider, kubeconfig=kubeconfig, name=name).down()


@dev.command()
@_options
def status(provider: Provider | None, kubeconfig: Path | None, name: str) -> None:
    """Show its programs and nodes. The exit code is 1 when it is not up."""
    with _readable_errors():
        control_plane = select_control_plane(provider, kubeconfig=kubeconfig, name=name)
        found = control_plane.status()
        click.echo(describe(name, control_plane, found))
    sys.exit(0 if found.is_up else 1)


def select_control_plane(
    provider: Provider | None, *, kubeconfig: Path | None, name: str, nodes: int = DEFAULT_NODES
) -> ControlPlane:
    """Return the control plane that the options mean. A kubeconfig alone means that provider; the default is local."""
    report = ConsoleReport()
    match provider or (Provider.KUBECONFIG if kubeconfig else Provider.LOCAL):
        case Provider.KUBECONFIG if kubeconfig:
            return KubeconfigControlPlane(kubeconfig, report=report)
        case Provider.KUBECONFIG:
            raise ControlPlaneError("--provider kubeconfig needs --kubeconfig FILE")
        case other if kubeconfig:
            raise ControlPlaneError(f"--kubeconfig is for --provider kubeconfig, not for {other}")
        case Provider.KIND:
            return KindControlPlane(name=name, report=report)
        case Provider.LOCAL:
            return LocalControlPlane(name=name, nodes=nodes, report=report)


def describe(name: str, control_plane: ControlPlane, status: Status) -> str:
    """Write what `baton dev status` prints."""
    if not status.is_up and not status.components:
        return f"control plane {name} is down"
    lines = [f"control plane {name} is {'up' if status.is_up else 'broken, baton dev up starts it anew'}"]
    lines += [
        f"  {component.name:24} {'running' if component.is_running else 'GONE'}, pid {component.pid}"
        for component in status.components
    ]
    ready = sum(node.is_ready for node in status.nodes)
    lines += [
        f"nodes: {ready} of {len(status.nodes)} Ready",
        f"kubeconfig: {control_plane.kubeconfig}",
        f"kubectl: {control_plane.kubectl}",
    ]
    return "\n".join(lines)


@contextmanager
def _readable_errors() -> Iterator[None]:
    try:
        yield
    except ControlPlaneError as error:
        raise click.ClickException(str(error)) from None
