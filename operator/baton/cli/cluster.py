"""What the subcommands that look into a cluster share: their options, and turning expected errors into one line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from baton.kube.connect import connect
from baton.kube.errors import ApiError, ConfigurationError, NotFound

if TYPE_CHECKING:
    from baton.kube.client import Client

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., object])

_OPTIONS = (
    click.option("-n", "--namespace", help="Namespace to look into. Default: the context's, or default."),
    click.option("--context", help="Context of the kubeconfig. Default: its current one."),
    click.option("--kubeconfig", type=click.Path(dir_okay=False), help="Default: $KUBECONFIG, ~/.kube/config."),
)


def cluster_options(command: Command) -> Command:
    """Add --kubeconfig, --context and --namespace to a command."""
    for option in _OPTIONS:
        command = option(command)
    return command


def in_cluster(kubeconfig: str | None, context: str | None, work: Callable[[Client], Awaitable[T]]) -> T:
    """Run work with a client. Raises click.ClickException for everything a user can mend.

    The work expects that single objects may be missing: what it does not find are the kinds themselves.
    """

    async def run() -> T:
        async with await connect(kubeconfig, context) as client:
            return await work(client)

    try:
        return asyncio.run(run())
    except NotFound as error:
        raise click.ClickException(f"{error}; install the CRDs: baton crds | kubectl apply -f -") from error
    except (ApiError, ConfigurationError) as error:
        raise click.ClickException(str(error)) from error
