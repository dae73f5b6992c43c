from __future__ import annotations

import dataclasses

import pytest
from click.testing import CliRunner

from baton.cli.router import DATA_PATH_HELP, router
from baton.router.data_path_settings import DataPathSettings


def test_every_limit_of_the_data_path_is_an_option() -> None:
    assert list(DATA_PATH_HELP) == [field.name for field in dataclasses.fields(DataPathSettings)]


def test_the_help_lists_the_limits_last() -> None:
    text = CliRunner().invoke(router, ["--help"]).output
    options, limits = text.split("\nLimits:\n")
    assert "--config FILE" in options
    assert "BATON_ROUTER_ADMIN_PORT" in options
    assert "--stall-time SECONDS" in limits
    assert "--hide-endpoints" in limits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "70000 is not in the range 0<=x<=65535"),
        (["--max-connections", "-1"], "-1 is not 0 or more"),
        (["--stall-time", "nan"], "nan is not 0 or more"),
        (["--config", "f", "--namespace", "ns"], "leave out kubeconfig, context and namespace"),
        (["--prefill", "h:1"], "give engines for --prefill and for --decode"),
        (["--prefill", "h:1", "--decode", "h:2", "--url", "h:3"], "give engines for --prefill and for --decode"),
        (["--prefill", "h:1", "--decode", "h:1"], "h:1 is listed more than once"),
        (["--url", "h"], "'h' has no port"),
        (["--url", "h:1", "--config", "f"], "engines replace configuration file and Kubernetes"),
        (["--model", "m"], "a model name belongs to engines"),
        (["--url", "h:1", "--connector", "x"], "'x' is not one of"),
        (["--tls-key", "f"], "a TLS certificate and its key go together"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(router, arguments)
    assert result.exit_code == 2
    assert message in result.output
