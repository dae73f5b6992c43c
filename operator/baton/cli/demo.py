"""`baton dev demo`: the main job on a local control plane, shown step by step."""

from __future__ import annotations

import signal
import sys

import click

from baton.dev.demo import NAME, Demo, Stage
from baton.dev.local import LocalControlPlane
from baton.dev.progress import ConsoleReport, Stopwatch
from baton.dev.provider import ControlPlaneError


@click.command
@click.option("--keep", is_flag=True, envvar="KEEP", help="Leave everything running and print how to use it.")
def demo(*, keep: bool) -> None:
    """Start a control plane, serve a model with prefill and decode apart, chat with it, rescale it, stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    watch = Stopwatch()
    report = ConsoleReport()
    control_plane = LocalControlPlane(name=NAME, report=report)
    stage = Stage(say=click.echo, write=lambda piece: click.echo(piece, nl=False))
    is_kept = False
    try:
        control_plane.down()
        click.echo("== A Kubernetes control plane on this machine, with simulated Ascend nodes")
        control_plane.up()
        shown = Demo(control_plane, stage=stage, report=report)
        shown.run()
        is_kept = keep
    except ControlPlaneError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; everything is stopped") from None
    finally:
        if not is_kept:
            control_plane.down()
    click.echo(_how_to_use(control_plane, shown.port) if is_kept else f"\nDone after {watch}; everything is stopped.")


def _how_to_use(control_plane: LocalControlPlane, port: int) -> str:
    return f"""
Everything keeps running:
  export KUBECONFIG={control_plane.kubeconfig}
  {control_plane.kubectl} get modelservings,modelroutes,pods
  curl -N http://127.0.0.1:{port}/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{{"model": "dsv4", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'
  logs: {control_plane.directory / "logs"}
Stop it with: .venv/bin/baton dev down --name {NAME}"""
