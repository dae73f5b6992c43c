from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import baton
from baton.cli.main import main


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"baton, version {baton.__version__}\n"


def test_without_a_command_the_commands_are_listed() -> None:
    text = CliRunner().invoke(main, ["-h"]).output
    commands = text.split("Commands:\n")[1].split()
    assert {"operator", "router", "render", "plan", "status", "crds", "sim", "dev"} <= set(commands)


@pytest.mark.parametrize(
    "command",
    [[name] for name in main.list_commands(click.Context(main))]
    + [["dev", name] for name in ("up", "down", "status", "demo")],
)
def test_every_command_says_what_it_does(command: list[str]) -> None:
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0
    assert f"Usage: main {' '.join(command)} " in result.output


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["conduct"])
    assert result.exit_code == 2
    assert "No such command 'conduct'" in result.output


def test_the_router_is_started_without_the_libraries_of_the_operator() -> None:
    code = "import sys; import baton.cli.main as m; m.main.get_command(None, 'router'); print('kopf' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
