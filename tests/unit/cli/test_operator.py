from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from baton.cli.operator import operator

if TYPE_CHECKING:
    from pathlib import Path


def test_the_help_names_options_defaults_and_environment() -> None:
    text = CliRunner().invoke(operator, ["--help"]).output
    assert "--probe-port" in text
    assert "[default: 8081" in text


def test_the_help_does_not_wait_for_kopf() -> None:
    script = "import sys; import baton.cli.main; sys.exit('kopf' in sys.modules or 'kubernetes_asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "0 is not in the range x>=1"),
        (["--connections", "none"], "'none' is not a valid integer"),
        (["--log-level", "loud"], "'loud' is not one of"),
        (["--probe-port", "70000"], "70000 is not in the range 0<=x<=65535"),
        (["--webhook-port", "9443"], "--webhook-port needs --webhook-namespace"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(operator, arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_a_missing_kubeconfig_is_one_clear_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "baton",
        "operator",
        "--kubeconfig",
        str(tmp_path / "nothing"),
        "--probe-port",
        "0",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: kubeconfig {tmp_path}/nothing: ")
