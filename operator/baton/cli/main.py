"""The command `baton`: mounts one subcommand a module and turns expected errors into one line and exit code 1."""

from __future__ import annotations

import click

import baton
from baton.cli.crds import crds
from baton.cli.demo import demo
from baton.cli.dev import dev
from baton.cli.operator import operator
from baton.cli.plan import plan
from baton.cli.render import render
from baton.cli.router import router
from baton.cli.sim import sim
from baton.cli.status import status


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(baton.__version__, prog_name="baton")
def main() -> None:
    """Serve large language models with prefill and decode on different pods."""


for command in (operator, router, render, plan, status, crds, sim, dev):
    main.add_command(command)
dev.add_command(demo)
