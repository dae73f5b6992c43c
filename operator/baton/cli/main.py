"""The command `baton`: mounts one subcommand a module, each imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module

import click

import baton

_COMMANDS = ("crds", "dev", "operator", "plan", "render", "router", "sim", "status")
"""Each is a function of its own name in a module of that name beside this one."""


class _Commands(click.Group):
    """Imports what runs only: the operator's libraries would double the router's memory and each command's start."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 # click's signature
        """Return the names, for the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 # click's signature
        """Import the command, None when there is no such one."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"baton.cli.{cmd_name}"), cmd_name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(baton.__version__, prog_name="baton")
def main() -> None:
    """Serve large language models with prefill and decode on different pods."""
